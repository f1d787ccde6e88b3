"""What a scenario of ``scripts/e2e`` is given, and what it says."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from e2e.cloudflare import Cloudflare, Queue
from e2e.private_airflow import Airflow, Event

MOST_MOVES = 10
PATIENCE_SECONDS = 20
"""Longer than any pause between two tries to settle: a lease that somebody still means to settle shall not end."""


@dataclass
class Outcome:
    """What was seen; no promise is broken where there are no problems."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        """Note a broken promise."""
        if not holds:
            self.problems.append(problem)


@dataclass
class World:
    """
    What a scenario works with.

    :param airflow: the Airflow, without a triggerer.
    :param cloudflare: the emulator.
    :param is_short: whether few samples do.
    :param rounds: how often the triggerer is killed at each step.
    :param dice: for moments that must not keep time with a poll.
    """

    airflow: Airflow
    cloudflare: Cloudflare
    is_short: bool
    rounds: int
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


def key_of(body: Any) -> str:
    """Return what tells messages apart: each has a body of its own."""
    return json.dumps(body, sort_keys=True)


def compare(events: Sequence[Event], expected: Mapping[str, Collection[Any]]) -> tuple[list[str], int]:
    """
    Return what is wrong with the events, and how many say again what an earlier one said.

    :param events: what Airflow stored.
    :param expected: the bodies of the messages by asset.
    """
    problems = []
    seen = {asset: Counter(key_of(event.body) for event in events if event.asset == asset) for asset in expected}
    for asset, bodies in expected.items():
        wanted = {key_of(body) for body in bodies}
        if lost := sorted(wanted - seen[asset].keys()):
            problems.append(f"{len(lost)} messages LOST for {asset}, such as {lost[:3]}")
        if strange := sorted(seen[asset].keys() - wanted):
            problems.append(f"{len(strange)} events of {asset} that nobody wanted, such as {strange[:3]}")
    again = sum(count - 1 for counts in seen.values() for count in counts.values())
    return problems, again


def check_queue(outcome: Outcome, queue: Queue, sent: int) -> None:
    """Check that all that was sent was acked, and nothing went another way."""
    totals = queue.totals
    outcome.expect(totals["acked"] == sent, f"{totals['acked']} of {sent} messages of {queue.name} were acked")
    ways = {way: totals[way] for way in ("dead_lettered", "exhausted", "expired", "purged") if totals[way]}
    outcome.expect(not ways, f"messages of {queue.name} went another way: {ways}")
