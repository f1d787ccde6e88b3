"""How many messages to ask for, and when. Pure: it is told the time and what happened, and pulls nothing itself."""

from __future__ import annotations

from airflow_provider_cfqueues.client.message_calls import MAX_MESSAGES_PER_PULL
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.processing.options import Options

MAX_WINDOW = 4_000
MAX_OPEN_BYTES = 64_000_000
LEASE_SHARE = 0.25
"""Messages are pulled ahead for at most this share of their lease, by the pace of the handlers so far."""
GROWTH = 4
MAX_POLL_WAIT = 30.0


class Window:
    """
    The messages that are *open*: asked for or pulled, and not settled yet.

    :param options: how the queue is processed.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._smallest = self._first()
        self.size = self._smallest
        self.pulled = 0
        self.requested = 0
        self.open = 0
        self.open_bytes = 0

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
        """Return the sizes of the pulls to begin now: none for less than half a window."""
        room = self.size - self.open - self.requested
        if room < min(self.size / 2, MAX_MESSAGES_PER_PULL) or self.open_bytes > MAX_OPEN_BYTES:
            return []
        if self._options.max_messages is not None:
            room = min(room, self._options.max_messages - self.pulled - self.requested)
        sizes = [MAX_MESSAGES_PER_PULL] * (room // MAX_MESSAGES_PER_PULL) + [room % MAX_MESSAGES_PER_PULL]
        return [size for size in sizes if size > 0]

    def take_in(self, messages: list[Message]) -> None:
        """
        Note messages that came.

        :param messages: the answer of a pull.
        """
        self.pulled += len(messages)
        self.open += len(messages)
        self.open_bytes += sum(map(_size, messages))

    def handled(self, message: Message) -> None:
        """
        Note that the body of a message is needed no longer.

        :param message: a message whose outcome is known.
        """
        self.open_bytes -= _size(message)

    def adapt(self, *, starving: bool, seconds_per_message: float | None) -> None:
        """
        Grow where handlers wait though a pull gave all it was asked for; shrink to what leases last for.

        :param starving: whether they do.
        :param seconds_per_message: the pace of the handlers so far, if there is one.
        """
        if starving:
            self.size = min(MAX_WINDOW, self.size * GROWTH)
        if seconds_per_message is not None:
            self.size = max(self._smallest, min(self.size, int(self._ahead_by(seconds_per_message))))


class Idling:
    """
    How long the queue has given nothing, and when to look again.

    :param timeout: seconds after which that is the end; None = never.
    :param poll_interval: seconds between two looks; it doubles with each in vain.
    """

    def __init__(self, timeout: float | None, poll_interval: float) -> None:
        self._timeout = timeout
        self._poll_interval = self._wait = poll_interval
        self._since: float | None = None
        self._next_look = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether the last pull gave nothing."""
        return self._since is not None

    def answered(self, count: int, now: float) -> None:
        """
        Note what a pull gave.

        :param count: how many messages.
        :param now: the time.
        """
        if count:
            self._since = None
            self._wait = self._poll_interval
            self._next_look = now
            return
        self._since = now if self._since is None else self._since
        if now >= self._next_look:  # else it was under way already when another found the queue empty
            self._next_look = now + self._wait
            self._wait = min(MAX_POLL_WAIT, self._wait * 2)

    def is_over(self, now: float) -> bool:
        """
        Return whether the queue was idle for long enough.

        :param now: the time.
        """
        return self._timeout is not None and self._since is not None and now >= self._since + self._timeout

    def is_early(self, now: float) -> bool:
        """
        Return whether it is too early to look again.

        :param now: the time.
        """
        return self._since is not None and now < self._next_look

    def seconds_left(self, now: float) -> float | None:
        """
        Return the seconds until something is to be decided anew, None where only a message can change anything.

        :param now: the time.
        """
        if self._since is None:
            return None
        moments = [self._next_look] if self._timeout is None else [self._next_look, self._since + self._timeout]
        return min((moment - now for moment in moments if moment > now), default=None)


def _size(message: Message) -> int:
    return len(message.raw_body) if isinstance(message.raw_body, str) else 1_000
