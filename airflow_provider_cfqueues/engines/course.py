"""The course of a run: how its parts wait for each other, and when it ends if it is told to stop or is killed."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any


class Course:
    """
    The course of one run in an event loop.

    :param grace: seconds that what is under way gets if the run is killed.
    """

    def __init__(self, grace: float = 0) -> None:
        self._grace = grace
        self._grace_ends: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # A dict, for its order: what happens follows from what came in, and a simulation repeats exactly.
        self._waiters: dict[asyncio.Future[None], None] = {}
        self.is_stopping = False
        self.killed_at: float | None = None
        """When the run was killed, by ``time.monotonic``."""

    def begin(self) -> None:
        """Begin, in the loop that is running."""
        self._loop = asyncio.get_running_loop()

    def clock(self) -> float:
        """Return the time of the loop, in seconds; also after its end, as what it leaves behind may ask."""
        return (self._loop or asyncio.get_running_loop()).time()

    def stop(self, *, killed: bool = False) -> None:
        """Stop, in haste if the run is killed; safe from any thread and from a signal handler."""
        self.is_stopping = True
        if killed and self.killed_at is None:
            self.killed_at = monotonic()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.notify)

    @property
    def is_killed(self) -> bool:
        """Whether the run was told to stop in haste."""
        return self.killed_at is not None

    def seconds_left(self, beyond_grace: float = 0) -> float | None:
        """
        Return how long something may still take; None = as long as it needs. The grace begins when this is first asked.

        :param beyond_grace: how long after the grace it ends.
        """
        now = self.clock()
        if self.is_killed and self._grace_ends is None:
            self._grace_ends = now + self._grace
        return None if self._grace_ends is None else self._grace_ends + beyond_grace - now

    def notify(self) -> None:
        """Wake all that wait, in order: a message came, was handled or settled, or the run is to stop."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self, *tasks: asyncio.Task[Any], timeout: float | None = None) -> None:
        """
        Wait until something changed, a task ended, or time is up. Each then checks whether there is something to do.

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

    async def rest(self, seconds: float) -> bool:
        """Wait so many seconds, whatever changes meanwhile; return False as soon as the run is killed."""
        until = self.clock() + seconds
        while not self.is_killed and (left := until - self.clock()) > 0:
            await self.wait(timeout=left)
        return not self.is_killed
