"""Make the copies that go into a dead-letter queue, and get the original messages out of them."""

from __future__ import annotations

from typing import Any

from airflow_provider_cfqueues.client.messages import fits
from airflow_provider_cfqueues.models import Message, OutgoingMessage

MARK = {"rejected_by": "airflow-provider-cfqueues"}
"""The mark of a copy: a message of the user may have the same keys."""


def wrap(message: Message, queue_id: str, reason: str) -> OutgoingMessage:
    """Return what a dead-letter queue gets of a message of a queue: the message, with what is known of it."""
    undecoded = message.body_error is not None or isinstance(message.body, bytes)
    return OutgoingMessage(
        body={
            **MARK,
            "id": message.id,
            "queue_id": queue_id,
            "body": message.raw_body if undecoded else message.body,
            "content_type": message.content_type,
            "metadata": dict(message.metadata),
            "attempts": message.attempts,
            "reason": reason,
        },
        content_type="json",
    )


def is_wrapped(body: Any) -> bool:
    """
    Return whether :func:`wrap` made a body.

    :param body: the decoded body of a message.
    """
    return isinstance(body, dict) and MARK.items() <= body.items()


def copy(message: Message, *, unwrapped: bool) -> OutgoingMessage:
    """
    Return a message as it can be sent again: same body, same content type.

    :param unwrapped: send what :func:`wrap` made as the message that it was.
    :raises ValueError: the API could not carry it unaltered.
    """
    if message.body_error is not None:
        raise ValueError(f"its body could not be decoded: {message.body_error}")
    body, content_type = message.body, message.content_type
    if unwrapped and content_type == "json" and is_wrapped(body):
        body, content_type = body["body"], body["content_type"]
    expected: Any = {"text": str, "json": (dict, list)}.get(str(content_type))
    if expected is None:
        raise ValueError(f"a body of content type {content_type!r} cannot be sent over HTTP, only json and text can")
    if not isinstance(body, expected):
        msg = f"a {content_type} body that is a {type(body).__name__} cannot be sent over HTTP"
        raise ValueError(msg)  # noqa: TRY004 - the message is at fault, not the code
    outgoing = OutgoingMessage(body=body, content_type=content_type)
    if not fits(outgoing):
        raise ValueError("the message is larger than 128 KB, or has a value that JSON cannot hold (NaN)")
    return outgoing
