"""What a scenario of ``scripts/e2e`` says, and the comparison of what was sent with what Airflow stored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.cloudflare import Queue


@dataclass
class Outcome:
    """What was seen; no promise is broken where there are no problems."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        """Note a broken promise."""
        if not holds:
            self.problems.append(problem)


class Event(NamedTuple):
    """An asset event, as the metadata database has it: of which asset, of which message."""

    asset: str
    message_id: str
    body: Any
    attempts: int


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
