"""How values are written: for people in a line without control characters, for programs as JSON."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime, timezone
from typing import Any

NO_DEAD_LETTER_QUEUE = (
    "no dead-letter queue: messages are deleted after their last delivery (a dead-letter queue itself usually has none)"
)
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """
    Return a value as JSON, with control characters and everything that a program may take for a line end escaped.

    :param indent: spaces for each level; None = all in one line.
    :raises ValueError: it holds NaN or infinity, which JSON has not.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_all(descriptor: int, data: bytes, name: str) -> None:
    """
    Write without a buffer, so that an error is raised for the text that caused it.

    :param name: the file's name, for the error.
    :raises OSError: it could not be written; a part of it may be.
    """
    left = memoryview(data)
    try:
        while True:  # once also where there is nothing to write: a full device objects to that as well
            left = left[os.write(descriptor, left) :]
            if not left:
                return
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None


def plain(value: Any) -> str:
    """Return a value as text; None is a dash."""
    return "-" if value is None else str(value)


def number(value: Any) -> str:
    """Write a number, in groups of three digits."""
    return "-" if value is None else f"{value:,}"


def age(value: Any) -> str:
    """
    Write how long ago a time was.

    :param value: an ISO 8601 time, or None.
    """
    if value is None:
        return "-"
    seconds = max(0, round((datetime.now(timezone.utc) - datetime.fromisoformat(value)).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def body(value: Any) -> str:
    """Write a message's body in one line, shortened."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:99]}…"
