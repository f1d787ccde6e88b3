"""Tell the API what was decided of messages, with nothing deleted that nobody kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_cfqueues.client.message_calls import MAX_LEASES_PER_ACK
from airflow_provider_cfqueues.engines.settlement import Kind, Settlement
from airflow_provider_cfqueues.engines.watching.source import OpenQueue
from airflow_provider_cfqueues.exceptions import list_leases
from airflow_provider_cfqueues.models import Lease


class Settling:
    """
    The settlements of a batch, sent as often as it takes.

    :param settlements: what was decided.
    :param delay_seconds: how long a message waits that cannot be dead-lettered.
    :param queue_name: what the log calls the queue.
    """

    def __init__(
        self, settlements: Sequence[Settlement], *, delay_seconds: int | None, queue_name: str, log: Any = None
    ) -> None:
        self._settlements = list(settlements)
        self._delay_seconds = delay_seconds
        self._queue_name = queue_name
        self._log = log or logging.getLogger(__name__)
        self._is_prepared = False

    @property
    def lease_ids(self) -> list[str]:
        """The leases that are not settled yet."""
        return [one.message.lease_id for one in self._settlements]

    async def send(self, queue: OpenQueue) -> None:
        """
        Copy what is rejected to the dead-letter queue, then ack and give back, 100 leases a request.

        Called again after a failure, it goes on where it failed: a copy that was accepted is not made again.

        :param queue: the queue.
        :raises CloudflareQueuesError: the API did not accept it.
        """
        if not self._is_prepared:
            self._settlements = [self._save(one, queue) for one in self._settlements]
            self._is_prepared = True
        await self._dead_letter(queue)
        while self._settlements:
            now = self._settlements[:MAX_LEASES_PER_ACK]
            acks = [one.message.lease_id for one in now if one.kind is Kind.ACKED]
            retries = [
                Lease(lease_id=one.message.lease_id, delay_seconds=one.delay_seconds)
                for one in now
                if one.kind is Kind.RETRIED
            ]
            result = await queue.calls.ack(acks, retries)
            del self._settlements[: len(now)]
            self._log.info("Queue %s: %d messages acked, %d given back", self._queue_name, len(acks), len(retries))
            if result.unconfirmed:
                self._log.warning(
                    "Leases of queue %s not confirmed: %s", self._queue_name, list_leases(result.unconfirmed)
                )

    def _save(self, settlement: Settlement, queue: OpenQueue) -> Settlement:
        """Dead-letter what Cloudflare would take away, or say that it will; give back what cannot be dead-lettered."""
        message = settlement.message
        if settlement.kind is Kind.REJECTED and not queue.calls.can_dead_letter:
            self._log.warning(
                "Message %s of queue %s is given back, because there is no dead-letter queue for it: %s",
                message.id,
                self._queue_name,
                settlement.reason,
            )
            settlement = replace(settlement, kind=Kind.RETRIED, delay_seconds=self._delay_seconds)
        consumer = queue.consumer
        if settlement.kind is not Kind.RETRIED or consumer is None or not consumer.is_last_delivery(message.attempts):
            return settlement
        if queue.calls.can_dead_letter:
            reason = f"{settlement.reason} (delivered {message.attempts} times)"
            return replace(settlement, kind=Kind.REJECTED, reason=reason)
        self._log.error(
            "Message %s of queue %s was delivered %s times: Cloudflare DELETES it now or after its next delivery (%s). "
            "Set a dead-letter queue",
            message.id,
            self._queue_name,
            message.attempts,
            settlement.reason,
        )
        return settlement

    async def _dead_letter(self, queue: OpenQueue) -> None:
        rejected = [(one.message, one.reason) for one in self._settlements if one.kind is Kind.REJECTED]
        if not rejected:
            return
        accepted = await queue.calls.dead_letter(rejected)
        for message, reason in rejected:
            fate = "dead-lettered" if message.lease_id in accepted else "given back, too large for a dead letter"
            self._log.warning("Message %s of queue %s is %s: %s", message.id, self._queue_name, fate, reason)
        self._settlements = [self._after_copy(one, accepted) for one in self._settlements]

    def _after_copy(self, settlement: Settlement, accepted: set[str]) -> Settlement:
        if settlement.kind is not Kind.REJECTED:
            return settlement
        if settlement.message.lease_id in accepted:
            return replace(settlement, kind=Kind.ACKED)
        return replace(settlement, kind=Kind.RETRIED, delay_seconds=self._delay_seconds)
