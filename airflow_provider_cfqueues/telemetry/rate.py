"""Warns before a task makes so many requests that Cloudflare might block its token."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

WINDOW_SECONDS = 300
LIMIT = 1_200
"""
Documentation, limits of the API: so many requests in five minutes for a user, all programs together; one more, and
every request is refused for five minutes. A changelog of April 2025 excepts pulls and acks; the page on limits no
longer does.
"""
WARN_AT = 900


class RequestRate:
    """
    Counts the requests of one connection in one task, and warns once.

    :param now: the time, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._times: deque[float] = deque(maxlen=WARN_AT)
        self._has_warned = False

    def count(self, conn_id: str) -> None:
        """
        Note a request that is about to be made.

        :param conn_id: the Airflow connection, for the warning.
        """
        self._times.append(self._now())
        seconds = self._times[-1] - self._times[0]
        if self._has_warned or len(self._times) < WARN_AT or seconds >= WINDOW_SECONDS:
            return
        self._has_warned = True
        log.warning(
            "Connection %r: this task made %d API requests in %d s. Cloudflare allows %s in five minutes, of all tasks "
            "together, and then refuses every request for five minutes (HTTP 429, code 971). Pulls and acks may count, "
            "too. Move more messages with each request, poll less often, or run fewer tasks at once",
            conn_id,
            WARN_AT,
            seconds,
            f"{LIMIT:,}",
        )
