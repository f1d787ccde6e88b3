"""How fast messages may be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_SECONDS = 0.2


class Pace:
    """
    Spreads messages over time.

    :param messages_per_second: how many; None = no limit.
    """

    def __init__(self, messages_per_second: float | None) -> None:
        self._rate = messages_per_second
        self._free_at = 0.0

    async def wait(self, count: int, stopping: Callable[[], bool]) -> bool:
        """
        Wait until so many messages may be sent; return False where that time does not come.

        :param count: how many.
        :param stopping: whether to wait no longer.
        """
        clock = asyncio.get_running_loop().time
        begins = max(clock(), self._free_at)
        if self._rate is not None:
            self._free_at = begins + count / self._rate
        while not stopping() and (left := begins - clock()) > 0:  # noqa: ASYNC110 - a signal sets a flag, no event
            await asyncio.sleep(min(left, LOOK_SECONDS))
        return not stopping()
