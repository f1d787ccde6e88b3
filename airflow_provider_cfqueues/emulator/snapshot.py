"""What a test can look at: logged calls and the insides of queues, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, NamedTuple

from airflow_provider_cfqueues.emulator import wire
from airflow_provider_cfqueues.emulator.model import Message, Report


class LoggedRequest(NamedTuple):
    """A call that came in; ``status`` None means it got no answer."""

    method: str
    path: str
    query: str
    body: bytes
    status: int | None
    time_ms: int


def request(logged: LoggedRequest) -> wire.JSON:
    """Return a logged call as JSON."""
    shape = logged._asdict()
    text = logged.body.decode(errors="replace")
    try:
        shape["body"] = json.loads(text) if text else None
    except (ValueError, RecursionError):
        shape["body"] = text
    return shape


def queue(report: Report, deliveries: int) -> wire.JSON:
    """Return all there is to know of a queue as JSON."""
    shape = wire.queue(report.queue)
    return {
        "name": report.queue.name,
        "id": report.queue.id,
        "settings": shape["settings"],
        "consumer": shape["consumers"][0] if shape["consumers"] else None,
        **asdict(report.metrics),
        "states": report.states,
        "totals": report.totals,
        "messages": [_message(message, deliveries) for message in report.messages],
    }


def _message(message: Message, deliveries: int) -> wire.JSON:
    body: Any = wire.body(message._replace(base64=message.content_type not in ("text", "json")))
    return {
        "id": message.id,
        "state": message.state,
        "attempts": message.attempts,
        "deliveries_left": max(0, deliveries - message.attempts),
        "content_type": message.content_type,
        "body": json.loads(body) if message.content_type == "json" else body,
        "timestamp_ms": message.timestamp_ms,
        "visible_ms": message.visible_ms,
    }
