"""When to pull next. Pure: it is told what a pull gave, and waits for nothing itself."""

from __future__ import annotations

import random

from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError

GROWTH = 2
LONGEST_ASKED_WAIT = 3_600
"""A longer ``Retry-After`` is not followed: a watcher that sleeps for a day would look broken."""
SLOWEST_AFTER_FAILURE = 60
JITTER = 0.1
"""The share by which a wait is longer or shorter at random: a triggerer sends its events once a second, and pulls that
keep time with it may all come just after that."""


class Backoff:
    """
    The seconds between two pulls.

    Every pull is billed, so pulls become rarer while the queue is empty. They also become rarer after failures, so that
    a watcher that cannot pull does not try all the time.

    :param options: how the queue is watched.
    """

    def __init__(self, options: WatchOptions) -> None:
        self._options = options
        self._next = options.poll_interval

    def after_pull(self, count: int, asked_for: int) -> float:
        """
        Return how long to wait after a pull that was answered.

        :param count: how many messages it gave.
        :param asked_for: how many were asked for.
        """
        if count:
            self._next = self._options.poll_interval
            return 0 if count >= asked_for else _vary(self._next)
        return self._grow(self._options.max_poll_interval)

    def after_failure(self, error: Exception) -> float:
        """
        Return how long to wait after a pull that failed for good.

        :param error: what it failed with.
        """
        wait = self._grow(max(self._options.max_poll_interval, SLOWEST_AFTER_FAILURE))
        asked = error.retry_after if isinstance(error, CloudflareQueuesError) else None
        return max(wait, min(asked or 0, LONGEST_ASKED_WAIT))

    def _grow(self, longest: float) -> float:
        wait, self._next = self._next, min(longest, self._next * GROWTH)
        return _vary(wait)


def _vary(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
