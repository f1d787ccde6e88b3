"""Pull ahead, as far as the window says, until the queue is idle or nothing more is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from airflow_provider_cfqueues.engines.processing.state import RunState
from airflow_provider_cfqueues.engines.processing.window import Window
from airflow_provider_cfqueues.engines.queue import NOT_ASKED
from airflow_provider_cfqueues.engines.waiting import Idling
from airflow_provider_cfqueues.models import PullResult


class Puller:
    """
    Makes the pulls, several at once where the window has room for them.

    :param on_pulled: gets each answer, with the number of messages that were asked for.
    """

    def __init__(self, state: RunState, on_pulled: Callable[[PullResult, int], None]) -> None:
        self._state = state
        self._on_pulled = on_pulled
        self.window = Window(state.options)
        self.idling = Idling(state.options.idle_timeout, state.options.poll_interval)
        self.requests: dict[asyncio.Task[None], None] = {}
        self._wants_no_more = False
        self._dry_ids: set[str] = set()

    def pull_no_more(self) -> None:
        """Begin no further pull. What is pulled is handled: giving a message back would cost a delivery."""
        self._wants_no_more = True
        self._state.notify()

    async def run(self) -> None:
        """Pull until the queue is idle, a limit is reached or the run stops; then wait for what is under way."""
        while True:
            now = self._state.clock()
            is_over = self._wants_no_more or self._state.is_stopping
            is_over = is_over or self.window.is_spent or self.idling.is_over(now)
            if is_over and not self.requests:
                return
            if not is_over:
                self._begin(now)
            await self._state.wait(timeout=None if is_over else self.idling.seconds_left(now))

    def _begin(self, now: float) -> None:
        """Begin the pulls that there is room for, one at a time while the queue is idle."""
        if self.idling.is_idle and (self.requests or self.idling.is_early(now)):
            return
        sizes = self.window.sizes()
        for size in sizes[:1] if self.idling.is_idle else sizes:
            self.window.begin(size)
            self._state.start(self._pull(size), self.requests, None)

    async def _pull(self, size: int) -> None:
        try:
            pulled = await self._state.queue.pull(size)
            if pulled is not NOT_ASKED:
                self._take_in(pulled, size)
        finally:
            self.window.end(size)

    def _take_in(self, pulled: PullResult, size: int) -> None:
        report = self._state.report
        if pulled.backlog is not None:
            report.backlog = pulled.backlog.backlog_count
        if pulled and not self.window.open:
            report.activity.began(self._state.clock())
        report.pulled += len(pulled)
        report.attempts.update(message.attempts or 0 for message in pulled)
        self.window.take_in(pulled)
        if self._state.options.dry_run:
            self._end_at_repeats(pulled)
        self._on_pulled(pulled, size)
        self.idling.answered(len(pulled), self._state.clock())

    def _end_at_repeats(self, pulled: PullResult) -> None:
        """End a dry run that outlasts its leases: its messages would be delivered again until no delivery is left."""
        ids = {message.id for message in pulled}
        if repeated := ids & self._dry_ids:
            ends = "The dry run ends: it took longer than its leases, so message %s was delivered again"
            self._state.log.info(ends, min(repeated))
            self.pull_no_more()
        self._dry_ids |= ids
