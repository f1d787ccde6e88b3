"""What a scenario of ``scripts/e2e`` works with."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from e2e.private_airflow import Airflow
from harness.cloudflare import Cloudflare, Queue

MOST_MOVES = 10
PATIENCE_SECONDS = 20
"""Longer than any pause between two tries to settle: a lease that somebody still means to settle shall not end."""


@dataclass
class World:
    """
    What a scenario works with.

    :param airflow: the Airflow, without a triggerer.
    :param cloudflare: the emulator.
    :param is_short: whether few samples do.
    :param rounds: how often the triggerer is killed at each step.
    :param messages: how many messages become runs.
    :param dice: for moments that must not keep time with a poll.
    """

    airflow: Airflow
    cloudflare: Cloudflare
    is_short: bool
    rounds: int
    messages: int
    dice: random.Random

    @property
    def judged(self) -> int:
        """How many messages the watchers that match by ``e2e.dags.everything`` looked at."""
        signs = self.airflow.signs / "judged"
        return len(signs.read_text().splitlines()) if signs.exists() else 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let these watchers not come back from looking at a message."""
        sign = self.airflow.signs / "hold"
        sign.touch()
        try:
            yield
        finally:
            sign.unlink()

    def wait_until_acked(self, queue: Queue, *, move_clock: float = 0) -> None:
        """
        Wait until a queue is empty.

        :param queue: the queue.
        :param move_clock: seconds that the clock is moved whenever nothing was acked for a while: leases end.
        """
        patience = PATIENCE_SECONDS if move_clock else 240
        tries = 0
        while backlog := queue.backlog:
            try:
                self.airflow.until("an ack", lambda: queue.backlog < backlog, seconds=patience, every=0.1)
            except TimeoutError:
                tries += 1
                if not move_clock or tries > MOST_MOVES:
                    raise
                self.cloudflare.advance(move_clock)
