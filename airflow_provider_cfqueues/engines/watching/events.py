"""What an event holds of its messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from airflow_provider_cfqueues._compat import TriggerEvent
from airflow_provider_cfqueues.engines.watching.deliveries import Batch, Delivery
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.models import Message

NOT_WITHOUT_ASKING = ("body", "raw_body", "body_error", "metadata")
ENVELOPE_BYTES = 1_000
"""The most bytes that an event takes besides its messages: a queue's name has up to 63 characters."""


class QueueMessageEvent(TriggerEvent):
    """An event of messages; the triggerer logs its ``repr``, which names a few by ID and shows nothing else."""

    def __repr__(self) -> str:
        ids = [str(message["id"]) for message in self.payload["messages"]]
        shown = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        queue = self.payload["queue_name"] or self.payload["queue_id"]
        return f"QueueMessageEvent<queue {queue}, messages {shown or 'none'}>"

    __str__ = __repr__


def size_of(message: Message, *, include_body: bool = True) -> int:
    """Return how many bytes a message adds to an event."""
    return len(json.dumps(_show(message, include_body=include_body)).encode()) + 2


def make_event(batch: Batch, deliveries: Sequence[Delivery], options: WatchOptions) -> QueueMessageEvent:
    """Return the event of some messages of a batch, as the options of a watcher want it."""
    payload = {
        "queue_id": options.queue_id,
        "queue_name": options.queue_name,
        "pulled_at": batch.pulled_at.isoformat(),
        "backlog_count": batch.backlog_count,
        "messages": [_show(delivery.message, include_body=options.include_body) for delivery in deliveries],
    }
    return QueueMessageEvent(payload)  # type: ignore[call-arg]


def _show(message: Message, *, include_body: bool) -> dict[str, Any]:
    shown = message.to_xcom()
    return shown if include_body else {key: value for key, value in shown.items() if key not in NOT_WITHOUT_ASKING}
