"""
The calls of the Queues API, each a function from its arguments to a :class:`~.protocol.Call`.

Paths and shapes are those of Cloudflare's OpenAPI schema (``queues-*``), read with the
tolerance that real answers need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_cfqueues.arguments import MAX_VISIBILITY_SECONDS
from airflow_provider_cfqueues.bodies import decode_body
from airflow_provider_cfqueues.models import (
    AckResult,
    Consumer,
    Lease,
    Message,
    OutgoingMessage,
    PullResult,
    Queue,
    QueueMetrics,
    SendResult,
)
from airflow_provider_cfqueues.protocol import Call, Envelope, text_of

MAX_LEASES_PER_ACK = 100
"""Undocumented; other clients stay at 100 as well."""
MAX_MESSAGES_PER_PULL = 100
"""Documentation, pull consumers: ``batch_size`` 1 to 100."""
MAX_MESSAGES_PER_SEND = 100
MAX_BYTES_PER_SEND = 256_000
MAX_BYTES_PER_MESSAGE = 128_000
MESSAGE_OVERHEAD_BYTES = 100
"""Documentation, limits: 100 messages or 256 KB a batch, 128 KB a message with about 100 bytes of metadata."""


def ack(queue_id: str, acks: Sequence[str], retries: Sequence[Lease]) -> Call[AckResult]:
    """
    Settle at most 100 leases (``queues-ack-messages``). Repeating it is harmless: a settled lease stays settled.

    :param queue_id: ID of the queue.
    :param acks: leases of messages that are done.
    :param retries: leases of messages to deliver again.
    """

    def read(envelope: Envelope) -> AckResult:
        result = envelope.result or {}
        ack_count, retry_count = _count(result.get("ackCount")), _count(result.get("retryCount"))
        warnings = _warnings(result.get("warnings"))
        lease_ids = {"ack": list(acks), "retry": [lease.lease_id for lease in retries]}
        foreign = len(warnings.keys() - {*lease_ids["ack"], *lease_ids["retry"]})
        judged = [
            _judge(lease_ids["ack"], ack_count, warnings, foreign),
            _judge(lease_ids["retry"], retry_count, warnings, foreign),
        ]
        return AckResult(
            ack_count=ack_count,
            retry_count=retry_count,
            warnings=warnings,
            messages=envelope.messages,
            confirmed_count=sum(confirmed for confirmed, _ in judged),
            unconfirmed=tuple(lease_id for _, unconfirmed in judged for lease_id in unconfirmed),
            repeated=envelope.repeated,
        )

    return Call(
        name="settle leases",
        method="POST",
        path=_messages_path(queue_id, "/ack"),
        queue=queue_id,
        payload={
            "acks": [{"lease_id": lease_id} for lease_id in acks],
            "retries": [_without_none(lease_id=r.lease_id, delay_seconds=r.delay_seconds) for r in retries],
        },
        read=read,
    )


def _judge(
    lease_ids: Sequence[str], count: int | None, warnings: Mapping[str, str], foreign: int
) -> tuple[int, list[str]]:
    """
    Return how many leases nothing speaks against, and which ones may not be settled.

    Without a count, each warning that names none of the leases (``foreign``) may mean any of them.
    """
    warned = [lease_id for lease_id in lease_ids if lease_id in warnings]
    confirmed = len(lease_ids) - len(warned)
    confirmed = max(0, confirmed - foreign) if count is None else min(confirmed, count)
    explained = confirmed + len(warned) >= len(lease_ids)
    return confirmed, warned if explained else list(lease_ids)


def _warnings(value: Any) -> dict[str, str]:
    """Read ``warnings`` in each form seen: missing, null, a map by lease, or a list (before February 2026)."""
    if isinstance(value, Mapping):
        return {str(lease_id): text_of(text) for lease_id, text in value.items()}
    listed = [value] if isinstance(value, str) else value or ()
    return {f"#{position}": text_of(text) for position, text in enumerate(listed)}


def pull(queue_id: str, max_messages: int, visibility_timeout: float | None, lease_seconds: float) -> Call[PullResult]:
    """
    Lease at most 100 messages (``queues-pull-messages``).

    Repeating it is allowed but not free: where the answer was lost, its batch stays leased until the lease ends.

    :param queue_id: ID of the queue.
    :param max_messages: 1 to 100.
    :param visibility_timeout: seconds that the leases last; None = the consumer's setting.
    :param lease_seconds: how long the leases last in either case.
    """

    def read(envelope: Envelope) -> PullResult:
        result = envelope.result or {}
        expires = envelope.sent_at + timedelta(seconds=lease_seconds)
        items = result.get("messages") or ()
        messages = tuple(_message(item, expires) for item in items if _has_lease(item))
        return PullResult(messages=messages, backlog=_backlog(result), without_lease=len(items) - len(messages))

    milliseconds = None if visibility_timeout is None else max(1, round(visibility_timeout * 1000))
    return Call(
        name="pull messages",
        method="POST",
        path=_messages_path(queue_id, "/pull"),
        queue=queue_id,
        payload=_without_none(batch_size=max_messages, visibility_timeout_ms=milliseconds),
        read=read,
    )


def _has_lease(item: Any) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("lease_id"), str)


def _message(item: Mapping[str, Any], expires: datetime) -> Message:
    """Read one message; but for its lease, nothing in it is required, and nothing odd in it may hide the others."""
    metadata = item["metadata"] if isinstance(item.get("metadata"), Mapping) else {}
    content_type, raw = metadata.get("CF-Content-Type"), item.get("body")
    body = body_error = None
    try:
        body = decode_body(raw, content_type)
    except ValueError as error:
        body_error = str(error)
    return Message(
        id=str(item.get("id") or ""),
        lease_id=item["lease_id"],
        body=body,
        attempts=_count(item.get("attempts")),
        timestamp=_time(item.get("timestamp_ms")),
        content_type=content_type,
        metadata=metadata,
        lease_expires_at=expires,
        raw_body=raw,
        body_error=body_error,
    )


def send(queue_id: str, messages: Sequence[OutgoingMessage], *, repeat_ambiguous: bool) -> Call[SendResult]:
    """
    Send at most 100 messages of together at most 256 KB (``queues-push-messages``).

    The API has no idempotency key, so repeating a request whose answer was lost can duplicate its messages.

    :param queue_id: ID of the queue.
    :param messages: the messages, with content type and delay as the API gets them.
    :param repeat_ambiguous: repeat also where the messages may have been accepted.
    """
    return Call(
        name="send messages",
        method="POST",
        path=_messages_path(queue_id, "/batch"),
        queue=queue_id,
        payload={"messages": [outgoing_payload(message) for message in messages]},
        read=lambda envelope: SendResult(sent_count=len(messages), backlog=_backlog(envelope.result or {})),
        repeat_ambiguous=repeat_ambiguous,
    )


def outgoing_payload(message: OutgoingMessage) -> dict[str, Any]:
    """
    Return a message as the API gets it.

    :param message: the message.
    """
    return _without_none(body=message.body, content_type=message.content_type, delay_seconds=message.delay_seconds)


def get_metrics(queue_id: str) -> Call[QueueMetrics]:
    """
    Read the backlog (``queues-get-metrics``).

    :param queue_id: ID of the queue.
    """
    return Call(
        name="read the metrics",
        method="GET",
        path=_queue_path(queue_id, "/metrics"),
        queue=queue_id,
        read=lambda envelope: _metrics(envelope.result),
    )


def list_consumers(queue_id: str) -> Call[list[Consumer]]:
    """
    Read the consumers of a queue (``queues-list-consumers``).

    :param queue_id: ID of the queue.
    """
    return Call(
        name="read the consumers",
        method="GET",
        path=_queue_path(queue_id, "/consumers"),
        queue=queue_id,
        read=lambda envelope: [_consumer(item) for item in envelope.result or ()],
    )


def list_queues(page: int, name: str | None = None) -> Call[tuple[list[Queue], bool]]:
    """
    Read one page of the account's queues (``queues-list``), and whether there is a further one.

    The schema declares no query; Cloudflare's own wrangler sends ``page`` and ``name``, and so do we.

    :param page: 1 for the first.
    :param name: only the queue of this name, where the API heeds it.
    """

    def read(envelope: Envelope) -> tuple[list[Queue], bool]:
        queues = [_queue(item) for item in envelope.result or ()]
        return queues, bool(queues) and page < _pages(envelope.result_info)

    return Call(
        name="list the queues",
        method="GET",
        path="/accounts/{account_id}/queues",
        params=_without_none(page=page, name=name),
        read=read,
    )


def _pages(result_info: Mapping[str, Any]) -> int:
    total, size = _count(result_info.get("total_count")), _count(result_info.get("per_page"))
    return _count(result_info.get("total_pages")) or (math.ceil(total / size) if total and size else 1)


def verify_token(*, account_owned: bool) -> Call[str]:
    """
    Read the status of the API token: ``active``, ``disabled`` or ``expired``.

    :param account_owned: the token belongs to the account (prefix ``cfat_``), not to a user; each kind has an
        endpoint of its own and gets 401 on the other.
    """
    return Call(
        name="verify the API token",
        method="GET",
        path=("/accounts/{account_id}" if account_owned else "/user") + "/tokens/verify",
        read=lambda envelope: str(envelope.result["status"]),
    )


def _queue_path(queue_id: str, rest: str) -> str:
    return f"/accounts/{{account_id}}/queues/{queue_id}{rest}"


def _messages_path(queue_id: str, rest: str) -> str:
    return _queue_path(queue_id, f"/messages{rest}")


def _queue(item: Mapping[str, Any]) -> Queue:
    return Queue(
        queue_id=str(item["queue_id"]),
        queue_name=str(item["queue_name"]),
        settings=item.get("settings") or {},
        consumers_total_count=_count(item.get("consumers_total_count")),
        producers_total_count=_count(item.get("producers_total_count")),
    )


def _consumer(item: Mapping[str, Any]) -> Consumer:
    settings = item.get("settings") or {}
    timeout_ms = _count(settings.get("visibility_timeout_ms"))
    return Consumer(
        type=item.get("type", ""),
        consumer_id=item.get("consumer_id"),
        dead_letter_queue=item.get("dead_letter_queue") or None,
        max_retries=_count(settings.get("max_retries")),
        visibility_timeout=timeout_ms / 1000 if timeout_ms and timeout_ms <= MAX_VISIBILITY_SECONDS * 1000 else None,
        retry_delay=settings.get("retry_delay"),
        batch_size=_count(settings.get("batch_size")),
    )


def _backlog(result: Mapping[str, Any]) -> QueueMetrics | None:
    """Read the backlog beside a pull or send: ``metadata.metrics`` since April 2026, one count before that."""
    if metrics := (result.get("metadata") or {}).get("metrics"):
        return _metrics(metrics)
    count = _count(result.get("message_backlog_count"))
    return None if count is None else QueueMetrics(backlog_count=count)


def _metrics(item: Mapping[str, Any]) -> QueueMetrics:
    return QueueMetrics(
        backlog_count=_count(item["backlog_count"]) or 0,
        backlog_bytes=_count(item.get("backlog_bytes")),
        oldest_message_timestamp=_time(item.get("oldest_message_timestamp_ms")),
    )


def _count(value: Any) -> int | None:
    """Read a count; what is no whole number from 0 up counts as not reported."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0 or value % 1:
        return None
    return int(value)


def _time(milliseconds: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, timezone.utc) if milliseconds else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
