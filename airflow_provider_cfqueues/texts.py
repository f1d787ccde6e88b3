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


def counted(count: int, noun: str, plural: str = "") -> str:
    """
    Return a number with its noun: "no messages", "1 message", "2 messages".

    :param count: how many.
    :param noun: what, in the singular.
    :param plural: the plural; empty = with an s.
    """
    return f"{f'{count:,}' if count else 'no'} {noun if count == 1 else plural or f'{noun}s'}"


def per_second(count: float, seconds: float) -> str:
    """
    Return a rate: "12/s"; below ten with a decimal: "0.5/s".

    :param count: how many.
    :param seconds: in which time.
    """
    rate = count / seconds if seconds else 0
    if not rate or rate >= 9.95:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 0.1 else f"{rate:.1g}/s"


def to_reason(value: Any, limit: int = MAX_REASON) -> str:
    """
    Return a value as a printable line of bounded length. An exception becomes its class and its text.

    :param value: anything, even an object that has no text.
    :param limit: the longest line, in characters.
    """
    text = _text(value)
    if isinstance(value, BaseException):
        text = f"{type(value).__name__}: {text}" if text else type(value).__name__
    shown = printable(text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def with_printable_text(error: BaseException) -> BaseException:
    """
    Return an exception whose traceback can be logged: itself, or a copy of its class name and printable text.

    A traceback shows the text of an exception and of its causes unchanged, and Airflow's logging can fail for text that
    no codec accepts.

    :param error: the exception.
    """
    seen: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in seen:
        if not _text(each).isprintable():
            stand_in = type(type(error).__name__, (Exception,), {"__module__": type(error).__module__})
            return stand_in(printable(_text(error))).with_traceback(error.__traceback__)  # type: ignore[no-any-return]
        seen.append(each)
        each = each.__cause__ or each.__context__
    return error


def _text(value: Any) -> str:
    try:
        return str(value)
    except BaseException as error:  # noqa: BLE001 - whatever the object does, its message goes on
        return f"(no text: its __str__ raised {type(error).__name__})"
