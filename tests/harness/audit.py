"""
The audit for lost messages: what was sent against what came of it.

Each campaign has evidence of its own: handlers' logs, the asset events in Airflow's database, a simulated broker. What
that evidence must show is decided here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

GONE_UNACKED = ("dead_lettered", "exhausted", "expired", "purged")
"""The emulator's counters of messages that left a queue without an ack."""


@dataclass
class Verdict:
    """What was seen; no promise is broken if there are no problems."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        """Note a broken promise."""
        if not holds:
            self.problems.append(problem)

    def none_of(self, what: str, found: Iterable[Any]) -> None:
        """Count what must not be there, and keep some of it for whoever looks into it."""
        listed = sorted(found)
        self.facts[what] = len(listed)
        self.expect(not listed, f"{what}: {len(listed)}, such as {listed[:3]}")


class Account(NamedTuple):
    """
    What became of messages.

    :param lost: those whose work was never done and that are kept nowhere.
    :param strange: those whose work was done although nobody sent them.
    :param again: how often the work of a message was done once more, for those that it happened to.
    """

    lost: set[Any]
    strange: set[Any]
    again: dict[Any, int]


def account(sent: Iterable[Hashable], done: Iterable[Hashable], kept: Collection[Hashable] = ()) -> Account:
    """
    Compare what was sent with what came of it.

    :param sent: messages, by what tells them apart.
    :param done: a message for each time that its work was done.
    :param kept: the messages that still are in a queue or in a dead-letter queue.
    """
    wanted, times = set(sent), Counter(done)
    again = {message: count - 1 for message, count in times.items() if count > 1}
    return Account(wanted - times.keys() - set(kept), times.keys() - wanted, again)


def check_queue(verdict: Verdict, name: str, totals: Mapping[str, int], sent: int) -> None:
    """
    Check that everything that was sent was acked, and that nothing left the queue in another way.

    :param verdict: gets what is wrong.
    :param name: of the queue.
    :param totals: what the emulator counted.
    :param sent: how many messages there were.
    """
    verdict.expect(totals["acked"] == sent, f"{totals['acked']} of {sent} messages of {name} were acked")
    ways = {way: totals[way] for way in GONE_UNACKED if totals[way]}
    verdict.expect(not ways, f"messages of {name} left it without an ack: {ways}")


def show(title: str, verdicts: Mapping[str, Verdict]) -> int:
    """Print a table for people and a line of JSON for programs; return the exit code."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "what", "figure", title=title)
    for name, verdict in verdicts.items():
        for what, figure in _rows(verdict.facts):
            table.add_row(name, what, str(figure))
            name = ""
        table.add_section()
    console = Console(width=110)
    console.print(table)
    problems = [f"{name}: {problem}" for name, verdict in verdicts.items() for problem in verdict.problems]
    for problem in problems:
        console.print(f"WRONG  {problem}", style="red", markup=False)
    found = {name: verdict.facts for name, verdict in verdicts.items()}
    print(json.dumps({"ok": not problems, **found, "problems": problems}))
    return 1 if problems else 0


def _rows(facts: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for what, figure in facts.items():
        if isinstance(figure, dict):
            yield from ((f"{what}: {cause}", count) for cause, count in figure.items())
        else:
            yield what, figure
