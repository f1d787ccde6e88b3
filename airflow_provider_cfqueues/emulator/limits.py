"""Two limits of Cloudflare, off unless asked for: API requests in five minutes, and operations a day."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping

from airflow_provider_cfqueues.emulator.clock import Clock
from airflow_provider_cfqueues.emulator.model import QuotaExceeded
from airflow_provider_cfqueues.emulator.wire import ApiError

WINDOW_MS = 300_000
DAY_MS = 86_400_000
OPERATION_BYTES = 64_000


class RateLimit:
    """
    Limits the requests in five minutes. One request too many, and all are refused for the next five.

    :param limit: how many, or None for no limit.
    """

    def __init__(self, limit: int | None, clock: Clock, assume: Mapping[str, str]) -> None:
        self._limit = limit
        self._clock = clock
        self._free = () if assume["rate-limit"] == "all-calls" else ("/messages/pull", "/messages/ack")
        self._times: deque[int] = deque()
        self._blocked_until = 0

    def take(self, path: str) -> None:
        """Count a request, or refuse it."""
        if self._limit is None or path.endswith(self._free):
            return
        now = self._clock.now_ms()
        while self._times and self._times[0] <= now - WINDOW_MS:
            self._times.popleft()
        if now >= self._blocked_until and len(self._times) >= self._limit:
            self._blocked_until = now + WINDOW_MS
        if now < self._blocked_until:
            raise ApiError(429, 971, "Please wait and consider throttling your request speed")
        self._times.append(now)

    def headers(self) -> dict[str, str]:
        """Return what an answer says about the limit; nothing if there is no limit."""
        if self._limit is None:
            return {}
        now = self._clock.now_ms()
        blocked = max(0, math.ceil((self._blocked_until - now) / 1000))
        resets = math.ceil((self._times[0] + WINDOW_MS - now) / 1000) if self._times else WINDOW_MS // 1000
        left = 0 if blocked else self._limit - len(self._times)
        return {
            "ratelimit": f'"default";r={left};t={blocked or max(0, resets)}',
            "ratelimit-policy": f'"default";q={self._limit};w={WINDOW_MS // 1000}',
            **({"retry-after": str(blocked)} if blocked else {}),
        }


class DailyOperations:
    """
    Operations on messages, as Cloudflare bills them: each 64 KB written, read or deleted; an empty pull is one, too.

    :param limit: how many a day (UTC), or None for no limit.
    """

    def __init__(self, limit: int | None, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._day = 0
        self.used = 0

    def charge(self, sizes: Collection[int], least: int = 0) -> None:
        """
        Count the operations of a call, however many.

        :param sizes: of the bodies that it writes, reads or deletes.
        :param least: what it costs at the least.
        """
        self._turn()
        further = sum((size - 1) // OPERATION_BYTES for size in sizes if size > OPERATION_BYTES)
        self.used += max(least, len(sizes) + further)

    def check(self) -> None:
        """Refuse a call where the day's operations are used up."""
        self._turn()
        if self._limit is not None and self.used >= self._limit:
            raise QuotaExceeded(str(self._limit))

    def _turn(self) -> None:
        day = self._clock.now_ms() // DAY_MS
        if day != self._day:
            self._day, self.used = day, 0
