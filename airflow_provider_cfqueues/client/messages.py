"""Pulling, settling and sending messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_cfqueues.bodies import encode_json
from airflow_provider_cfqueues.client import message_calls
from airflow_provider_cfqueues.client.flow import API_VISIBILITY_SECONDS, Flow
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, Progress
from airflow_provider_cfqueues.models import (
    AckResult,
    Consumer,
    Lease,
    OutgoingMessage,
    PullResult,
    SendResult,
)


def ack(queue_id: str, acks: Sequence[Lease], retries: Sequence[Lease]) -> Flow[AckResult]:
    """
    Settle leases, at most 100 a request.

    A lease that is given twice is settled once. If it is in both lists, it is retried, not acked. If it is twice among
    the retries, the last delay counts.

    :param queue_id: ID of the queue.
    :param acks: leases of messages that are done.
    :param retries: leases of messages to deliver again.
    :raises ValueError: an ack has a delay.
    :raises CloudflareQueuesError: a request failed for good; ``progress`` has the leases by what is known of them.
    """
    if delayed := [lease for lease in acks if lease.delay_seconds is not None]:
        raise ValueError(
            f"an ack has no delay_seconds ({len(delayed)} of {len(acks)} have one): give these leases as retries"
        )
    to_retry = {lease.lease_id: lease for lease in retries}
    to_ack = {lease.lease_id: None for lease in acks if lease.lease_id not in to_retry}
    lease_ids = [*to_ack, *to_retry]
    result = AckResult()
    for start in range(0, len(lease_ids), message_calls.MAX_LEASES_PER_ACK):
        batch = lease_ids[start : start + message_calls.MAX_LEASES_PER_ACK]
        try:
            part = yield message_calls.ack(
                queue_id,
                [lease_id for lease_id in batch if lease_id in to_ack],
                [to_retry[lease_id] for lease_id in batch if lease_id in to_retry],
            )
        except CloudflareQueuesError as error:
            error.add(progress=_progress("leases", lease_ids, start, len(batch), error, result, result.unconfirmed))
            raise
        result = result.merge(part)
    return result


def pull(
    queue_id: str, max_messages: int, visibility_timeout: float | None, consumer: Consumer | None
) -> Flow[PullResult]:
    """
    Lease messages: one request for each 100 asked for, until an answer is empty.

    An answer may hold fewer messages than asked for although more are waiting. A further request would be billed.

    :param queue_id: ID of the queue.
    :param max_messages: how many messages at the most.
    :param visibility_timeout: seconds that the leases last; None = the consumer's setting.
    :param consumer: the queue's pull consumer, where it could be read: says how long leases last.
    :raises CloudflareQueuesError: the first request failed for good. A later failure is the result's ``error``: the
        messages leased before it are not hidden behind it.
    """
    timeouts = (visibility_timeout, consumer.visibility_timeout if consumer else None, API_VISIBILITY_SECONDS)
    lease_seconds = next(seconds for seconds in timeouts if seconds is not None)
    result = PullResult(consumer=consumer)
    for asked in range(0, max_messages, message_calls.MAX_MESSAGES_PER_PULL):
        size = min(max_messages - asked, message_calls.MAX_MESSAGES_PER_PULL)
        try:
            part: PullResult = yield message_calls.pull(queue_id, size, visibility_timeout, lease_seconds)
        except CloudflareQueuesError as error:
            if not result.messages:
                raise
            return replace(result, error=error)
        result = replace(
            result,
            messages=result.messages + part.messages,
            backlog=part.backlog or result.backlog,
            without_lease=result.without_lease + part.without_lease,
            remarks=result.remarks + part.remarks,
        )
        if not part.messages:
            break
    return result


def send(queue_id: str, messages: Sequence[OutgoingMessage], *, repeat_ambiguous: bool) -> Flow[SendResult]:
    """
    Send messages, in requests of at most 100 messages and 256 KB.

    :param queue_id: ID of the queue.
    :param messages: the messages, with content type and delay as the API gets them.
    :param repeat_ambiguous: repeat also where the messages may have been accepted (it may duplicate them).
    :raises ValueError: a message is larger than 128 KB or is no JSON; nothing was sent.
    :raises CloudflareQueuesError: a request failed for good; ``progress`` has the positions of the messages by what is
        known of them.
    """
    result = SendResult()
    start = 0
    for batch in list(batches(messages)):  # all are measured before the first is sent
        try:
            part: SendResult = yield message_calls.send(queue_id, batch, repeat_ambiguous=repeat_ambiguous)
        except CloudflareQueuesError as error:
            error.add(progress=_progress("messages", range(len(messages)), start, len(batch), error, result))
            raise
        start += len(batch)
        result = SendResult(sent_count=start, backlog=part.backlog)
    return result


def fits(message: OutgoingMessage) -> bool:
    """
    Return whether a message can be sent: it is JSON or text of at most 128 KB.

    :param message: the message, with its content type.
    """
    try:
        _wire_size(message, 0)
    except ValueError:
        return False
    return True


def batches(messages: Sequence[OutgoingMessage]) -> Iterator[Sequence[OutgoingMessage]]:
    """
    Part messages into those that one request can have, in order.

    :param messages: the messages, with their content type.
    :raises ValueError: a message is larger than 128 KB or is no JSON.
    """
    start = 0
    while start < len(messages):
        batch = messages[start : start + message_calls.MAX_MESSAGES_PER_SEND]
        if not _are_small(batch):
            batch = batch[: _how_many_fit(batch, start)]
        yield batch
        start += len(batch)


def _are_small(batch: Sequence[OutgoingMessage]) -> bool:
    """Return whether all of them together are smaller than the limit for one: then no single one is measured."""
    try:
        text = json.dumps(
            [(message.body, message.content_type) for message in batch], ensure_ascii=False, allow_nan=False
        )
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError):
        return False
    return size + len(batch) * message_calls.MESSAGE_OVERHEAD_BYTES <= message_calls.MAX_BYTES_PER_MESSAGE


def _how_many_fit(batch: Sequence[OutgoingMessage], start: int) -> int:
    size = 0
    for count, message in enumerate(batch):
        size += _wire_size(message, start + count)
        if size > message_calls.MAX_BYTES_PER_SEND:
            return count
    return len(batch)


def _wire_size(message: OutgoingMessage, position: int) -> int:
    try:
        body = message.body
        content = body.encode(errors="surrogatepass") if message.content_type == "text" else encode_json(body)
        size = len(content) + message_calls.MESSAGE_OVERHEAD_BYTES
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"messages[{position}]: the body cannot be sent as JSON: {error}. Nothing was sent") from error
    if size > message_calls.MAX_BYTES_PER_MESSAGE:
        raise ValueError(
            f"messages[{position}] is {size} bytes with its metadata; Cloudflare takes at most "
            f"{message_calls.MAX_BYTES_PER_MESSAGE}. Nothing was sent. Store the body elsewhere and send a reference"
        )
    return size


def _progress(
    kind: str,
    items: Sequence[Any],
    start: int,
    size: int,
    error: CloudflareQueuesError,
    result: Any,
    unconfirmed: tuple[Any, ...] = (),
) -> Progress:
    """Part the items into those before, in and after the failed request."""
    failed, after = tuple(items[start : start + size]), tuple(items[start + size :])
    not_confirmed = set(unconfirmed)
    return Progress(
        kind=kind,
        done=tuple(item for item in items[:start] if item not in not_confirmed),
        unconfirmed=unconfirmed,
        unknown=failed if error.maybe_applied else (),
        not_done=after if error.maybe_applied else failed + after,
        result=result,
    )
