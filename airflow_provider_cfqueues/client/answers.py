"""What came back over the wire, and which error it is if it is not a success."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from airflow_provider_cfqueues import exceptions as errors
from airflow_provider_cfqueues.texts import printable

MAX_ANSWER_BYTES = 80_000_000
"""A hundred messages of 128 KB, each character of them an escape of six bytes, are 77 MB."""
LONGEST_RETRY_AFTER = 14 * 86_400.0
"""Seconds; no message is kept for longer, and what is far beyond is no time that Python can reckon with."""
_GZIP_OR_DEFLATE = zlib.MAX_WBITS | 32
"""For zlib: it knows by the first bytes which of them it is."""

NO_ROUTE = 7003
"""The API's code for a path that it does not know: the account, an ID or the base URL is wrong."""
_BY_CODE: dict[int, type[errors.ApiError]] = {
    6003: errors.AuthenticationError,
    NO_ROUTE: errors.NotFoundError,
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


class TooLarge(Exception):
    """The answer is larger than any that the API gives."""

    def __str__(self) -> str:
        return f"the answer is larger than {MAX_ANSWER_BYTES // 1_000_000} MB"


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

    def decompressed(self) -> bytes:
        """
        Return the body. A proxy may have compressed it, although the request did not ask for that.

        :raises TooLarge: it is larger than any that the API gives.
        :raises ValueError: it is not compressed as its header says.
        """
        content = self.content
        for encoding in reversed(self.headers.get("content-encoding", "").lower().split(",")):
            if encoding.strip() in ("gzip", "x-gzip", "deflate"):
                try:
                    content = zlib.decompressobj(_GZIP_OR_DEFLATE).decompress(content, MAX_ANSWER_BYTES + 1)
                except zlib.error as error:
                    raise ValueError("the body is not compressed as the Content-Encoding header says") from error
            if len(content) > MAX_ANSWER_BYTES:
                raise TooLarge
        return content


def facts_of(answer: Answer, body: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what an error says of an answer: its arguments by name.

    :param answer: the answer.
    :param body: the envelope that it holds; empty if it holds none.
    """
    listed = body.get("errors")
    problems = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    pointers = [item["source"].get("pointer") for item in problems if isinstance(item.get("source"), dict)]
    links = [item.get("documentation_url") for item in problems]
    return {
        "status": answer.status,
        "codes": [item["code"] for item in problems if isinstance(item.get("code"), int)],
        "messages": [text_of(item) for item in problems],
        "pointers": [printable(pointer) for pointer in pointers if pointer],
        "documentation_urls": [printable(link) for link in links if link],
        "ray_id": printable(answer.headers.get("cf-ray", "")) or None,
        "retry_after": _retry_after(answer.headers),
    }


def classify(status: int, codes: Sequence[int], *, is_envelope: bool) -> type[errors.ApiError]:
    """
    Return the class of the error.

    Status first, then code: live codes of 0 occur, and HTTP 429 is not always a rate limit.

    :param status: the HTTP status.
    :param codes: the API's error codes.
    :param is_envelope: whether the answer is one of the API, not of something before it.
    """
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


def excerpt(content: bytes, secret: str) -> str:
    """
    Return the beginning of an answer as text. It is masked before it is cut: half a secret would not be recognised.

    :param content: the answer.
    :param secret: what must not be shown.
    """
    shown = content.replace(secret.encode(), b"***") if secret else content
    text = " ".join(shown[:200].decode("utf-8", "replace").split())
    return repr(text) if text else "empty"


def text_of(item: Any) -> str:
    """
    Return a message of the API, a string or ``{"code", "message"}``, as a line that can be logged.

    :param item: the message.
    """
    return printable(item.get("message", item) if isinstance(item, Mapping) else item)


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
