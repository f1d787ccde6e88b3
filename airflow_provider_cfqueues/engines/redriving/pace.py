"""Decides how fast messages may be sent. It has no I/O and no clock: it is told the time and what was sent."""

from __future__ import annotations

from airflow_provider_cfqueues.client.message_calls import MAX_MESSAGES_PER_SEND

SENDS_PER_SECOND = 3
SENDS_AT_ONCE = 100
"""
Documentation, limits: 1,200 API calls in five minutes for each user, all programs together; one call more, and every
call is refused for five minutes. Sends count, pulls and acks do not. These make 1,000, and leave the rest to others.
"""


class Pace:
    """
    Spreads sends over time.

    :param messages_per_second: how many messages at the most; None = what the API's limit allows.
    """

    def __init__(self, messages_per_second: float | None) -> None:
        self._rate = messages_per_second
        self._messages_end = 0.0
        self._requests_end = 0.0
        self.batch_size = MAX_MESSAGES_PER_SEND
        if messages_per_second is not None:
            self.batch_size = max(1, min(MAX_MESSAGES_PER_SEND, int(messages_per_second)))

    def seconds_left(self, now: float) -> float:
        """Return the seconds until the next send may begin."""
        return max(0.0, self._messages_end - now, self._requests_end - SENDS_AT_ONCE / SENDS_PER_SECOND - now)

    def sent(self, count: int, now: float) -> None:
        """
        Note a send.

        :param count: how many messages it had.
        """
        self._requests_end = max(now, self._requests_end) + 1 / SENDS_PER_SECOND
        if self._rate is not None:
            self._messages_end = max(now, self._messages_end) + count / self._rate
