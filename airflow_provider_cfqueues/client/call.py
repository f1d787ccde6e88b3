"""
One REST call as a value: what is asked, how the answer is read, and when it may be asked again.

No socket, no clock, no Airflow: sync and async clients carry these values and decide nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from inspect import iscoroutine
from typing import Any, Generic, TypeVar, cast

from airflow_provider_cfqueues import exceptions as errors
from airflow_provider_cfqueues.bodies import decode_json, encode_json
from airflow_provider_cfqueues.client.answers import Answer, TooLarge, classify, excerpt, facts_of, text_of

log = logging.getLogger(__name__)

T = TypeVar("T")

BYTES_AT_ONCE = 250_000
"""Reading takes about a millisecond for so much: an event loop gets its turn after it."""


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
    :param read: turns the envelope of a success into the result; a coroutine may pause in between, see :meth:`reading`.
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
    read: Callable[[Envelope], T | Coroutine[Any, Any, T]]
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

    async def reading(self, answer: Answer, *, repeated: bool = False, secret: str = "") -> T:
        """
        Read the result that an answer holds. It pauses now and then, so that an event loop can do something else.

        :param answer: the answer.
        :param repeated: whether an earlier try may have been applied.
        :param secret: what an excerpt of the answer must not show, in case that it echoes it.
        :raises ApiError: the subclass that fits, if the answer is not a success.
        """
        content = answer.content
        try:
            content = answer.decompressed()
            document = decode_json(content)
        except TooLarge as error:
            raise errors.ResponseTooLargeError(f"Could not {self.name}: {error}", queue=self.queue) from None
        except (ValueError, RecursionError):
            document = None
        if len(content) > BYTES_AT_ONCE:
            await asyncio.sleep(0)
        body = document if isinstance(document, dict) else {}
        if not 200 <= answer.status < 300 or body.get("success") is not True:
            raise self._refusal(answer, body, excerpt(content, secret))
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
            return await result if iscoroutine(result) else cast("T", result)
        except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, OSError) as error:
            msg = f"Could not {self.name}: the API's result has an unexpected shape ({type(error).__name__}: {error})"
            raise errors.MalformedResponseError(msg, queue=self.queue, **facts_of(answer, {})) from error

    def _refusal(self, answer: Answer, body: Mapping[str, Any], shown: str) -> errors.ApiError:
        facts = facts_of(answer, body)
        said = "; ".join(facts["messages"]) or f"HTTP {answer.status}, and the answer was {shown}"
        kind = classify(answer.status, facts["codes"], is_envelope="success" in body)
        return kind(f"Could not {self.name}: {said}", queue=self.queue, **facts)

    def may_repeat(self, error: errors.CloudflareQueuesError) -> bool:
        """
        Return whether this call may be tried again after an error.

        :param error: the error.
        """
        passes = error.repeatable or isinstance(error, self.repeat_also)
        return self.repeat and passes and (self.repeat_ambiguous or not error.maybe_applied)


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
        log.warning(
            "Ignored the field %r of an answer of the API (%s): %.200s", name, type(error).__name__, ascii(value)
        )
        return None


def _texts(items: list[Any]) -> list[str]:
    if not isinstance(items, list):
        raise TypeError("not a list")
    return [text_of(item) for item in items]
