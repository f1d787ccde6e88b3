"""When a run that is told to stop ends: after its handlers or, if it is killed, within its grace and a second."""

from __future__ import annotations

from time import monotonic

END_SECONDS = 1
"""Seconds after the grace in which a killed run ends, whatever handlers and API do."""
SETTLE_SECONDS = 0.7
"""Seconds after the grace in which requests are waited for; the rest of the second is for what follows."""
CLEAN_UP_SECONDS = 1
"""How long tasks that handlers left behind may clean up if the run is not killed."""


class Ending:
    """
    The end of one run.

    :param grace: seconds that running handlers get if the run is killed.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._grace_ends: float | None = None
        self.is_stopping = False
        self.is_killed = False
        self.by: float | None = None
        """When a run that is killed is over at the latest, by ``time.monotonic``; whoever waits gives up then."""
        self.is_over = False

    def stop(self, *, killed: bool) -> None:
        """Stop, in haste if the run is killed; safe from any thread and from a signal handler."""
        self.is_stopping = True
        if killed and not self.is_killed:
            self.by = monotonic() + self._grace + END_SECONDS
            self.is_killed = True

    def notice(self, now: float) -> bool:
        """Return whether the run was killed since the last time that this was asked; the grace begins ``now``."""
        if not self.is_killed or self._grace_ends is not None:
            return False
        self._grace_ends = now + self._grace
        return True

    def seconds_left(self, now: float, beyond_grace: float) -> float | None:
        """Return how long something may still take that ends so long after the grace; None = as long as it needs."""
        return None if self._grace_ends is None else self._grace_ends + beyond_grace - now

    @property
    def clean_up_seconds(self) -> float:
        """How long the end waits for what handlers left behind."""
        return CLEAN_UP_SECONDS if self._grace_ends is None else 0
