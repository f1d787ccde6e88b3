"""IDs, names, numbers and delays, and text that a template rendered to."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from reprlib import Repr
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Seconds: TypeAlias = "float | str | timedelta"
"""A duration as callers give it: seconds as a number or text that holds one, or a timedelta."""

MAX_DELAY_SECONDS = 86_400
"""24 hours: Cloudflare's limit for ``delay_seconds`` since February 2026 (documentation, error codes)."""
MIN_VISIBILITY_SECONDS = 0.001
"""The API counts in milliseconds."""
MAX_VISIBILITY_SECONDS = 43_200
"""12 hours: Cloudflare's limit for the visibility timeout (documentation, pull consumers)."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


def is_none(value: Any) -> bool:
    """
    Return whether a value is None, or the text that a template makes of it: ``None``, or ``null`` as JSON.

    :param value: the value.
    """
    return value is None or (isinstance(value, str) and value.strip() in ("None", "null"))


def refuse_none(value: Any, what: str) -> None:
    """
    Check that a value that is needed is not None, and that no template rendered to None. A queue may be named null.

    :param value: the value.
    :param what: the name of the argument, for the error.
    :raises ValueError: it is None.
    """
    if value is None:
        raise ValueError(f"{what} is None: give a value, or check the template or XCom that it takes its value from")
    if isinstance(value, str) and value.strip() == "None":
        raise ValueError(f"{what} is 'None': a template rendered to None. Check what it takes its value from")


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
    refuse_none(value, what)
    if not is_id(value):
        raise ValueError(f"{what} must be 1 to 32 letters, digits, '-' or '_', not {short(value)}")
    return str(value)


def parse_name(value: Any, what: str = "queue_name") -> str:
    """
    Return the name of a queue.

    :param value: the name.
    :param what: the name of the argument, for the error.
    :raises ValueError: it is empty or no text.
    """
    refuse_none(value, what)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{what} must be the name of a queue, not {short(value)}")
    return value


def require_one(**given: Any) -> None:
    """
    Check that exactly one of two arguments is given.

    :param given: both, by name.
    :raises ValueError: neither or both are.
    """
    for name, value in given.items():
        if value is not None:
            refuse_none(value, name)
    if sum(map(bool, given.values())) != 1:
        values = " and ".join(map(repr, given.values()))
        hint = "" if any(given.values()) else ". If one takes its value from a template or XCom, check why it is None"
        raise ValueError(f"Give exactly one of {' and '.join(given)}, not {values}{hint}")


def parse_choice(value: Any, what: str, choices: Sequence[str]) -> str:
    """
    Return an argument that takes one of a few words.

    :param value: the word.
    :param what: the name of the argument, for the error.
    :param choices: the words.
    :raises ValueError: it is none of them.
    """
    refuse_none(value, what)
    if value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"{what} must be {', '.join(others)} or {last}, not {value!r}")
    return str(value)


def parse_number(value: Any, what: str) -> float:
    """
    Return a finite number.

    :param value: a number, or text that holds one.
    :param what: the name of the argument, for the error.
    :raises TypeError: it is neither.
    :raises ValueError: it is None, or the text holds no number, or it is not finite.
    """
    refuse_none(value, what)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f"{what} must be a number, not {describe(value)}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, not {short(value)}")
    return number


def parse_seconds(value: Any, what: str, *, at_least: float = 0, at_most: float = math.inf) -> float:
    """
    Return a duration.

    :param value: seconds as a number or text that holds one, or a timedelta.
    :param what: the name of the argument, for the error.
    :param at_least: the shortest.
    :param at_most: the longest.
    :raises TypeError: it is none of these.
    :raises ValueError: the text holds no number, or it is not finite, or out of range.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else parse_number(value, what)
    if not at_least <= seconds <= at_most:
        limits = f"at least {at_least:g}" if at_most == math.inf else f"from {at_least:g} to {at_most}"
        raise ValueError(f"{what} must be {limits} seconds, not {short(value)}")
    return seconds


def parse_optional(parse: Callable[..., T], value: Any, what: str, **limits: Any) -> T | None:
    """
    Return None for None, else what a function of this module makes of a value.

    :param parse: the function.
    :param value: the value.
    :param what: the name of the argument, for the error.
    :param limits: further arguments of the function.
    """
    return None if value is None else parse(value, what, **limits)


def parse_count(value: Any, what: str, *, at_least: int = 1, at_most: int | None = None) -> int:
    """
    Return a whole number.

    :param value: a number, or text that holds one.
    :param what: the name of the argument, for the error.
    :param at_least: the smallest.
    :param at_most: the largest, if there is one.
    :raises TypeError: it is neither.
    :raises ValueError: it is not whole, or out of range.
    """
    number = parse_number(value, what)
    if number != int(number) or number < at_least or (at_most is not None and number > at_most):
        limits = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise ValueError(f"{what} must be a whole number {limits}, not {short(value)}")
    return int(number)


def parse_delay(
    value: Any, what: str = "delay_seconds", *, at_least: int = 0, at_most: int = MAX_DELAY_SECONDS
) -> int | None:
    """
    Return a delay as the API gets it: whole seconds, or None for the default of the consumer (retry) or queue (send).

    The API's schema says ``number``; whether it honours fractions is not documented, so a fraction is rounded up:
    no message comes back earlier than asked.

    :param value: seconds as a number, a timedelta or text that holds a number, or None.
    :param what: the name of the argument, for the error.
    :param at_least: the shortest.
    :param at_most: the longest, 24 hours.
    :raises TypeError: it is not a number.
    :raises ValueError: it is out of range.
    """
    return None if value is None else math.ceil(parse_seconds(value, what, at_least=at_least, at_most=at_most))


def parse_visibility_timeout(value: Any) -> float | None:
    """
    Return a visibility timeout in seconds, or None for the consumer's.

    :param value: seconds, from a millisecond to 43,200 (12 hours), as a number, a timedelta or text that holds a
        number, or None.
    :raises TypeError: it is not a number.
    :raises ValueError: it is out of range.
    """
    return parse_optional(
        parse_seconds, value, "visibility_timeout", at_least=MIN_VISIBILITY_SECONDS, at_most=MAX_VISIBILITY_SECONDS
    )


def read_date(value: Any) -> datetime | None:
    """
    Return a time, None if it cannot be read or has no time zone.

    :param value: the time, or its text in ISO 8601.
    """
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (AttributeError, TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None


def parse_rendered(text: str, what: str) -> Any:
    """
    Return what a template rendered to: bare text, or the JSON or Python literal that it holds.

    :param text: the text.
    :param what: the name of the argument, for the error.
    :raises ValueError: it begins like a list, mapping or string, but is none.
    """
    text = text.strip()
    if text == "" or is_none(text):
        return None
    if text[0] not in "[{(\"'":
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    raise ValueError(
        f"{what}: the text is neither JSON nor a Python literal: {short(text)}. Pass an XCom itself (task.output) "
        "rather than a template, or set render_template_as_native_obj=True on the DAG"
    )


def describe(value: Any) -> str:
    """
    Return the type of a value and the value, shortened, for an error.

    :param value: the value.
    """
    return f"{type(value).__name__} {short(value)}"


def short(value: Any) -> str:
    """
    Return a value, shortened, for an error.

    :param value: the value.
    """
    return _SHORT.repr(value)


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = 4
