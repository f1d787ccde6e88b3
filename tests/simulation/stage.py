"""Where processes run, each on a loop of its own, in the one time that they share."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from simulation.loop import NEVER, VirtualLoop, VirtualTime
from simulation.truth import Violation

MAX_STEPS = 100_000
MAX_SECONDS = 100_000.0


class Actor(Protocol):
    """A process, as the stage sees it."""

    name: str
    loop: VirtualLoop
    steps: int
    is_dead: bool
    main: Any

    def proceed(self, *, is_alone: bool) -> None:
        """Run it to its next await; alone, until it has nothing to do for now, or meets its doom."""

    def after_step(self) -> None:
        """Let happen to it what happens after so many steps."""

    def look_at_clock(self) -> None:
        """Judge that it still runs at this time."""

    def end(self) -> None:
        """Judge its end, which it came to by itself."""


class Stage:
    """
    Lets processes proceed, and time pass.

    :param random: decides who proceeds.
    :param time: the time.
    """

    def __init__(self, random: Random, time: VirtualTime) -> None:
        self.random = random
        self.time = time
        self.live: list[Any] = []
        self.steps = 0
        time.reset()

    def violation(self) -> str:
        """Return what was found that must not happen; empty where all is well."""
        raise NotImplementedError

    def step(self) -> None:
        """Let a process that has something to do proceed; where none has, let time pass."""
        live = self.live
        ready = [process for process in live if process.loop.is_ready]
        if not ready:
            self._pass_time()
            return
        process = ready[0] if len(ready) == 1 else self.random.choice(ready)
        before = process.steps
        process.proceed(is_alone=len(live) == 1)
        self.steps += process.steps - before
        process.after_step()
        if process.main.done() and not process.is_dead:
            process.end()
        if process.is_dead:
            self.live.remove(process)

    def _pass_time(self) -> None:
        moments = [when for process in self.live if (when := process.loop.next_timer()) is not None]
        timer = min(moments, default=NEVER)
        event = self.time.next_event()
        if timer == event == NEVER:
            raise Violation(f"{', '.join(process.name for process in self.live)} hangs: nothing will ever happen again")
        self.time.now = max(self.time.now, min(timer, event))
        for process in self.live:
            process.look_at_clock()
        if event <= timer:
            self.time.happen()
            self.live = [process for process in self.live if not process.is_dead]
        else:
            for process in self.live:
                process.loop.fire()

    def run_until(self, is_done: Callable[[], bool]) -> None:
        """
        Go on until something holds.

        :param is_done: tells whether it does.
        :raises Violation: something happened that must not, or it never holds.
        """
        while not is_done():
            self.step()
            if self.violation():
                break
            if self.steps > MAX_STEPS or self.time.now > MAX_SECONDS:
                raise Violation(f"no end after {self.steps} steps and {self.time.now:.0f} s")
        if found := self.violation():
            raise Violation(found)

    def wait(self, seconds: float) -> None:
        """Go on for some time."""
        is_over = False

        def end() -> None:
            nonlocal is_over
            is_over = True

        self.time.after(seconds, end)
        self.run_until(lambda: is_over)
