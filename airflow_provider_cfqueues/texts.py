"""Text from outside, as it is shown to people."""

from __future__ import annotations

from typing import Any

MAX_REASON = 500


def printable(value: Any) -> str:
    """
    Return a value as one line of plain text: everything that is not printable is escaped.

    Text from a message or from the API may hold line breaks that forge a log line, ANSI sequences that change the
    terminal, and lone surrogates that no codec accepts.

    :param value: the text, or something with a ``str``.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def to_reason(value: Any, limit: int = MAX_REASON) -> str:
    """
    Return a value as a printable line of bounded length; of an exception, its class and its text.

    :param value: anything, also what cannot be turned into text.
    :param limit: the longest line, in characters.
    """
    try:
        text = str(value)
    except BaseException as error:  # noqa: BLE001 - whatever the object does, its message goes on
        text = f"(no text: its __str__ raised {type(error).__name__})"
    if isinstance(value, BaseException):
        text = f"{type(value).__name__}: {text}" if text else type(value).__name__
    shown = printable(text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
