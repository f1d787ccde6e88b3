"""Decides how many messages to ask for, and when. It has no I/O and no clock: it is told the time and what happened."""

from __future__ import annotations

from collections.abc import Collection

from airflow_provider_cfqueues.client.message_calls import MAX_BYTES_PER_MESSAGE, MAX_MESSAGES_PER_PULL
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.models import Message

MAX_WINDOW = 10_000
"""Two requests of half a second each, with 10,000 messages under way, are twice what Cloudflare delivers of a queue."""
MAX_OPEN_BYTES = 64_000_000
LEASE_SHARE = 0.25
"""Messages are pulled ahead for at most this share of their lease, by the pace of the handlers so far."""
GROWTH = 4
GROWTH_AT_A_KNOWN_PACE = 16


class Window:
    """The messages that are *open*: asked for or pulled, and not settled yet."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._smallest = self._first()
        self.size = self._smallest
        self.pulled = 0
        self.requested = 0
        self.open = 0
        self.open_bytes = 0
        self._pulled_bytes = 0

    def _first(self) -> int:
        expected = self._options.expected_seconds_per_message
        smallest = self._options.concurrency * (self._options.batch_size or 1)
        return smallest if expected is None else max(smallest, min(MAX_WINDOW, int(self._ahead_by(expected))))

    def _ahead_by(self, seconds_per_message: float) -> float:
        pace = self._options.concurrency / max(seconds_per_message, 1e-6)
        return pace * self._options.visibility_timeout * LEASE_SHARE

    @property
    def is_spent(self) -> bool:
        """Whether as many messages are pulled or asked for as there may be."""
        limit = self._options.max_messages
        return limit is not None and self.pulled + self.requested >= limit

    def sizes(self) -> list[int]:
        """Return the sizes of the pulls to start now: none if less than half the window, or one full pull, is free."""
        room = min(self.size - self.open - self.requested, self._fits())
        if room < min(self.size / 2, MAX_MESSAGES_PER_PULL):
            return []
        if self._options.max_messages is not None:
            room = min(room, self._options.max_messages - self.pulled - self.requested)
        sizes = [MAX_MESSAGES_PER_PULL] * (room // MAX_MESSAGES_PER_PULL) + [room % MAX_MESSAGES_PER_PULL]
        return [size for size in sizes if size > 0]

    def _fits(self) -> int:
        """Return how many more messages fit into memory, if they are as large as those before."""
        mean = self._pulled_bytes / self.pulled if self.pulled else MAX_BYTES_PER_MESSAGE
        return int((MAX_OPEN_BYTES - self.open_bytes) / min(max(mean, 1), MAX_BYTES_PER_MESSAGE)) - self.requested

    def begin(self, size: int) -> None:
        """Note that a pull of so many messages begins."""
        self.requested += size

    def end(self, size: int) -> None:
        """Note that a pull of so many messages is over."""
        self.requested -= size

    def take_in(self, messages: Collection[Message]) -> None:
        """Note the messages that a pull gave."""
        self.pulled += len(messages)
        self.open += len(messages)
        size = sum(map(_size, messages))
        self.open_bytes += size
        self._pulled_bytes += size

    def handled(self, message: Message) -> None:
        """Note that the body of a message is needed no longer: its outcome is known."""
        self.open_bytes -= _size(message)

    def close(self, count: int) -> None:
        """Note how many messages are settled, or wait for the end of the run and not for room."""
        self.open -= count

    def adapt(self, *, starving: bool, seconds_per_message: float | None) -> None:
        """
        Grow if handlers wait although a pull gave all it was asked for; shrink to what leases last for.

        :param seconds_per_message: the pace of the handlers so far, if there is one.
        """
        if starving:
            growth = GROWTH if seconds_per_message is None else GROWTH_AT_A_KNOWN_PACE
            self.size = min(MAX_WINDOW, self.size * growth)
        if seconds_per_message is not None:
            self.size = max(self._smallest, min(self.size, int(self._ahead_by(seconds_per_message))))


def _size(message: Message) -> int:
    return len(message.raw_body) if isinstance(message.raw_body, str) else 1_000
