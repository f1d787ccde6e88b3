"""Send outcomes to the API in as few requests as possible, while other messages are being handled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from airflow_provider_cfqueues.client.message_calls import MAX_LEASES_PER_ACK
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.queue import MessageQueue
from airflow_provider_cfqueues.engines.sending import Sender
from airflow_provider_cfqueues.engines.settlement import Settlement, Situation
from airflow_provider_cfqueues.engines.settling import Settling, settle_until_leases_end
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.models import Message


class Settler:
    """
    Gathers settlements and sends them: when a hundred wait, or when the oldest has waited long enough.

    :param queue: the queue.
    :param situation: decides again what becomes of a message whose copy is not accepted.
    :param interval: the longest that a settlement waits, in seconds.
    :param report: counts what was confirmed and what was not.
    :param on_settled: called with the number of messages that are no longer open, and whether the API confirmed any.
    :param on_error: called with the failure of a request that failed for good.
    :param now: tells the time that leases are compared with.
    :param rest: waits so many seconds; returns False once the task is killed.
    :param log: where messages go that may be lost.
    :param on_confirmed: called with each message whose settlement the API confirmed.
    """

    def __init__(
        self,
        queue: MessageQueue,
        situation: Situation,
        *,
        interval: float,
        report: Report,
        on_settled: Callable[[int, bool], None],
        on_error: Callable[[Exception], None],
        now: Callable[[], datetime],
        rest: Callable[[float], Awaitable[bool]],
        log: Any,
        on_confirmed: Callable[[Message], None] | None = None,
    ) -> None:
        self._queue = queue
        self._situation = situation
        self._sender = Sender()
        self._interval = interval
        self._report = report
        self._on_settled = on_settled
        self._on_error = on_error
        self._now = now
        self._rest = rest
        self._log = log
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
        settling = Settling(batch, self._situation, sender=self._sender)
        why_open = "the run ended before the API answered"
        try:
            await settle_until_leases_end(
                self._queue.settle,
                settling,
                queue_name=self._queue.name,
                now=self._now,
                rest=self._rest,
                on_error=self._on_error,
                log=self._log,
            )
        except CloudflareQueuesError as error:
            why_open = error.message
            self._on_error(error)
        finally:  # whatever was raised: no lease goes uncounted
            self._report.count(settling)
            for settlement, confirmed in settling.settled:
                if confirmed and self._on_confirmed is not None:
                    self._on_confirmed(settlement.message)
            self._on_settled(len(batch), any(confirmed for _, confirmed in settling.settled))
            self._report.unconfirmed.note(self._log, self._queue.name, settling.unconfirmed(why_open))

    def _ended(self, request: asyncio.Task[None]) -> None:
        del self.requests[request]
        if not request.cancelled() and isinstance(error := request.exception(), Exception):
            self._on_error(error)
