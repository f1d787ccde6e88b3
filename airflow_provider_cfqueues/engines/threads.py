"""Threads for sync handlers that nobody waits for when the process ends."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonThreads(Executor):
    """
    A pool of daemon threads.

    The interpreter joins the threads of a ``ThreadPoolExecutor`` before it ends, whatever ``shutdown`` was told: a
    handler that blocks for longer than ``grace`` would keep a killed task alive until something ends it with -9. Its
    message is given back already; what such a handler still does counts for nothing.

    :param size: how many threads there are at the most; they are started as they are needed, and reused.
    :param name: what their names begin with.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._idle = Semaphore(0)
        self._threads: list[Thread] = []

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """
        Call a function in a thread.

        :param fn: the function.
        :param args: its arguments.
        :param kwargs: likewise, by name.
        """
        future: Future[T] = Future()
        self._calls.put((future, partial(fn, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._size:
            thread = Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """
        End the threads, each after the call that it is busy with.

        :param wait: for that end.
        :param cancel_futures: what did not begin yet does not begin at all.
        """
        with suppress(Empty):
            while cancel_futures:
                if call := self._calls.get_nowait():
                    call[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _work(self) -> None:
        while call := self._calls.get():
            _run(*call)
            del call  # else it would keep the last messages until the next ones come
            self._idle.release()


def _run(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it
        future.set_exception(error)
    else:
        future.set_result(result)


def run_beside(work: Coroutine[Any, Any, None], stop: Callable[..., None]) -> None:
    """
    Run something async beside this thread, in an event loop of its own, until it is done.

    :param work: what to run.
    :param stop: called with ``killed=True`` where something is raised in this thread meanwhile; then its end is waited
        for.
    """
    with ThreadPoolExecutor(1, "cloudflare-queue") as pool:
        future = pool.submit(contextvars.copy_context().run, asyncio.run, work)
        try:
            future.result()
        except BaseException:
            stop(killed=True)
            raise
