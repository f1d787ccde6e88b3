"""Text from outside, as it is shown to people."""

from __future__ import annotations

from typing import Any


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
