"""How fast messages may be sent. Pure: it is told the time and what was sent."""

from __future__ import annotations

from airflow_provider_cfqueues.api import MAX_MESSAGES_PER_SEND

SENDS_PER_SECOND = 3
"""
Documentation, limits: 1,200 API calls in five minutes for each user, all programs together; one call more, and every
call is refused for five minutes. Sends count, pulls and acks do not. Three a second leave a quarter to others.
"""


class Pace:
    """
    Spreads sends over time.

    :param messages_per_second: how many messages at the most; None = what the API's limit allows.
    """

    def __init__(self, messages_per_second: float | None) -> None:
        self._rate = messages_per_second
        self._free_at = 0.0
        self.batch_size = MAX_MESSAGES_PER_SEND
        if messages_per_second is not None:
            self.batch_size = max(1, min(MAX_MESSAGES_PER_SEND, int(messages_per_second)))

    def seconds_left(self, now: float) -> float:
        """
        Return the seconds until the next send may begin.

        :param now: the time.
        """
        return max(0.0, self._free_at - now)

    def sent(self, count: int, now: float) -> None:
        """
        Note a send.

        :param count: how many messages it had.
        :param now: the time.
        """
        seconds = 0.0 if self._rate is None else count / self._rate
        self._free_at = max(now, self._free_at) + max(seconds, 1 / SENDS_PER_SECOND)
