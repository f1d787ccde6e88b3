"""
What callers may pass, and what it means: leases, messages, delays and counts, each parsed in one place.

Arguments of operators are often rendered templates or XComs, so numbers may be text and lists may be nested, lazy or
a string. What cannot be understood is an error that shows its type and a shortened value; nothing is skipped.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from reprlib import Repr
from typing import Any

from airflow_provider_cfqueues.delays import is_rule
from airflow_provider_cfqueues.models import Lease, Message, OutgoingMessage

MAX_DELAY_SECONDS = 86_400
"""24 hours: Cloudflare's limit for ``delay_seconds`` since February 2026 (documentation, error codes)."""
MAX_VISIBILITY_SECONDS = 43_200
"""12 hours: Cloudflare's limit for the visibility timeout (documentation, pull consumers)."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_OUTGOING_KEYS = {"body", "content_type", "delay_seconds"}


def is_id(value: Any) -> bool:
    """
    Return whether a value is an account or queue ID, safe in a URL path.

    :param value: the value.
    """
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def parse_id(value: Any, what: str) -> str:
    """
    Return an account or queue ID.

    :param value: the ID.
    :param what: the name of the argument, for the error.
    :raises ValueError: it is not 1 to 32 letters, digits, ``-`` or ``_``.
    """
    if not is_id(value):
        msg = f"{what} must be 1 to 32 letters, digits, '-' or '_', not {_short(value)}"
        raise ValueError(msg)
    return str(value)


def parse_name(value: Any) -> str:
    """
    Return the name of a queue.

    :param value: the name.
    :raises ValueError: it is empty or no text.
    """
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        msg = f"queue_name must be the name of a queue, not {_short(value)}"
        raise ValueError(msg)
    return value


def parse_number(value: Any, what: str) -> float:
    """
    Return a finite number.

    :param value: a number, or text that holds one.
    :param what: the name of the argument, for the error.
    :raises TypeError: it is neither.
    :raises ValueError: the text holds no number, or it is not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        msg = f"{what} must be a number, not {_describe(value)}"
        raise TypeError(msg)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        msg = f"{what} must be a finite number, not {_short(value)}"
        raise ValueError(msg)
    return number


def parse_count(value: Any, what: str) -> int:
    """
    Return a whole number of at least 1.

    :param value: a number, or text that holds one.
    :param what: the name of the argument, for the error.
    :raises TypeError: it is neither.
    :raises ValueError: it is not whole or below 1.
    """
    number = parse_number(value, what)
    if number < 1 or number != int(number):
        msg = f"{what} must be a whole number of at least 1, not {_short(value)}"
        raise ValueError(msg)
    return int(number)


def parse_delay(value: Any, what: str = "delay_seconds") -> int | None:
    """
    Return a delay as the API gets it: whole seconds, or None for the default of the consumer (retry) or queue (send).

    The API's schema says ``number``; whether it honours fractions is not documented, so a fraction is rounded up:
    no message comes back earlier than asked.

    :param value: seconds from 0 to 86,400 as a number, a timedelta or text that holds a number, or None.
    :param what: the name of the argument, for the error.
    :raises TypeError: it is not a number.
    :raises ValueError: it is out of range.
    """
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else parse_number(value, what)
    if not 0 <= seconds <= MAX_DELAY_SECONDS:
        msg = f"{what} must be from 0 to {MAX_DELAY_SECONDS} seconds (24 hours), not {_short(value)}"
        raise ValueError(msg)
    return math.ceil(seconds)


def parse_visibility_timeout(value: Any) -> float | None:
    """
    Return a visibility timeout in seconds, or None for the consumer's.

    :param value: seconds, above 0 and up to 43,200 (12 hours), as a number or text that holds one, or None.
    :raises TypeError: it is not a number.
    :raises ValueError: it is out of range.
    """
    if value is None:
        return None
    seconds = parse_number(value, "visibility_timeout")
    if not 0 < seconds <= MAX_VISIBILITY_SECONDS:
        msg = (
            f"visibility_timeout must be above 0 and at most {MAX_VISIBILITY_SECONDS} seconds (12 hours), "
            f"not {_short(value)}"
        )
        raise ValueError(msg)
    return seconds


def parse_leases(value: Any, what: str = "lease_ids") -> list[Lease]:
    """
    Return the leases in whatever XCom, a template or a caller holds them.

    A lease is a string, a ``Lease``, a ``Message``, a mapping with ``lease_id`` (a message as ``QueuePullOperator``
    returns it), or a tuple of lease ID and delay. They come alone or in lists of any depth, a mapped task's lazy
    sequence, or a string that holds such a list as JSON or as a Python literal. None and an empty list are no leases.

    :param value: the leases.
    :param what: the name of the argument, for the error.
    :raises TypeError: something in it is not a lease.
    :raises ValueError: a lease ID is empty or not one, or a delay is out of range.
    """
    if value is None or (isinstance(value, str) and _parse_rendered(value, what) is None):
        return []
    try:
        return list(_iterate_leases(value, what))
    except RecursionError:
        msg = f"{what} is nested too deeply"
        raise ValueError(msg) from None


def _iterate_leases(value: Any, what: str) -> Iterator[Lease]:
    if isinstance(value, Lease):
        yield _lease(value.lease_id, value.delay_seconds, value.attempts, value.lease_expires_at, what)
    elif isinstance(value, Message):
        yield _lease(value.lease_id, None, value.attempts, value.lease_expires_at, what)
    elif isinstance(value, str):
        parsed = _parse_rendered(value, what)
        if isinstance(parsed, str):
            yield _lease(parsed, None, None, None, what)
        else:
            yield from _iterate_leases(parsed, what)
    elif isinstance(value, Mapping):
        yield _lease_of_mapping(value, what)
    elif _is_pair(value):
        yield _lease(value[0], value[1], None, None, what)
    elif isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        for item in value:
            yield from _iterate_leases(item, what)
    else:
        msg = f"{what} must hold lease IDs or messages with a 'lease_id'; found {_describe(value)}"
        raise TypeError(msg)


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and (isinstance(value[1], (int, float)) or (isinstance(value[1], str) and value[1].isdecimal()))
    )


def _lease_of_mapping(value: Mapping[Any, Any], what: str) -> Lease:
    if "lease_id" not in value:
        keys = _short(sorted(map(str, value)))
        msg = f"{what}: a mapping must be a message with a 'lease_id'; found one with the keys {keys}"
        raise ValueError(msg)
    attempts, expires = value.get("attempts"), value.get("lease_expires_at")
    return _lease(
        value["lease_id"],
        value.get("delay_seconds"),
        attempts if isinstance(attempts, int) else None,
        _parse_time(expires),
        what,
    )


def _parse_time(value: Any) -> datetime | None:
    """Return when a lease ends, or None: it only words a warning, so what cannot be read is not an error."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return time if isinstance(time, datetime) and time.tzinfo else None


def _lease(lease_id: Any, delay: Any, attempts: int | None, expires: datetime | None, what: str) -> Lease:
    if not isinstance(lease_id, str):
        msg = f"{what}: a lease ID must be a string; found {_describe(lease_id)}"
        raise TypeError(msg)
    if lease_id.split() != [lease_id] or "," in lease_id:
        msg = f"{what}: a lease ID is never empty and has no white space or comma; found {_short(lease_id)}"
        raise ValueError(msg)
    return Lease(lease_id=lease_id, delay_seconds=parse_delay(delay), attempts=attempts, lease_expires_at=expires)


def _parse_rendered(text: str, what: str) -> Any:
    """Return what a template rendered to: a bare lease ID, or the JSON or Python literal that the text holds."""
    text = text.strip()
    if text in ("", "None", "null"):
        return None
    if text[0] not in "[{(\"'":
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    msg = (
        f"{what}: the text is neither JSON nor a Python literal: {_short(text)}. Pass an XCom itself (task.output) "
        "rather than a template, or set render_template_as_native_obj=True on the DAG"
    )
    raise ValueError(msg)


def delay_leases(leases: list[Lease], delay: Any) -> list[Lease]:
    """
    Return the leases with a delay, where they bring none of their own.

    :param leases: leases to retry.
    :param delay: seconds, text that holds them, a :class:`~airflow_provider_cfqueues.delays.DelayRule`, or None.
    :raises TypeError: it is none of these.
    :raises ValueError: a delay is out of range, or the rule needs what a bare lease ID does not tell.
    """

    def delay_of(lease: Lease) -> int | None:
        return parse_delay(delay.seconds(lease))

    if not is_rule(delay):
        common = parse_delay(delay)
        return [lease if lease.delay_seconds is not None else replace(lease, delay_seconds=common) for lease in leases]
    return [
        lease if lease.delay_seconds is not None else replace(lease, delay_seconds=delay_of(lease)) for lease in leases
    ]


def parse_messages(value: Any) -> list[OutgoingMessage]:
    """
    Return the messages to send.

    A message is a string (sent as text), a JSON object or array, an ``OutgoingMessage``, or a mapping with ``body``
    and optionally ``content_type`` and ``delay_seconds``. One string or mapping alone is one message. A string alone
    that begins with ``[`` or ``{`` is a rendered template and holds messages as JSON or as a Python literal; to send
    such a text itself, put it into a list. None and an empty list are no messages.

    :param value: the messages.
    :raises TypeError: a body is of a type that the API does not take.
    :raises ValueError: a key, content type or delay is wrong.
    """
    if value is None:
        return []
    if isinstance(value, str) and value.strip().startswith(("[", "{")):
        value = _parse_rendered(value, "messages")
    if isinstance(value, (str, Mapping, OutgoingMessage)):
        value = [value]
    if isinstance(value, (bytes, bytearray)) or not isinstance(value, Iterable):
        msg = f"messages must be a list of messages, not {_describe(value)}"
        raise TypeError(msg)
    return [_outgoing(item, f"messages[{position}]") for position, item in enumerate(value)]


def _outgoing(item: Any, what: str) -> OutgoingMessage:
    if isinstance(item, OutgoingMessage):
        message = item
    elif isinstance(item, Mapping) and "body" in item:
        if unknown := sorted(map(str, item.keys() - _OUTGOING_KEYS)):
            msg = (
                f"{what}: unknown keys {_short(unknown)} beside 'body'. If the whole mapping is the message, send "
                '{"body": {…}}'
            )
            raise ValueError(msg)
        message = OutgoingMessage(**item)
    else:
        message = OutgoingMessage(body=item)
    content_type = message.content_type or ("text" if isinstance(message.body, str) else "json")
    _check_body(message.body, content_type, what)
    delay = parse_delay(message.delay_seconds, f"{what}: delay_seconds")
    return OutgoingMessage(body=message.body, content_type=content_type, delay_seconds=delay)


def _check_body(body: Any, content_type: str, what: str) -> None:
    expected = {"text": str, "json": (Mapping, list, tuple)}.get(str(content_type))
    if expected is None:
        msg = f"{what}: content_type must be 'text' or 'json' (all that the REST API takes), not {_short(content_type)}"
        raise ValueError(msg)
    if not isinstance(body, expected):  # type: ignore[arg-type]
        msg = (
            f"{what}: a {content_type} body must be {'a string' if content_type == 'text' else 'an object or array'}, "
            f"not {_describe(body)}. Send a string as text, a scalar as text, and bytes as base64 text"
        )
        raise TypeError(msg)


def _describe(value: Any) -> str:
    return f"{type(value).__name__} {_short(value)}"


def _short(value: Any) -> str:
    return _SHORT.repr(value)


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = 4
