"""The calls about the messages of a queue; ``queue_id`` is always the queue's ID."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_cfqueues.bodies import decode_body, encode_plain
from airflow_provider_cfqueues.client import reading
from airflow_provider_cfqueues.client.answers import text_of
from airflow_provider_cfqueues.client.call import BYTES_AT_ONCE, Call, Envelope
from airflow_provider_cfqueues.exceptions import list_leases
from airflow_provider_cfqueues.models import (
    AckResult,
    Lease,
    Message,
    OutgoingMessage,
    PeekedMessage,
    PullResult,
    QueueMetrics,
    SendResult,
)
from airflow_provider_cfqueues.texts import counted, printable

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

    :param acks: leases of messages that are done.
    :param retries: leases of messages to deliver again.
    """

    def read(envelope: Envelope) -> AckResult:
        result = envelope.result or {}
        warnings = _warnings(result.get("warnings"))
        retried = [lease.lease_id for lease in retries]
        foreign = len(warnings.keys() - {*acks, *retried})
        ack_count, confirmed_acks, open_acks = _judge(acks, result, "ackCount", warnings, foreign)
        retry_count, confirmed_retries, open_retries = _judge(retried, result, "retryCount", warnings, foreign)
        return AckResult(
            ack_count=ack_count,
            retry_count=retry_count,
            warnings=warnings,
            messages=envelope.messages,
            confirmed_acks=confirmed_acks,
            confirmed_retries=confirmed_retries,
            unconfirmed=(*open_acks, *open_retries),
            repeated=envelope.repeated,
        )

    return reading.queue_call(
        queue_id,
        "POST /messages/ack",
        operation="ack",
        name="settle leases",
        payload={
            "acks": [{"lease_id": lease_id} for lease_id in acks],
            "retries": [reading.without_none(lease_id=r.lease_id, delay_seconds=r.delay_seconds) for r in retries],
        },
        encode=encode_plain,
        read=read,
    )


def _judge(
    lease_ids: Sequence[str], result: Mapping[str, Any], key: str, warnings: Mapping[str, str], foreign: int
) -> tuple[int | None, int, list[str]]:
    """
    Return the count that the API reported, how many leases it did not contradict, and which may not be settled.

    A count that is not a number confirms nothing, and neither does a result without fields. Without a count,
    each warning that names none of the leases (``foreign``) may mean any of them.
    """
    count = reading.read_count(result.get(key))
    warned = [lease_id for lease_id in lease_ids if lease_id in warnings]
    confirmed = len(lease_ids) - len(warned)
    if count is not None:
        confirmed = min(confirmed, count)
    elif result.get(key) is not None or not result:
        confirmed = 0
    else:
        confirmed = max(0, confirmed - foreign)
    explained = confirmed + len(warned) >= len(lease_ids)
    return count, confirmed, warned if explained else list(lease_ids)


def _warnings(value: Any) -> dict[str, str]:
    """Read ``warnings`` in each form seen: missing, null, a map by lease, or a list (before February 2026)."""
    if isinstance(value, Mapping):
        return {str(lease_id): text_of(text) for lease_id, text in value.items()}
    listed = value if isinstance(value, list) else [value] if value else ()
    return {f"#{position}": text_of(text) for position, text in enumerate(listed)}


def pull(queue_id: str, max_messages: int, visibility_timeout: float | None, lease_seconds: float) -> Call[PullResult]:
    """
    Lease at most 100 messages (``queues-pull-messages``).

    Repeating it is allowed but has a cost: if an answer was lost, its batch stays leased until the leases end.

    :param max_messages: 1 to 100.
    :param visibility_timeout: seconds that the leases last; None = the consumer's setting.
    :param lease_seconds: how long the leases last in either case.
    """

    async def read(envelope: Envelope) -> PullResult:
        result = envelope.result or {}
        expires = envelope.sent_at + timedelta(seconds=lease_seconds)
        items = result.get("messages") or ()
        leased = [item for item in items if _has_lease(item)]
        messages: list[Message] = []
        unread = 0
        for item in leased:
            message = _read_message(item, item["lease_id"], expires)
            messages.append(message)
            unread += len(message.raw_body) if isinstance(message.raw_body, str) else 0
            if unread > BYTES_AT_ONCE:
                unread = 0
                await asyncio.sleep(0)
        once = _each_once(messages)
        return PullResult(
            messages=tuple(once),
            backlog=reading.read_backlog(result),
            without_lease=len(items) - len(leased),
            remarks=tuple(_remarks(len(items), max_messages, messages, once)),
        )

    milliseconds = None if visibility_timeout is None else round(visibility_timeout * 1000)
    return reading.queue_call(
        queue_id,
        "POST /messages/pull",
        operation="pull",
        name="pull messages",
        payload=reading.without_none(batch_size=max_messages, visibility_timeout_ms=milliseconds),
        read=read,
    )


def _has_lease(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("lease_id"), str) and item["lease_id"] != ""


def _each_once(messages: list[Message]) -> list[Message]:
    """Return the messages without those whose lease or ID an earlier one of the same answer has."""
    by_lease = {message.lease_id: message for message in reversed(messages)}
    by_id = {message.id: message for message in reversed(messages)}
    return [
        message
        for message in messages
        if by_lease[message.lease_id] is message and (by_id[message.id] is message or not message.id)
    ]


def _remarks(count: int, asked_for: int, leased: list[Message], once: list[Message]) -> Iterator[str]:
    """Say what is odd in an answer of so many messages. The client knows no names of queues: the hook logs this."""
    if count > asked_for:
        yield f"a pull got {counted(count, 'message')}; it asked for {asked_for}"
    if len(once) < len(leased):
        kept = set(map(id, once))
        twice = [message.lease_id for message in leased if id(message) not in kept]
        yield (
            f"a pull got {counted(len(twice), 'message')} twice. Each is handled once; these leases end by themselves: "
            f"{list_leases(twice)}"
        )
    if without_lease := count - len(leased):
        it, its = ("it", "its") if without_lease == 1 else ("they", "their")
        yield (
            f"{counted(without_lease, 'message')} came without a lease ID: {it} cannot be acked or retried before "
            f"{its} next delivery"
        )


def _read_message(item: Mapping[str, Any], lease_id: str, expires: datetime | None) -> Message:
    """Read a message; nothing but its lease is required, and nothing odd in it may hide the others."""
    metadata = item.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    content_type, raw = metadata.get("CF-Content-Type"), item.get("body")
    body = body_error = None
    try:
        body = decode_body(raw, content_type)
    except ValueError as error:
        body_error = printable(error)
    return Message(
        id=printable(item.get("id") or ""),
        lease_id=lease_id,
        body=body,
        attempts=reading.read_count(item.get("attempts")),
        timestamp=reading.read_time(item.get("timestamp_ms")),
        content_type=content_type,
        metadata=metadata,
        lease_expires_at=expires,
        raw_body=raw,
        body_error=body_error,
    )


def peek(queue_id: str, max_messages: int) -> Call[list[PeekedMessage]]:
    """
    Look at the next at most 100 messages without leasing them (``queues-peek-messages``).

    :param max_messages: 1 to 100.
    """

    def read(envelope: Envelope) -> list[PeekedMessage]:
        items = (envelope.result or {}).get("messages") or ()
        return [_read_peeked(item) for item in items if isinstance(item, Mapping)]

    return reading.queue_call(
        queue_id,
        "POST /messages/peek",
        operation="peek",
        name="peek at messages",
        payload={"batch_size": max_messages},
        read=read,
    )


def _read_peeked(item: Mapping[str, Any]) -> PeekedMessage:
    message = _read_message(item, "", None)
    common = set(Message.__struct_fields__) & set(PeekedMessage.__struct_fields__)
    return PeekedMessage(ref=item.get("ref"), **{name: getattr(message, name) for name in common})


def send(queue_id: str, messages: Sequence[OutgoingMessage], *, repeat_ambiguous: bool) -> Call[SendResult]:
    """
    Send at most 100 messages of together at most 256 KB (``queues-push-messages``).

    The API has no idempotency key, so repeating a request whose answer was lost can duplicate its messages.

    :param messages: the messages, with content type and delay as the API gets them.
    :param repeat_ambiguous: repeat also where the messages may have been accepted.
    """
    return reading.queue_call(
        queue_id,
        "POST /messages/batch",
        operation="send",
        name="send messages",
        payload={"messages": [outgoing_payload(message) for message in messages]},
        read=lambda envelope: SendResult(sent_count=len(messages), backlog=reading.read_backlog(envelope.result or {})),
        repeat_ambiguous=repeat_ambiguous,
    )


def outgoing_payload(message: OutgoingMessage) -> dict[str, Any]:
    """
    Return a message as the API gets it.

    :param message: the message.
    """
    payload = {"body": message.body, "content_type": message.content_type}
    if message.delay_seconds is not None:
        payload["delay_seconds"] = message.delay_seconds
    return payload


def get_metrics(queue_id: str) -> Call[QueueMetrics]:
    """Read the backlog (``queues-get-metrics``)."""
    return reading.queue_call(
        queue_id,
        "GET /metrics",
        operation="get_metrics",
        name="read the metrics",
        read=lambda envelope: reading.read_metrics(envelope.result),
    )
