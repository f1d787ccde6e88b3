"""Pull ahead, as far as the window says, until the queue is idle or nothing more is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from airflow_provider_cfqueues.engines.processing.window import Window
from airflow_provider_cfqueues.engines.queue import NOT_ASKED, MessageQueue
from airflow_provider_cfqueues.engines.waiting import Condition, Idling
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.models import PullResult


class Puller:
    """
    Makes the pulls, several at once where the window has room for them.

    :param queue: the queue.
    :param window: says how many messages to ask for.
    :param idling: says when to look at an empty queue.
    :param condition: tells when there may be something to do.
    :param on_pulled: gets each answer, with the number of messages that were asked for.
    :param on_error: gets the failure of a request that failed for good.
    """

    def __init__(
        self,
        queue: MessageQueue,
        window: Window,
        idling: Idling,
        condition: Condition,
        *,
        on_pulled: Callable[[PullResult, int], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._queue = queue
        self._window = window
        self._idling = idling
        self._condition = condition
        self._on_pulled = on_pulled
        self._on_error = on_error
        self.requests: dict[asyncio.Task[None], None] = {}

    async def run(self, is_stopping: Callable[[], bool]) -> None:
        """
        Pull until the queue is idle, a limit is reached or the engine stops; then wait for what is under way.

        :param is_stopping: whether to begin no further pull.
        """
        while True:
            now = asyncio.get_running_loop().time()
            is_over = is_stopping() or self._window.is_spent or self._idling.is_over(now)
            if is_over and not self.requests:
                return
            if not is_over:
                self._begin(now)
            await self._condition.wait(timeout=None if is_over else self._idling.seconds_left(now))

    def _begin(self, now: float) -> None:
        """Begin the pulls that there is room for, one at a time while the queue is idle."""
        if self._idling.is_idle and (self.requests or self._idling.is_early(now)):
            return
        sizes = self._window.sizes()
        for size in sizes[:1] if self._idling.is_idle else sizes:
            self._window.begin(size)
            request = asyncio.get_running_loop().create_task(self._pull(size))
            self.requests[request] = None
            request.add_done_callback(self._ended)

    async def _pull(self, size: int) -> None:
        try:
            pulled = await self._queue.pull(size)
        except CloudflareQueuesError as error:
            self._on_error(error)
        else:
            if pulled is not NOT_ASKED:
                self._on_pulled(pulled, size)
        finally:
            self._window.end(size)

    def _ended(self, request: asyncio.Task[None]) -> None:
        del self.requests[request]
        if not request.cancelled() and isinstance(error := request.exception(), Exception):
            self._on_error(error)
        self._condition.notify()
