"""An event loop in virtual time: nothing sleeps, nothing runs at once, and the same start gives the same run."""

from __future__ import annotations

import asyncio
import heapq
import threading
from asyncio import events
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any

NEVER = float("inf")
MAX_STEPS = 100_000
"""Callbacks after which a seed that has not ended is given up."""


class VirtualTime:
    """The seconds that all loops and the world around them share, and what is to happen outside of the loops."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        """
        Let something happen at a moment.

        :param when: the moment.
        :param action: what happens.
        """
        self._count += 1
        heapq.heappush(self._events, (when, self._count, action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """
        Let something happen later.

        :param seconds: how much later.
        :param action: what happens.
        """
        self.at(self.now + seconds, action)

    def next_event(self) -> float:
        """Return when the next thing happens."""
        return self._events[0][0] if self._events else NEVER

    def happen(self) -> None:
        """Let it happen."""
        heapq.heappop(self._events)[2]()


class VirtualLoop(asyncio.AbstractEventLoop):
    """
    The loop of one process. Whoever drives it runs it callback by callback, and may drop it between any two: a crash.

    :param time: the time.
    :param on_error: gets what asyncio has to say of exceptions that nobody took.
    """

    def __init__(self, time: VirtualTime, on_error: Callable[[dict[str, Any]], None]) -> None:
        self._time = time
        self._on_error = on_error
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._threads: list[Thread] = []
        self._is_closed = False

    # -- driving

    @property
    def is_ready(self) -> bool:
        """Whether something can run now."""
        return bool(self._ready)

    def next_timer(self) -> float | None:
        """Return when the next timer is due."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def proceed(self, steps: int, main: asyncio.Future[Any]) -> int:
        """
        Run what is ready, in order; a step is one callback: from one await of a task to its next.

        :param steps: how many steps at the most.
        :param main: where this is done, there are no more.
        :return: how many it were.
        """
        done = 0
        ready = self._ready
        events._set_running_loop(self)
        try:
            while ready and done < steps and not main.done():
                handle = ready.popleft()
                done += 1
                if not handle.cancelled():
                    handle._run()
        finally:
            events._set_running_loop(None)
        return done

    def fire(self) -> None:
        """Make the timers that are due ready."""
        while (due := self.next_timer()) is not None and due <= self._time.now:
            self._ready.append(heapq.heappop(self._timers)[2])

    def dispose(self) -> None:
        """Drop all that is unfinished, as the end of a process does; nothing that its clean-up does has an effect."""
        self._is_closed = True
        events._set_running_loop(self)
        try:
            for thread in self._threads:
                thread.kill()
            for task in self._tasks:  # which may grow meanwhile
                if not task.done():
                    task._log_destroy_pending = False
                    _close(task.get_coro())
        finally:
            events._set_running_loop(None)

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self._time.now

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self._is_closed

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        # A real clock has moved when a timer fires; without a least step, a rounding error would be waited for forever.
        return self.call_at(self._time.now + (delay and max(delay, 1e-6)), callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # it is skipped when it is due

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **_: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        thread = Thread(self, func, args)
        self._threads.append(thread)
        self.call_soon(thread.resume)
        return thread.future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._is_closed:
            self._on_error(context)


def _close(coro: Any) -> None:
    """Unwind a coroutine, whatever its clean-up awaits."""
    for _ in range(100):
        with suppress(Exception, asyncio.CancelledError):  # "ignored GeneratorExit" is one: it awaits again
            coro.close()
            return


class Crashed(BaseException):
    """Unwinds a thread whose process is gone."""


class Thread:
    """
    A thread of an executor that runs only while the loop stands still, and gives way when it sleeps.

    :param loop: the loop.
    :param func: what it runs.
    :param args: its arguments.
    """

    current = threading.local()

    def __init__(self, loop: VirtualLoop, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.future = loop.create_future()
        self._loop = loop
        self._func = func
        self._args = args
        self._go = threading.Semaphore(0)
        self._gave_way = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._ended = False
        self._killed = False

    @classmethod
    def sleep(cls, seconds: float) -> None:
        """
        Let virtual time pass in the thread that calls.

        :param seconds: how much.
        """
        thread: Thread = cls.current.thread
        if thread._killed:  # and what it runs has swallowed that
            raise Crashed
        thread._loop.call_later(seconds, thread.resume)
        thread._gave_way.release()
        thread._go.acquire()
        if thread._killed:
            raise Crashed

    def resume(self) -> None:
        """Run the thread until it sleeps or ends."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._gave_way.acquire()

    def kill(self) -> None:
        """Unwind the thread where it sleeps."""
        if self._thread is not None and not self._ended:
            self._killed = True
            self.resume()

    def _run(self) -> None:
        Thread.current.thread = self
        result = error = None
        try:
            result = self._func(*self._args)
        except BaseException as caught:  # noqa: BLE001 - a thread hands on whatever ends it
            error = caught
        self._ended = True
        if not self._killed and not self.future.cancelled():
            if error is None:
                self.future.set_result(result)
            else:
                self.future.set_exception(error)
        self._gave_way.release()
