"""Send outcomes to the API in as few requests as possible, while other messages are being handled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from airflow_provider_cfqueues.client.message_calls import MAX_LEASES_PER_ACK
from airflow_provider_cfqueues.engines.copies import Sender
from airflow_provider_cfqueues.engines.processing.state import RunState
from airflow_provider_cfqueues.engines.settlement import Settlement
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.models import Message


class Settler:
    """
    Gathers settlements and sends them: when a hundred wait, or when the oldest has waited long enough.

    A dry run sends all at its end: a message that is given back earlier would be delivered again.

    :param on_settled: called with settlements that are no longer open.
    """

    def __init__(self, state: RunState, on_settled: Callable[[Settling], None]) -> None:
        self._state = state
        self._on_settled = on_settled
        self._sender = Sender()
        self._staged: list[Settlement] = []
        self._timer: asyncio.TimerHandle | None = None
        self.requests: dict[asyncio.Task[Any], list[Settlement]] = {}
        """What is under way, in order."""

    def stage(self, settlement: Settlement) -> None:
        """Take a settlement; it is sent at the latest after ``settle_interval``."""
        self._staged.append(settlement)
        if self._state.options.dry_run:
            return
        if len(self._staged) >= MAX_LEASES_PER_ACK:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._state.options.settle_interval, self.flush)

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
            self._state.start(self._send(batch), self.requests, batch)

    async def _send(self, batch: list[Settlement]) -> None:
        state = self._state
        settling = Settling(batch, state.situation, sender=self._sender)
        try:
            await state.settle(settling)
        finally:  # whatever was raised: no lease goes uncounted
            state.report.count(settling)
            self._on_settled(settling)
