"""The messages that are pulled and not handled yet, and the workers that take them in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from airflow_provider_cfqueues.engines.processing.handling import Handling
from airflow_provider_cfqueues.engines.processing.report import Handled
from airflow_provider_cfqueues.engines.processing.state import RunState
from airflow_provider_cfqueues.models import Message


class Workers:
    """
    As many workers as handlers run at once.

    :param on_handled: gets what came of each message.
    """

    def __init__(self, state: RunState, handling: Handling, on_handled: Callable[[Handled], None]) -> None:
        self._state = state
        self._handling = handling
        self._on_handled = on_handled
        self.waiting: deque[Message] = deque()
        self._running: dict[int, Message] = {}  # by identity: a lease may come twice
        self._idle = 0
        self._busy_seconds = 0.0
        self._ends_when_idle = False

    def start(self) -> list[asyncio.Task[None]]:
        """Start them."""
        loop = asyncio.get_running_loop()
        return [loop.create_task(self._work()) for _ in range(self._state.options.concurrency)]

    def end_when_idle(self) -> None:
        """Let them end once no message waits: none will come any more."""
        self._ends_when_idle = True
        self._state.notify()

    @property
    def are_idle(self) -> bool:
        """Whether some have nothing to do."""
        return self._idle > 0

    @property
    def pace(self) -> float | None:
        """Seconds that a handler took for a message so far."""
        handled = self._state.report.handled
        return self._busy_seconds / handled if handled else None

    @property
    def messages(self) -> list[Message]:
        """The messages that wait or are being handled."""
        return [*self._running.values(), *self.waiting]

    def done(self, message: Message) -> None:
        """Note that the handler of a message is done with it."""
        del self._running[id(message)]

    def give_up_waiting(self) -> Iterable[Message]:
        """Return the messages that wait; they are not handled any more."""
        waiting, self.waiting = self.waiting, deque()
        return waiting

    def give_up_running(self) -> list[Message]:
        """Return the messages that are being handled; the run does not wait for them any more."""
        running, self._running = self._running, {}
        return list(running.values())

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while messages := await self._next_messages():
                began = clock()
                await self._handling.run(messages, self._on_handled)
                self._busy_seconds += clock() - began
                self._put_back(messages)
                if self._handling.error is not None:
                    self._state.fail(self._handling.error)
                self._state.notify()
        except BaseException:
            self._state.is_stopping = True  # a worker that is gone must not leave the others to pull for it
            self._state.notify()
            raise

    async def _next_messages(self) -> list[Message]:
        """Return messages whose turn it is, none where there will not be any."""
        while not self._state.is_stopping:
            if self.waiting:
                return self._take()
            if self._ends_when_idle:
                break
            self._idle += 1
            try:
                await self._state.wait()
            finally:
                self._idle -= 1
        return []

    def _take(self) -> list[Message]:
        count = min(self._handling.takes, len(self.waiting))
        if self._state.options.batch_size is None:
            count = min(count, -(-len(self.waiting) // self._state.options.concurrency))
        messages = [self.waiting.popleft() for _ in range(count)]
        self._running.update({id(message): message for message in messages})
        return messages

    def _put_back(self, messages: list[Message]) -> None:
        """Let those of some messages wait again whose turn did not come after all."""
        for message in reversed(messages):
            if self._running.pop(id(message), None):
                self.waiting.appendleft(message)
