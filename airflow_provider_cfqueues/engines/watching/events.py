"""What an event tells of a message, and how a DAG gets at it."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_cfqueues._compat import TriggerEvent
from airflow_provider_cfqueues.engines.watching.deliveries import Delivery

NOT_WITHOUT_ASKING = ("body", "raw_body", "body_error", "metadata")


class QueueMessageEvent(TriggerEvent):
    """An event of messages; the triggerer logs its ``repr``, which names them by ID and shows nothing else."""

    def __repr__(self) -> str:
        ids = ", ".join(str(message["id"]) for message in self.payload["messages"])
        return f"QueueMessageEvent<queue {queue_of(self.payload)}, messages {ids}>"

    __str__ = __repr__


class EventTooLargeError(ValueError):
    """An event would be larger than it may be."""


def make_event(
    delivery: Delivery, *, queue_id: str | None, queue_name: str | None, include_body: bool, max_bytes: int
) -> QueueMessageEvent:
    """
    Return the event of a message.

    :param delivery: the message.
    :param queue_id: ID of its queue, as the watcher knows it.
    :param queue_name: name of its queue, likewise.
    :param include_body: whether it holds the body and metadata.
    :param max_bytes: how large it may be, as JSON.
    :raises EventTooLargeError: it would be larger.
    """
    message = delivery.message.to_xcom()
    if not include_body:
        message = {key: value for key, value in message.items() if key not in NOT_WITHOUT_ASKING}
    backlog = delivery.pull.result.backlog
    payload = {
        "queue_id": queue_id,
        "queue_name": queue_name,
        "pulled_at": delivery.pull.pulled_at.isoformat(),
        "backlog_count": backlog.backlog_count if backlog else None,
        "messages": [message],
    }
    size = len(json.dumps(payload).encode())
    if size > max_bytes:
        msg = f"its event would have {size} bytes (max_event_bytes={max_bytes})"
        raise EventTooLargeError(msg)
    return QueueMessageEvent(payload)  # type: ignore[call-arg]


def queue_of(payload: dict[str, Any]) -> str:
    """
    Return what to call the queue of an event.

    :param payload: the event's payload.
    """
    return str(payload.get("queue_name") or payload.get("queue_id"))
