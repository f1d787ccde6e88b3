"""Send outcomes to the API in as few requests as possible, while other messages are being handled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from airflow_provider_cfqueues.client.message_calls import MAX_LEASES_PER_ACK
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.queue import MessageQueue
from airflow_provider_cfqueues.engines.settlement import Settlement
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.models import Lease, Message


class Settler:
    """
    Gathers settlements and sends them: when a hundred wait, or when the oldest has waited long enough.

    :param queue: the queue.
    :param interval: the longest that a settlement waits, in seconds.
    :param report: counts what was confirmed and what was not.
    :param on_settled: called with the number of messages that are no longer open.
    :param on_error: called with the failure of a request that failed for good.
    :param leaves: says of a message whose copy was not accepted whether it stays leased, as giving it back may delete
        it; it counts as unconfirmed then.
    :param on_confirmed: called with each message whose settlement the API confirmed.
    """

    def __init__(
        self,
        queue: MessageQueue,
        *,
        interval: float,
        report: Report,
        on_settled: Callable[[int], None],
        on_error: Callable[[Exception], None],
        leaves: Callable[[Message], bool],
        on_confirmed: Callable[[Message], None] | None = None,
    ) -> None:
        self._queue = queue
        self._interval = interval
        self._report = report
        self._on_settled = on_settled
        self._on_error = on_error
        self._leaves = leaves
        self._on_confirmed = on_confirmed
        self._staged: list[Settlement] = []
        self._timer: asyncio.TimerHandle | None = None
        self.requests: dict[asyncio.Task[Any], list[Settlement]] = {}
        """What is under way, in order."""

    def stage(self, settlement: Settlement) -> None:
        """
        Take a settlement; it is sent at the latest after the interval.

        :param settlement: the settlement.
        """
        self._staged.append(settlement)
        if len(self._staged) >= MAX_LEASES_PER_ACK:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self.flush)

    def open_messages(self) -> list[Message]:
        """Return the messages whose outcome the API was not told, or did not answer yet."""
        return [settlement.message for batch in (self._staged, *self.requests.values()) for settlement in batch]

    async def give_up(self) -> None:
        """Cancel the requests that are not answered; their leases count as not confirmed."""
        requests = [*self.requests]
        for request in requests:
            request.cancel()
        if requests:
            await asyncio.wait(requests)

    def flush(self) -> None:
        """Send what is staged, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._staged:
            # Taken out before the first await, into a task that owns them: a slow request cannot drop what comes next.
            batch, self._staged = self._staged[:MAX_LEASES_PER_ACK], self._staged[MAX_LEASES_PER_ACK:]
            request = asyncio.get_running_loop().create_task(self._send(batch))
            self.requests[request] = batch
            request.add_done_callback(self._ended)

    async def _send(self, batch: list[Settlement]) -> None:
        """Copy what is rejected to the dead-letter queue, then settle; what was not copied is given back."""
        unconfirmed = {settlement.message.lease_id for settlement in batch}
        try:
            batch = await self._dead_letter(batch)
            acks = [one.message.lease_id for one in batch if one.kind not in ("retried", "unconfirmed")]
            retries = [
                Lease(lease_id=one.message.lease_id, delay_seconds=one.delay_seconds)
                for one in batch
                if one.kind == "retried"
            ]
            left = {one.message.lease_id for one in batch if one.kind == "unconfirmed"}
            unconfirmed = {*(await self._queue.ack(acks, retries)).unconfirmed, *left} if acks or retries else left
        except CloudflareQueuesError as error:
            self._on_error(error)
        finally:  # whatever was raised: no lease goes uncounted
            for settlement in batch:
                confirmed = settlement.message.lease_id not in unconfirmed
                kind = settlement.kind if confirmed else "unconfirmed"
                setattr(self._report, kind, getattr(self._report, kind) + 1)
                if confirmed and self._on_confirmed is not None:
                    self._on_confirmed(settlement.message)
            self._on_settled(len(batch))

    def _ended(self, request: asyncio.Task[None]) -> None:
        del self.requests[request]
        if not request.cancelled() and isinstance(error := request.exception(), Exception):
            self._on_error(error)

    async def _dead_letter(self, batch: list[Settlement]) -> list[Settlement]:
        """Return the batch with those given back, or left leased, that the dead-letter queue did not accept."""
        rejected = [(settlement.message, settlement.reason) for settlement in batch if settlement.kind == "rejected"]
        accepted: set[str] = set()
        if rejected:
            try:
                accepted = await self._queue.dead_letter(rejected)
            except CloudflareQueuesError as error:
                self._on_error(error)
        return [
            Settlement(
                message=settlement.message, kind="unconfirmed" if self._leaves(settlement.message) else "retried"
            )
            if settlement.kind == "rejected" and settlement.message.lease_id not in accepted
            else settlement
            for settlement in batch
        ]
