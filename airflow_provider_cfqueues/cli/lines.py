"""Messages as JSON lines: what ``drain`` writes, ``peek --json`` shows and ``send --drained`` reads."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_cfqueues.cli.formats import to_json
from airflow_provider_cfqueues.models import Message, PeekedMessage


def to_plain(message: Message | PeekedMessage) -> dict[str, Any]:
    """
    Return a message as JSON values, without its lease: after the command it is of no use.

    A ``bytes`` body is base64. If the body could not be decoded, or JSON cannot hold it, ``body`` is None. Then there
    are two more keys: ``raw_body`` (as it came over the wire) and ``body_error``.
    """
    return message.to_plain(_why_not_json, "JSON cannot hold the body")


def from_line(line: str) -> Message:
    """
    Return the message of a line, without a lease.

    :raises ValueError: it is not what :func:`to_plain` makes.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"drain did not write this line: {error}") from None
    if not isinstance(value, dict) or not {"id", "body", "content_type"} <= value.keys():
        raise ValueError("the line has no id, body and content_type, so drain did not write it")
    return Message(
        id=str(value["id"]),
        lease_id="",
        body=value["body"],
        content_type=value["content_type"],
        body_error=value.get("body_error"),
    )


def _why_not_json(value: Any) -> str | None:
    try:
        to_json(value)
    except (ValueError, RecursionError) as error:
        return str(error)
    return None
