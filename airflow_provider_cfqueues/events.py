"""The messages of the events that started a DAG run, for the arguments of its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class EventMessages:
    """
    The messages of all events that started a run, resolved when a task runs: an argument for any templated field.

    :param queue_id: only those of watchers with this ``queue_id``; None = all.
    :param queue_name: only those of watchers with this ``queue_name``; None = all.
    """

    queue_id: str | None = None
    queue_name: str | None = None

    def resolve(self, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """
        Return the messages, oldest event first, each lease once.

        :param context: the task's context, with ``triggering_asset_events``.
        """
        found: dict[str, dict[str, Any]] = {}
        events = context.get("triggering_asset_events") or {}
        for event in sorted((one for of_asset in events.values() for one in of_asset), key=lambda one: one.timestamp):
            payload = (event.extra or {}).get("payload")
            if isinstance(payload, Mapping) and self._is_wanted(payload):
                found |= {message["lease_id"]: dict(message) for message in payload["messages"]}
        return list(found.values())

    def _is_wanted(self, payload: Mapping[str, Any]) -> bool:
        return (
            "messages" in payload
            and self.queue_id in (None, payload.get("queue_id"))
            and self.queue_name in (None, payload.get("queue_name"))
        )


def event_leases(*, queue_id: str | None = None, queue_name: str | None = None) -> EventMessages:
    """
    Return what stands for the leases of the messages that started the run: ``QueueAckOperator(lease_ids=…)``.

    They come as messages, so that a settling operator knows when their leases end and how often they were delivered.

    :param queue_id: only those of watchers with this ``queue_id``, where a DAG waits for several queues.
    :param queue_name: likewise with this ``queue_name``.
    """
    return EventMessages(queue_id=queue_id, queue_name=queue_name)


def event_messages(*, queue_id: str | None = None, queue_name: str | None = None) -> EventMessages:
    """
    Return what stands for the messages that started the run: an argument of a task.

    Each is what :class:`~airflow_provider_cfqueues.operators.queues.QueuePullOperator` returns for a message.

    :param queue_id: only those of watchers with this ``queue_id``, where a DAG waits for several queues.
    :param queue_name: likewise with this ``queue_name``.
    """
    return event_leases(queue_id=queue_id, queue_name=queue_name)
