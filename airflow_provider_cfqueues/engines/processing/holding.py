"""The messages that a run has pulled and not settled: they wait, are being handled, or are held until its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from airflow_provider_cfqueues.engines.settlement import Settlement
from airflow_provider_cfqueues.models import Message


class Holding:
    """Where each message is. Running ones are known by their identity: a lease may come twice."""

    def __init__(self) -> None:
        self.waiting: deque[Message] = deque()
        self._running: dict[int, Message] = {}
        self.held: list[Settlement] = []
        """Of a dry run, which gives them back at its end."""

    def __len__(self) -> int:
        """Return how many wait or are being handled."""
        return len(self.waiting) + len(self._running)

    def take(self, count: int) -> list[Message]:
        """
        Return the messages whose turn it is.

        :param count: how many at the most.
        """
        messages = [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]
        self._running.update({id(message): message for message in messages})
        return messages

    def put_back(self, messages: list[Message]) -> None:
        """
        Let those of some messages wait again whose turn did not come after all.

        :param messages: the messages, as they were taken.
        """
        for message in reversed(messages):
            if self._running.pop(id(message), None):
                self.waiting.appendleft(message)

    def done(self, message: Message) -> None:
        """
        Note that the handler of a message is done with it.

        :param message: the message.
        """
        del self._running[id(message)]

    def give_up_waiting(self) -> Iterable[Message]:
        """Return the messages that wait; they are not handled any more."""
        waiting, self.waiting = self.waiting, deque()
        return waiting

    def give_up_running(self) -> Iterable[Message]:
        """Return the messages that are being handled; the run does not wait for them any more."""
        running, self._running = self._running, {}
        return running.values()

    def give_up_held(self) -> list[Settlement]:
        """Return what was held until the end."""
        held, self.held = self.held, []
        return held

    def all(self) -> list[Message]:
        """Return all messages."""
        return [*self._running.values(), *self.waiting, *(settlement.message for settlement in self.held)]
