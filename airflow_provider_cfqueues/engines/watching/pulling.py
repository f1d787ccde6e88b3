"""Pull from a watched queue, at an affordable pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import check_unmatched
from airflow_provider_cfqueues.engines.watching.backoff import Backoff
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.engines.watching.source import HookSource
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.models import PullResult
from airflow_provider_cfqueues.texts import counted


class Pulling:
    """
    The pulls of a stream. A failure is logged once, and makes pulls rarer.

    :param options: how the queue is watched.
    :param source: where it is.
    :param take_in: gets what was pulled, and when.
    :param now: tells the time that leases are compared with.
    """

    def __init__(
        self,
        options: WatchOptions,
        source: HookSource,
        *,
        take_in: Callable[[PullResult, datetime], None],
        now: Callable[[], datetime],
        log: Any,
    ) -> None:
        self._options = options
        self._source = source
        self._take_in = take_in
        self._now = now
        self._log = log
        self._backoff = Backoff(options)
        self._queue: HookQueue | None = None
        self._opening = asyncio.Lock()
        self._under_way: asyncio.Task[int] | None = None
        self._trouble = ""
        self._has_told_cost = False
        self.next_at = 0.0
        """When to pull next, by the loop's clock."""
        self.has_more = False
        """Whether the last pull gave all that it asked for."""

    async def pull(self, most: int) -> None:
        """Pull at most so many messages, and choose when to pull next."""
        asked_for = min(most, self._options.batch_size)
        try:
            queue = await self.open()
            # In a separate task: if the stream is cancelled meanwhile, the messages that come are given back.
            self._under_way = asyncio.create_task(self._pull(queue, asked_for))
            count = await asyncio.shield(self._under_way)
        except Exception as error:  # noqa: BLE001 - a watcher that ends is begun again at once, in a hot loop
            wait, self.has_more = self._after_failure(error), False
        else:
            wait = self._backoff.after_pull(count, asked_for)
            self.has_more = not wait
        self._under_way = None
        self.next_at = asyncio.get_running_loop().time() + wait

    async def _pull(self, queue: HookQueue, asked_for: int) -> int:
        pulled_at = self._now()
        result = await queue.pull(asked_for)
        if self._trouble:
            self._log.info("Queue %s can be pulled from again", self._options.queue)
            self._trouble = ""
        if result:
            self._log.info("Pulled %s of queue %s", counted(len(result), "message"), self._options.queue)
        self._take_in(result, pulled_at)
        return len(result)

    async def open(self) -> HookQueue:
        """Return the queue, looked up again where that may help against the last failure."""
        async with self._opening:
            if self._queue is None:
                queue = await self._source.open()
                if self._options.match is not None:
                    cost = check_unmatched(queue.situation, queue.queue_id)
                    if not self._has_told_cost:
                        self._log.info("Queue %s: %s", self._options.queue, cost)
                        self._has_told_cost = True
                self._queue = queue
            return self._queue

    def _after_failure(self, error: Exception) -> float:
        """Log it once, read the connection again if that may help, and return how long to wait."""
        wait = self._backoff.after_failure(error)
        trouble = f"{type(error).__name__} {getattr(error, 'status', '')}"
        if trouble != self._trouble:
            self._trouble = trouble
            foreseen = isinstance(error, (CloudflareQueuesError, ValueError))
            self._log.error(
                "Queue %s cannot be pulled from. The watcher tries again, less and less often, and logs again when "
                "the kind of failure changes: %s",
                self._options.queue,
                error,
                exc_info=None if foreseen else error,
            )
        if not (isinstance(error, CloudflareQueuesError) and error.repeatable):
            self._queue = None
        return wait

    async def finish(self, seconds: float) -> None:
        """Wait so long for the answer of a pull that is under way."""
        if self._under_way is None:
            return
        try:
            await asyncio.wait_for(self._under_way, seconds)
        except Exception as error:  # noqa: BLE001 - nobody is left to take it
            self._log.warning(
                "Queue %s: the last pull got no answer; messages that it leased are delivered again when the "
                "leases end: %s",
                self._options.queue,
                str(error) or type(error).__name__,
            )
