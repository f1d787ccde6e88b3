"""
The rule for messages that were pulled and not moved: none is given back that Cloudflare could delete by that.

Where this may have been its last delivery, a copy is sent to the message's own queue, and only then is it acked. Where
that fails too, it stays leased until the lease ends, for somebody to give the queue's consumer more deliveries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from airflow_provider_cfqueues.engines.copies import copy
from airflow_provider_cfqueues.engines.redriving.sending import Sender
from airflow_provider_cfqueues.engines.waiting import utc_now
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.models import Consumer, Message, OutgoingMessage

MIN_WAIT_SECONDS = 5.0
UNKNOWN = Consumer(type="http_pull", max_retries=0)
"""A consumer that cannot be looked at: any delivery may be the last."""


class LastDeliveries:
    """
    Keeps messages of a queue that a further delivery may not await.

    :param sender: sends the copies.
    :param queue_id: ID of the queue.
    :param rest: waits so many seconds; returns False where there is no time for that.
    :param on_error: gets what keeps copies from being sent.
    :param log: where messages go that cannot be kept.
    """

    def __init__(
        self,
        sender: Sender,
        queue_id: str,
        *,
        rest: Callable[[float], Awaitable[bool]],
        on_error: Callable[[CloudflareQueuesError], None],
        log: Any,
    ) -> None:
        self.consumer = UNKNOWN
        self._sender = sender
        self._queue_id = queue_id
        self._rest = rest
        self._on_error = on_error
        self._log = log
        self._has_warned = False

    def has(self, message: Message) -> bool:
        """
        Return whether Cloudflare may delete a message that is given back.

        Where the queue has a dead-letter queue of its own, nothing is deleted: messages go there, which is told once.

        :param message: the message.
        """
        if not self.consumer.is_last_delivery(message.attempts):
            return False
        if self.consumer.dead_letter_queue is None:
            return True
        if not self._has_warned:
            self._has_warned = True
            self._log.warning(
                "Queue %s has a dead-letter queue of its own, %s: messages that are not moved go there after their "
                "last delivery",
                self._queue_id,
                self.consumer.dead_letter_queue,
            )
        return False

    async def renew(self, messages: Sequence[Message], delays: Mapping[str, int]) -> list[Message]:
        """
        Send messages anew to their own queue; return those that it accepted. The others stay leased.

        :param messages: the messages.
        :param delays: seconds until a copy can be delivered, by lease; where there are none, at once.
        """
        copies: dict[str, OutgoingMessage] = {}
        for message in messages:
            with suppress(ValueError):  # it was told of as a message that cannot be moved
                delay = delays.get(message.lease_id, 0)
                copies[message.lease_id] = replace(copy(message, unwrapped=False), delay_seconds=delay)
        sent: set[str] = set()
        while left := {lease_id: copied for lease_id, copied in copies.items() if lease_id not in sent}:
            try:
                await self._sender.send(self._queue_id, left, sent=sent, refused={}, may_begin=_at_once)
                break
            except CloudflareQueuesError as error:
                self._on_error(error)
                if not await self._can_wait(error, messages):
                    break
        if held := [message for message in messages if message.lease_id not in sent]:
            self._warn_of(held)
        return [message for message in messages if message.lease_id in sent]

    async def _can_wait(self, error: CloudflareQueuesError, messages: Sequence[Message]) -> bool:
        """Wait until a failed request may work, where that is before the leases end; return whether it is."""
        wait = max(error.retry_after or 0, MIN_WAIT_SECONDS)
        if not error.repeatable or utc_now() + timedelta(seconds=wait) >= _end_of_leases(messages):
            return False
        self._log.warning(
            "%d messages of queue %s may have had their last delivery: sending them anew is tried again in %.0f s",
            len(messages),
            self._queue_id,
            wait,
        )
        return await self._rest(wait)

    def _warn_of(self, held: Sequence[Message]) -> None:
        self._log.error(
            "No copy of %d messages of queue %s could be sent, and they were delivered %s times: Cloudflare DELETES "
            "them when their leases end, at %s UTC. Before that, raise max_retries of the queue's consumer, or set a "
            "dead-letter queue there: %s",
            len(held),
            self._queue_id,
            max(message.attempts or 0 for message in held),
            f"{_end_of_leases(held):%H:%M:%S}",
            ", ".join(message.id for message in held),
        )


async def _at_once() -> bool:
    return True  # no pace is worth a message


def _end_of_leases(messages: Sequence[Message]) -> Any:
    return min(message.lease_expires_at or utc_now() for message in messages)
