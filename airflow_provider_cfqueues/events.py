"""The messages of the events that started a DAG run, for the arguments of its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_cfqueues.arguments import parse_count


@dataclass(frozen=True, kw_only=True)
class EventMessages:
    """
    The messages of all events that started a run. Give it to any templated field; the task gets the messages.

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
    Return a placeholder for the leases of the run's messages: ``QueueAckOperator(lease_ids=event_leases())``.

    They come as messages, so that a settling operator knows when their leases end and how often they were delivered.

    :param queue_id: only those of watchers with this ``queue_id``, where a DAG waits for several queues.
    :param queue_name: only those of watchers with this ``queue_name``.
    """
    return EventMessages(queue_id=queue_id, queue_name=queue_name)


def event_messages(*, queue_id: str | None = None, queue_name: str | None = None) -> EventMessages:
    """
    Return a placeholder for the messages that started the run: ``ship(event_messages())``.

    Each is what :class:`~airflow_provider_cfqueues.operators.queues.QueuePullOperator` returns for a message.

    :param queue_id: only those of watchers with this ``queue_id``, where a DAG waits for several queues.
    :param queue_name: only those of watchers with this ``queue_name``.
    """
    return event_leases(queue_id=queue_id, queue_name=queue_name)


def event_batches(
    *,
    size: int = 100,
    queue_id: str | None = None,
    queue_name: str | None = None,
    task_id: str = "event_batches",
) -> Any:
    """
    Create a task that returns the messages of the run in lists, and return its output to map over.

    ``ship.expand(messages=event_batches(size=100))`` runs one ``ship`` for each hundred messages. Call it inside a DAG.
    In a run without messages, the mapped task is skipped. Airflow maps over at most ``[core] max_map_length`` (1,024)
    lists.

    :param size: messages per list, at the most.
    :param queue_id: only those of watchers with this ``queue_id``, where a DAG waits for several queues.
    :param queue_name: only those of watchers with this ``queue_name``.
    :param task_id: ID of the task.
    :raises ValueError: the size is not a whole number above 0.
    """
    from airflow.sdk import task

    size = parse_count(size, "size")

    @task(task_id=task_id)
    def batch(messages: Any) -> list[list[dict[str, Any]]]:
        return [messages[start : start + size] for start in range(0, len(messages), size)]

    return batch(event_messages(queue_id=queue_id, queue_name=queue_name))
