"""What several calls have in common: the queue that they are about, and objects in answers, read with tolerance."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar

from airflow_provider_cfqueues.arguments import MAX_VISIBILITY_SECONDS, parse_id, read_date
from airflow_provider_cfqueues.client.call import Call, Envelope, side_field
from airflow_provider_cfqueues.models import Consumer, Queue, QueueMetrics

T = TypeVar("T")


def queue_call(
    queue_id: str, request: str, *, read: Callable[[Envelope], T | Coroutine[Any, Any, T]], **options: Any
) -> Call[T]:
    """
    Return a call about a queue.

    :param queue_id: ID of the queue.
    :param request: the HTTP method, and what follows the queue in the path, such as ``GET /metrics``.
    :param read: as for :class:`Call`.
    :param options: what else a :class:`Call` is made of.
    :raises ValueError: it is no ID, so that it is not safe in a path.
    """
    method, _, rest = request.partition(" ")
    path = f"/accounts/{{account_id}}/queues/{parse_id(queue_id, 'queue_id')}{rest}"
    return Call(method=method, path=path, queue=queue_id, read=read, **options)


def read_queue(item: Mapping[str, Any]) -> Queue:
    """
    Read a queue.

    :param item: the queue as the API gives it.
    """
    return Queue(
        queue_id=str(item["queue_id"]),
        queue_name=str(item["queue_name"]),
        settings=item.get("settings") or {},
        consumers_total_count=read_count(item.get("consumers_total_count")),
        producers_total_count=read_count(item.get("producers_total_count")),
        created_on=read_date(item.get("created_on")),
    )


def read_consumer(item: Mapping[str, Any]) -> Consumer:
    """
    Read a consumer.

    :param item: the consumer as the API gives it.
    """
    settings = item.get("settings") or {}
    timeout_ms = read_count(settings.get("visibility_timeout_ms"))
    return Consumer(
        type=item.get("type", ""),
        consumer_id=item.get("consumer_id"),
        dead_letter_queue=item.get("dead_letter_queue") or None,
        max_retries=read_count(settings.get("max_retries")),
        visibility_timeout=timeout_ms / 1000 if timeout_ms and timeout_ms <= MAX_VISIBILITY_SECONDS * 1000 else None,
        retry_delay=settings.get("retry_delay"),
        batch_size=read_count(settings.get("batch_size")),
        script_name=item.get("script_name") or item.get("script"),
        created_on=read_date(item.get("created_on")),
    )


def read_backlog(result: Mapping[str, Any]) -> QueueMetrics | None:
    """
    Read the backlog beside a pull or send: ``metadata.metrics`` since April 2026, one count before that.

    :param result: the result of the call.
    """
    metrics = side_field(result, "metadata", lambda metadata: side_field(metadata, "metrics", read_metrics))
    if metrics is not None:
        return metrics
    count = read_count(result.get("message_backlog_count"))
    return None if count is None else QueueMetrics(backlog_count=count)


def read_metrics(item: Mapping[str, Any]) -> QueueMetrics:
    """
    Read a backlog.

    :param item: the metrics as the API gives them.
    """
    backlog_count = read_count(item["backlog_count"])
    if backlog_count is None:
        raise ValueError("backlog_count is not a count")
    return QueueMetrics(
        backlog_count=backlog_count,
        backlog_bytes=read_count(item.get("backlog_bytes")),
        oldest_message_timestamp=read_time(item.get("oldest_message_timestamp_ms")),
    )


def read_count(value: Any) -> int | None:
    """
    Read a count; what is no whole number from 0 up counts as not reported.

    :param value: the count.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0 or value % 1:
        return None
    return int(value)


def read_time(milliseconds: Any) -> datetime | None:
    """
    Read a time; what is none counts as not reported.

    :param milliseconds: since the epoch.
    """
    try:
        return datetime.fromtimestamp(milliseconds / 1000, timezone.utc) if milliseconds else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def without_none(**values: Any) -> dict[str, Any]:
    """Return what is given."""
    return {key: value for key, value in values.items() if value is not None}
