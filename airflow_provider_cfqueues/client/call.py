"""
One REST call as a value: what is asked, how the answer is read, and when it may be asked again.

No socket, no clock, no Airflow: sync and async clients carry these values and decide nothing.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import GeneratorType
from typing import Any, Generic, TypeVar, cast

from airflow_provider_cfqueues import exceptions as errors
from airflow_provider_cfqueues.bodies import decode_json, encode_json
from airflow_provider_cfqueues.texts import printable

log = logging.getLogger(__name__)

T = TypeVar("T")

BYTES_AT_ONCE = 250_000
"""Reading takes about a millisecond for so much: an event loop gets its turn after it."""
MAX_ANSWER_BYTES = 80_000_000
"""A hundred messages of 128 KB, each character of them an escape of six bytes, are 77 MB."""

LONGEST_RETRY_AFTER = 14 * 86_400.0
"""Seconds; no message is kept for longer, and what is far beyond is no time that Python can reckon with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """
    What came back over the wire.

    :param status: the HTTP status.
    :param headers: the headers, names in lower case.
    :param content: the body.
    :param sent_at: when the request was sent (UTC).
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    sent_at: datetime


@dataclass(kw_only=True, slots=True)
class Exchange:
    """One request while it is under way: its answer once there is one, and the result once that is read."""

    answer: Answer | None = None
    result: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """The parsed answer of a successful call: ``result``, and what stands around it."""

    result: Any
    messages: list[str]
    result_info: Mapping[str, Any]
    sent_at: datetime
    repeated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Generic[T]):
    """
    One REST call.

    :param operation: what it does in one word, for metrics and traces.
    :param name: what it does, for errors and logs.
    :param method: the HTTP method.
    :param path: below the base URL; ``{account_id}`` is filled in by the client.
    :param read: turns the envelope of a success into the result; a generator may yield in between, see :meth:`reading`.
    :param queue: ID of the queue concerned.
    :param params: the query.
    :param payload: the JSON body.
    :param encode: turns the payload into bytes.
    :param repeat: whether a failure that may pass is repeated at all.
    :param repeat_ambiguous: whether it is also repeated where the failed request may have been applied.
    :param repeat_also: errors that pass in this call, though not in others.
    """

    operation: str
    name: str
    method: str
    path: str
    read: Callable[[Envelope], T | Generator[None, None, T]]
    queue: str | None = None
    params: Mapping[str, str | int] = field(default_factory=dict)
    payload: Any = None
    encode: Callable[[Any], bytes] = encode_json
    repeat: bool = True
    repeat_ambiguous: bool = True
    repeat_also: tuple[type[errors.CloudflareQueuesError], ...] = ()

    def content(self) -> bytes | None:
        """Return the body of the request."""
        return None if self.payload is None else self.encode(self.payload)

    def read_answer(self, answer: Answer, *, repeated: bool = False, secret: str = "") -> T:
        """
        Return the result that an answer holds, as :meth:`reading` does at the end.

        :param answer: the answer.
        :param repeated: whether an earlier try may have been applied.
        :param secret: what an excerpt of the answer must not show, in case that it echoes it.
        :raises ApiError: the subclass that fits, if the answer is not a success.
        """
        return exhaust(self.reading(answer, repeated=repeated, secret=secret))

    def reading(self, answer: Answer, *, repeated: bool = False, secret: str = "") -> Generator[None, None, T]:
        """
        Read the result that an answer holds. It yields now and then, so that an event loop can do something else.

        :param answer: the answer.
        :param repeated: whether an earlier try may have been applied.
        :param secret: what an excerpt of the answer must not show, in case that it echoes it.
        :raises ApiError: the subclass that fits, if the answer is not a success.
        """
        content = answer.content
        try:
            content = self._decompress(answer)
            document = decode_json(content)
        except (ValueError, RecursionError):
            document = None
        if len(content) > BYTES_AT_ONCE:
            yield
        body = document if isinstance(document, dict) else {}
        if not 200 <= answer.status < 300 or body.get("success") is not True:
            raise self._error(replace(answer, content=content), body, secret)
        try:
            result = self.read(
                Envelope(
                    result=body.get("result"),
                    messages=side_field(body, "messages", _texts) or [],
                    result_info=side_field(body, "result_info", dict) or {},
                    sent_at=answer.sent_at,
                    repeated=repeated,
                )
            )
            return (yield from result) if isinstance(result, GeneratorType) else cast("T", result)
        except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, OSError) as error:
            raise errors.MalformedResponseError(
                f"Could not {self.name}: the API's result has an unexpected shape ({type(error).__name__}: {error})",
                **self._facts(answer, {}),
            ) from error

    def _decompress(self, answer: Answer) -> bytes:
        """Return the body of an answer. A proxy may have compressed it, although the request did not ask for that."""
        content = answer.content
        for encoding in reversed(answer.headers.get("content-encoding", "").lower().split(",")):
            if encoding.strip() in ("gzip", "x-gzip", "deflate"):
                try:
                    content = zlib.decompressobj(zlib.MAX_WBITS | _BY_HEADER).decompress(content, MAX_ANSWER_BYTES + 1)
                except zlib.error as error:
                    raise ValueError("not compressed as it says") from error
            if len(content) > MAX_ANSWER_BYTES:
                raise errors.ResponseTooLargeError(
                    f"Could not {self.name}: the answer is larger than {MAX_ANSWER_BYTES // 1_000_000} MB",
                    **self._facts(answer, {}),
                )
        return content

    def may_repeat(self, error: errors.CloudflareQueuesError) -> bool:
        """
        Return whether this call may be tried again after an error.

        :param error: the error.
        """
        passes = error.repeatable or isinstance(error, self.repeat_also)
        return self.repeat and passes and (self.repeat_ambiguous or not error.maybe_applied)

    def _error(self, answer: Answer, body: Mapping[str, Any], secret: str) -> errors.ApiError:
        facts = self._facts(answer, body)
        said = (
            "; ".join(facts["messages"])
            or f"HTTP {answer.status}, and the answer was {_excerpt(answer.content, secret)}"
        )
        kind = _classify(answer.status, facts["codes"], is_envelope="success" in body)
        return kind(f"Could not {self.name}: {said}", **facts)

    def _facts(self, answer: Answer, body: Mapping[str, Any]) -> dict[str, Any]:
        listed = body.get("errors")
        problems = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        pointers = [item["source"].get("pointer") for item in problems if isinstance(item.get("source"), dict)]
        return {
            "queue": self.queue,
            "status": answer.status,
            "codes": [item["code"] for item in problems if isinstance(item.get("code"), int)],
            "messages": [text_of(item) for item in problems],
            "pointers": [printable(pointer) for pointer in pointers if pointer],
            "documentation_urls": [
                printable(item["documentation_url"]) for item in problems if item.get("documentation_url")
            ],
            "ray_id": printable(answer.headers.get("cf-ray", "")) or None,
            "retry_after": _retry_after(answer.headers),
        }


_BY_HEADER = 32
"""For zlib: whether it is gzip or deflate is known by its first bytes."""

_BY_CODE: dict[int, type[errors.ApiError]] = {
    6003: errors.AuthenticationError,
    7003: errors.NotFoundError,
    10104: errors.NotFoundError,
    10105: errors.NotFoundError,
    11000: errors.NotFoundError,
    11004: errors.AlreadyExistsError,
    11005: errors.InvalidRequestError,
    11006: errors.NotFoundError,
    11009: errors.AlreadyExistsError,
    11017: errors.InvalidRequestError,
    10251: errors.OverQuotaError,
    10252: errors.QueueDisabledError,
    10253: errors.OverQuotaError,
}
_BY_STATUS: dict[int, type[errors.ApiError]] = {
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    405: errors.PullNotEnabledError,
    408: errors.ServerError,
    409: errors.QueuePausedError,
    429: errors.RateLimitedError,
}


def _classify(status: int, codes: Sequence[int], *, is_envelope: bool) -> type[errors.ApiError]:
    """Status first, then code: live codes of 0 occur, and HTTP 429 is not always a rate limit."""
    if status >= 500:
        return errors.ServerError
    if status < 300 and is_envelope:
        return errors.RefusedError
    if status < 400:
        return errors.MalformedResponseError
    for code in codes:
        if code in _BY_CODE:
            return _BY_CODE[code]
    return _BY_STATUS.get(status, errors.InvalidRequestError)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After`` as seconds; where it is a date, against the answer's own ``Date``."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), LONGEST_RETRY_AFTER)
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, wait.total_seconds()), LONGEST_RETRY_AFTER)


def side_field(parent: Mapping[str, Any], name: str, read: Callable[[Any], T]) -> T | None:
    """
    Read a field that the call's result does not depend on. If it cannot be read, it is logged and counts as missing.

    A pull has leased its messages, and an ack has settled them, whatever else the answer says.

    :param parent: what has the field.
    :param name: its name.
    :param read: turns its value into the result; what it raises makes the field odd.
    """
    value = parent.get(name)
    try:
        return read(value) if value else None
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        log.warning("Ignored %r of an answer of the API (%s): %.200s", name, type(error).__name__, ascii(value))
        return None


def _texts(items: list[Any]) -> list[str]:
    if not isinstance(items, list):
        raise TypeError("no list")
    return [text_of(item) for item in items]


def exhaust(reading: Generator[None, None, T]) -> T:
    """
    Return what a generator returns at its end.

    :param reading: the generator.
    """
    try:
        while True:
            next(reading)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def text_of(item: Any) -> str:
    """
    Return a message of the API, a string or ``{"code", "message"}``, as a line that can be logged.

    :param item: the message.
    """
    return printable(item.get("message", item) if isinstance(item, Mapping) else item)


def _excerpt(content: bytes, secret: str) -> str:
    """Mask before truncating: a half-cut secret would not be recognised."""
    shown = content.replace(secret.encode(), b"***") if secret else content
    text = " ".join(shown[:200].decode("utf-8", "replace").split())
    return repr(text) if text else "empty"
