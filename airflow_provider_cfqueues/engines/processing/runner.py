"""Where handlers run: never in the thread or event loop of the engine, which has to settle even if a handler blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from airflow_provider_cfqueues.engines.threads import DaemonThreads, LoopThread

T = TypeVar("T")


class Runner:
    """
    Runs sync handlers in daemon threads, and async ones in an event loop in one more thread.

    :param concurrency: how many sync handlers run at once.
    """

    def __init__(self, concurrency: int) -> None:
        self._threads = DaemonThreads(concurrency, "cloudflare-queue-handler")
        self.on_error: Callable[[BaseException], object] = lambda error: None
        """Called in the engine's loop with an error of a task that a handler left behind, if it stopped their loop."""
        self._loop_thread: LoopThread | None = None

    def run_sync(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Run a call in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, call)

    def run_async(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run a coroutine in the handlers' loop."""
        if self._loop_thread is None:
            engine_loop, tell = asyncio.get_running_loop(), self.on_error
            self._loop_thread = LoopThread(
                "cloudflare-queue-handlers", lambda error: engine_loop.call_soon_threadsafe(tell, error)
            )
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop_thread.loop))

    def places(self) -> str:
        """Return where sync handlers are just now, for whoever looks for what hangs; empty if there are none."""
        return ", ".join(f"{count} at {place}" for place, count in self._threads.places().most_common())

    async def end(self, timeout: float) -> None:
        """End what still runs. Tasks that handlers left behind get so many seconds to clean up."""
        self._threads.end(cancel=True)
        if self._loop_thread is not None:
            self._loop_thread.stop()
            await asyncio.wait([asyncio.wrap_future(self._loop_thread.ended)], timeout=timeout)
