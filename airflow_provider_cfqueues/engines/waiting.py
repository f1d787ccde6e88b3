"""Waiting for messages in an empty queue."""

from __future__ import annotations

from datetime import datetime, timezone

MAX_POLL_WAIT = 30.0


class Activity:
    """How many seconds a run had messages, until the last one was done: without the time in which there were none."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def began(self, now: float) -> None:
        """Note that there are messages after a time without any."""
        self._since = now

    def progressed(self, now: float) -> None:
        """Note that messages are done."""
        self.seconds += 0 if self._since is None else now - self._since
        self._since = now


class Idling:
    """
    How long the queue has been empty, and when to look again.

    :param timeout: how many seconds it may be empty until the run ends; None = no limit.
    :param poll_interval: seconds between two looks; it doubles after each empty one.
    """

    def __init__(self, timeout: float | None, poll_interval: float) -> None:
        self._timeout = timeout
        self._poll_interval = self._wait = poll_interval
        self._since: float | None = None
        self._answered = 0.0
        self._next_look = 0.0
        self._not_before = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether the last pull gave nothing."""
        return self._since is not None

    def answered(self, count: int, now: float) -> None:
        """Note how many messages a pull gave."""
        if count:
            self._since = None
            self._wait = self._poll_interval
            self._next_look = now
            return
        self._since = now if self._since is None else self._since
        self._answered = now
        if now >= self._next_look:  # else it was under way already when another found the queue empty
            self._next_look = now + self._wait
            self._wait = min(MAX_POLL_WAIT, self._wait * 2)
        if (end := self._end()) is not None and now < end:
            self._next_look = min(self._next_look, end)  # the last look

    def not_before(self, moment: float) -> None:
        """Do not end before a look at a moment, as messages may come then. It replaces an earlier one; 0 = none."""
        self._not_before = moment

    def _end(self) -> float | None:
        if self._timeout is None or self._since is None:
            return None
        return max(self._since + self._timeout, self._not_before)

    def is_over(self, now: float) -> bool:
        """Return whether the queue was idle for long enough, and still was when the time was up."""
        end = self._end()
        return end is not None and end <= self._answered <= now

    def is_early(self, now: float) -> bool:
        """Return whether it is too early to look again."""
        return self._since is not None and now < self._next_look

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until the next decision; None if only a message can change anything."""
        if self._since is None:
            return None
        return self._next_look - now if self._next_look > now else None


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(timezone.utc)
