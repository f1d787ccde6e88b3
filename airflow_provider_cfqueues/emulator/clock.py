"""The one clock of the emulator: a source of seconds plus an offset that tests move."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """
    Real time plus an offset; over a constant source it is virtual and moves only when it is told to.

    :param source: seconds since the epoch.
    """

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self.offset_ms = 0

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return int(self._source() * 1000) + self.offset_ms

    def advance(self, seconds: float) -> None:
        """
        Move the clock forward.

        :param seconds: how far; never back, since nothing that has ended may begin again.
        """
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"the clock only moves forward: advance_seconds must be 0 or more, not {seconds}")
        self.offset_ms += round(seconds * 1000)
