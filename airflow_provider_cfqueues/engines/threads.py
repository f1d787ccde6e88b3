"""Daemon threads for handlers, and event loops that run beside the main thread, which gets the signals."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import sysconfig
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.1
"""Seconds between two looks at whether the wait for another thread is over."""
LIBRARIES = (*sysconfig.get_paths().values(), str(Path(__file__).parents[1]))
"""Where code is that is not a user's own."""


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
        """Call a function in a thread, with the caller's context variables."""
        future: Future[T] = Future()
        self._calls.put((future, partial(contextvars.copy_context().run, fn, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._size:
            thread = Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def end(self, *, cancel: bool = False) -> None:
        """End the threads, each after the call that it is busy with. What is cancelled does not begin at all."""
        with suppress(Empty):
            while cancel:
                if call := self._calls.get_nowait():
                    call[0].cancel()
        for _ in self._threads:
            self._calls.put(None)

    def places(self) -> Counter[str]:
        """Return where in their code calls are just now, such as ``orders.py:31 in ship``, and how many."""
        frames = sys._current_frames()
        found: Counter[str] = Counter()
        for thread in self._threads:
            stack = traceback.extract_stack(frames[thread.ident]) if thread.ident in frames else []
            if stack and stack[-1].filename != __file__:  # else it waits for a call
                theirs = [frame for frame in stack if not frame.filename.startswith(LIBRARIES)] or stack
                found[f"{Path(theirs[-1].filename).name}:{theirs[-1].lineno} in {theirs[-1].name}"] += 1
        return found

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


class LoopThread:
    """
    An event loop in its own daemon thread. It goes on even if a task in it raises an error.

    :param name: of the thread.
    :param on_error: called, in that thread, with what tore down the loop (asyncio lets a SystemExit or a
        KeyboardInterrupt of a task do so); the loop goes on.
    """

    def __init__(self, name: str, on_error: Callable[[BaseException], object]) -> None:
        self.loop = asyncio.new_event_loop()
        self.ended: Future[None] = Future()
        self._on_error = on_error
        self._is_stopping = False
        Thread(target=self._run, name=name, daemon=True).start()

    def stop(self) -> None:
        """Cancel what still runs in the loop, let it clean up, and stop. It returns at once; ``ended`` is set later."""
        self._is_stopping = True
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._is_stopping:  # what runs in it may stop it as well
            self._try(self.loop.run_forever)
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        while not all(task.done() for task in tasks):
            self._try(partial(self.loop.run_until_complete, asyncio.wait(tasks)))
        self._try(partial(self.loop.run_until_complete, self.loop.shutdown_asyncgens()))
        self.loop.close()
        self.ended.set_result(None)

    def _try(self, run: Callable[[], object]) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - the loop outlives what runs in it
            with suppress(RuntimeError):  # the loop that would report it is closed
                self._on_error(error)


def run_beside(
    work: Coroutine[Any, Any, None],
    stop: Callable[..., None],
    ends_by: Callable[[], float | None] = lambda: None,
) -> None:
    """
    Run a coroutine in another thread's event loop, and wait until it is done.

    :param work: what to run.
    :param stop: called with ``killed=True`` where something is raised in this thread meanwhile; then its end is waited
        for.
    :param ends_by: when the wait is given up, by ``time.monotonic``; None as long as nothing was killed.
    :raises BaseException: what was raised in this thread, else what the work raised.
    """
    future: Future[None] = Future()
    call = partial(contextvars.copy_context().run, asyncio.run, work)
    Thread(target=_run, args=(future, call), name="cloudflare-queue", daemon=True).start()
    raised: BaseException | None = None
    while True:
        try:  # all of it: what a signal raises may come at any moment, and again and again
            if raised is not None:
                stop(killed=True)
            while not future.done() and ((end := ends_by()) is None or monotonic() < end):
                wait([future], timeout=POLL_SECONDS)
            break
        except BaseException as error:  # noqa: BLE001 - raised again once the work has ended
            raised = raised or error
    if raised is not None:
        raise raised.with_traceback(None)  # it came while this thread waited, so the frames say nothing
    if future.done():
        future.result()
