"""How the parts of a run wait for each other."""

from __future__ import annotations

import asyncio
from typing import Any


class Changes:
    """Wakes everybody who waits, in order, so that each looks for itself whether there is something to do."""

    def __init__(self) -> None:
        # A dict, for its order: what happens follows from what came in, and a simulation repeats exactly.
        self._waiters: dict[asyncio.Future[None], None] = {}

    def notify(self) -> None:
        """Say that something changed: a message came, was handled or settled, or the engine is to stop."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self, *tasks: asyncio.Task[Any], timeout: float | None = None) -> None:
        """
        Wait until something changed, a task ended, or time is up.

        :param tasks: those that have ended already are not waited for.
        :param timeout: seconds.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None  # before the first await: nothing that happens from here on is missed
        if tasks or timeout is not None:
            pending = [task for task in tasks if not task.done()]  # one that has ended would end the wait at once
            await asyncio.wait({waiter, *pending}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        else:
            await waiter  # what workers do most, and asyncio.wait is not for free
        self._waiters.pop(waiter, None)
