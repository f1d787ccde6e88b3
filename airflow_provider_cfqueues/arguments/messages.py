"""What callers may pass as messages to send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_cfqueues.arguments.values import describe, parse_delay, parse_rendered, refuse_none, short
from airflow_provider_cfqueues.models import OutgoingMessage

_BODIES: dict[str, tuple[type, ...]] = {"text": (str,), "json": (dict, list, tuple, Mapping)}
_OUTGOING_KEYS = {"body", "content_type", "delay_seconds"}


def parse_messages(value: Any, delay_seconds: Any = None) -> list[OutgoingMessage]:
    """
    Return the messages to send.

    A message is a string (sent as text), a JSON object or array, an ``OutgoingMessage``, or a mapping with ``body``
    and optionally ``content_type`` and ``delay_seconds``. One string or mapping alone is one message. A string alone
    that begins with ``[`` or ``{`` is a rendered template and holds messages as JSON or as a Python literal; to send
    such a text itself, put it into a list. The text None alone is a template that rendered to None. None and an empty
    list are no messages.

    :param value: the messages.
    :param delay_seconds: the delay of messages that have no delay of their own.
    :raises TypeError: a body is of a type that the API does not take.
    :raises ValueError: a key, content type or delay is wrong, or a template rendered to None.
    """
    delay = parse_delay(delay_seconds)
    if value is None:
        return []
    refuse_none(value, "messages")
    if isinstance(value, str) and value.strip().startswith(("[", "{")):
        value = parse_rendered(value, "messages")
    if isinstance(value, (str, Mapping, OutgoingMessage)):
        value = [value]
    if isinstance(value, (bytes, bytearray)) or not isinstance(value, Iterable):
        raise TypeError(f"messages must be a list of messages, not {describe(value)}")
    return [parse_message(item, f"messages[{position}]", delay) for position, item in enumerate(value)]


def parse_message(item: Any, what: str, delay_seconds: int | None = None) -> OutgoingMessage:
    """
    Return one message to send, with its content type.

    :param item: the message, as one of those of :func:`parse_messages`.
    :param what: the name of the argument, for the error.
    :param delay_seconds: the delay of a message without its own.
    :raises TypeError: the body is of a type that the API does not take.
    :raises ValueError: a key, content type or delay is wrong.
    """
    body, content_type, delay = item, None, None
    if isinstance(item, Mapping) and "body" in item:
        if unknown := sorted(map(str, item.keys() - _OUTGOING_KEYS)):
            raise ValueError(
                f"{what}: unknown keys {short(unknown)} beside 'body'. If the whole mapping is the message, send "
                '{"body": {…}}'
            )
        item = OutgoingMessage(**item)
    if isinstance(item, OutgoingMessage):
        body, content_type = item.body, item.content_type
        delay = parse_delay(item.delay_seconds, f"{what}: delay_seconds")
    content_type = content_type or ("text" if isinstance(body, str) else "json")
    _check_body(body, content_type, what)
    return OutgoingMessage(
        body=body, content_type=content_type, delay_seconds=delay_seconds if delay is None else delay
    )


def _check_body(body: Any, content_type: str, what: str) -> None:
    expected = _BODIES.get(str(content_type))
    if expected is None:
        raise ValueError(
            f"{what}: content_type must be 'text' or 'json' (all that the REST API takes), not {short(content_type)}"
        )
    if not isinstance(body, expected):
        raise TypeError(
            f"{what}: a {content_type} body must be {'a string' if content_type == 'text' else 'an object or array'}, "
            f"not {describe(body)}. Send a string as text, a scalar as text, and bytes as base64 text"
        )
