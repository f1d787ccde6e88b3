"""An event loop for tests that wait: its time jumps."""

from __future__ import annotations

import asyncio
import time


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop that does not sleep: where it would, its time jumps, unless an answer is waited for."""

    def __init__(self):
        self._ahead = 0.0
        self._in_threads = 0
        super().__init__()

    def time(self):
        return super().time() + self._ahead

    def run_in_executor(self, executor, func, *args):
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._left_thread)
        return future

    def _left_thread(self, _):
        self._in_threads -= 1

    def _run_once(self):
        timers = [timer for timer in self._scheduled if not timer.cancelled()]
        # A connection with a request under way has a timer.
        is_waiting = any("Connection." in getattr(timer._callback, "__qualname__", "") for timer in timers)
        if timers and not self._ready and not is_waiting and not self._in_threads:
            self._ahead += max(0.0, min(timer.when() for timer in timers) - self.time())
        super()._run_once()


def run(scenario):
    """Run a scenario, with time that jumps."""
    loop = JumpingLoop()
    try:
        return loop.run_until_complete(scenario)
    finally:
        for task in asyncio.all_tasks(loop):  # those of a scenario that failed
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def until(condition):
    """Wait for what the watchers do."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)  # noqa: ASYNC251 - the emulator's thread wants its turn
        await asyncio.sleep(0.25)
