"""
What became of each message that handlers worked on: their log against the emulator's ledger and dead-letter queue.

A delivery is named by the message's number and its attempt. The ledger has, for each delivery that was settled, whether
it was acknowledged or retried; what was neither came back when its lease ended.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from harness.audit import GONE_UNACKED, Verdict, account

DONE = ("ok", "reject")
UNEXPLAINED = "unexplained"


@dataclass
class Run:
    """One run of a task, or all that a worker runs, and how it ended."""

    name: str
    killed: bool = False
    clock_moved: bool = False
    report: dict[str, Any] | None = None
    error: str | None = None


class Handled(NamedTuple):
    """A line of the handlers' log."""

    n: int
    attempt: int
    outcome: str
    run: str
    at: float

    def __str__(self) -> str:
        """Return it as it is logged; all lines of a log are of one length while names of runs are."""
        return f"{self.n:8} {self.attempt:4} {self.outcome:6} {self.run:>12} {self.at:17.6f}\n"


class Copy(NamedTuple):
    """A message of the dead-letter queue: a copy of which delivery it is."""

    n: int
    attempt: int
    of_poison: bool


def read_handled(path: Path) -> list[Handled]:
    """Read the handlers' log, oldest line first."""
    fields = (line.split() for line in path.read_text().splitlines())
    return [Handled(int(n), int(attempt), outcome, run, float(at)) for n, attempt, outcome, run, at in fields]


class Ledger:
    """
    The emulator's state file, read after the emulator has ended.

    Messages have the numbers 1, 2, … in the order in which they were sent, and each pull counts up both ``lease`` and
    ``attempts``, so that a used lease names a delivery.
    """

    def __init__(self, path: Path, messages: int) -> None:
        db = sqlite3.connect(path)
        db.row_factory = sqlite3.Row
        used = db.execute("SELECT message - 1, lease, outcome FROM used_leases").fetchall()
        self.settled: dict[tuple[int, int], str] = {(n, lease): outcome for n, lease, outcome in used}
        self.orders = dict(db.execute("SELECT * FROM queues WHERE name = 'orders'").fetchone())
        self.left = {n for (n,) in db.execute("SELECT number - 1 FROM messages") if n < messages}
        bodies = db.execute("SELECT body FROM messages WHERE number > ?", (messages,)).fetchall()
        db.close()
        self.copies = []
        for (raw,) in bodies:
            copy = json.loads(raw)
            self.copies.append(Copy(copy["body"]["n"], copy["attempts"], copy["body"]["fails"] < 0))

    @property
    def acked(self) -> set[tuple[int, int]]:
        """The deliveries that were acknowledged."""
        return {delivery for delivery, outcome in self.settled.items() if outcome == "acknowledged"}


def audit(messages: int, handled: list[Handled], runs: Sequence[Run], state_file: Path) -> Verdict:
    """
    Compare the three, and count.

    :param messages: how many were sent.
    :param handled: the handlers' log.
    :param runs: how each run of the task ended.
    :param state_file: the emulator's.
    """
    ledger = Ledger(state_file, messages)
    verdict = Verdict()
    orders = ledger.orders
    verdict.facts |= {
        "messages": messages,
        "runs": len(runs),
        "killed": sum(run.killed for run in runs),
        "ended with an error": sum(run.error is not None for run in runs),
        "clock moved while running": sum(run.clock_moved for run in runs),
        "delivered": orders["delivered"],
        "handled": len(handled),
        "handlers that failed": sum(line.outcome == "fail" for line in handled),
    }
    _check_messages(verdict, messages, handled, ledger)
    _check_copies(verdict, handled, ledger)
    _check_reports(verdict, handled, runs, ledger)
    verdict.none_of("left in the queue", range(orders["backlog_count"]))
    verdict.none_of("removed by the broker", [f"{key}={orders[key]}" for key in GONE_UNACKED if orders[key]])
    _check_repeats(verdict, handled, Causes(runs, ledger), ledger)
    return verdict


def _check_repeats(verdict: Verdict, handled: list[Handled], causes: Causes, ledger: Ledger) -> None:
    by_delivery = {(line.n, line.attempt): line for line in handled}
    duplicates = Counter(causes.of(line, following) for line, following in _done_again(handled))
    copies_of = defaultdict(list)
    for copy in sorted(set(ledger.copies)):
        if line := by_delivery.get((copy.n, copy.attempt)):
            copies_of[copy.n].append(line)
    copied_again = [pair for lines in copies_of.values() for pair in pairwise(lines)]
    copies = Counter(causes.of(line, following) for line, following in copied_again)
    verdict.facts |= {
        "handled again": sum(duplicates.values()),
        "handled again, by cause": dict(duplicates.most_common()),
        "copied again": len(copied_again),
        "copied again, by cause": dict(copies.most_common()),
    }
    verdict.none_of("duplicates unexplained", range(duplicates[UNEXPLAINED] + copies[UNEXPLAINED]))


def _check_messages(verdict: Verdict, messages: int, handled: list[Handled], ledger: Ledger) -> None:
    done = {(line.n, line.attempt) for line in handled if line.outcome in DONE}
    verdict.none_of("lost", account(range(messages), (n for n, _ in done), ledger.left).lost)
    verdict.none_of("gone without an ack", account(range(messages), (n for n, _ in ledger.acked), ledger.left).lost)
    # Stronger than at the end of all: that very delivery was done, so no ack ran ahead of its handler.
    verdict.none_of("acked but not handled", ledger.acked - done)


def _check_copies(verdict: Verdict, handled: list[Handled], ledger: Ledger) -> None:
    rejected = {(line.n, line.attempt) for line in handled if line.outcome == "reject"}
    poison = {n for n, _ in rejected}
    copied = {copy.n for copy in ledger.copies}
    times = Counter((copy.n, copy.attempt) for copy in ledger.copies)
    verdict.facts["poison"] = len(poison)
    verdict.facts["in the dead-letter queue"] = len(ledger.copies)
    verdict.none_of("poison without a copy", poison - copied)
    verdict.none_of("copies of what is no poison", {copy.n for copy in ledger.copies if not copy.of_poison})
    verdict.none_of("copies of what was not rejected", set(times) - rejected)
    verdict.facts["copied twice: its answer was lost"] = sum(count - 1 for count in times.values())
    verdict.none_of("rejected and acked, but not copied", (ledger.acked & rejected) - set(times))


def _check_reports(verdict: Verdict, handled: list[Handled], runs: Sequence[Run], ledger: Ledger) -> None:
    """Check that tasks that came to their end account for every lease and call none acked that is not."""
    acked = Counter(line.run for line in handled if (line.n, line.attempt) in ledger.acked)
    wrong = []
    for run in runs:
        if run.report is None:
            continue
        report = run.report
        ends = sum(report[key] for key in ("acked", "retried", "rejected", "expired", "unconfirmed"))
        confirmed = report["acked"] + report["rejected"]
        if report["pulled"] != ends or not confirmed <= acked[run.name] <= confirmed + report["unconfirmed"]:
            wrong.append(f"run {run.name}: {acked[run.name]} acks in the ledger, {report}")
    verdict.none_of("reports that do not add up", wrong)


def _done_again(handled: list[Handled]) -> list[tuple[Handled, Handled]]:
    """Return each delivery that was done although it was not the last one to be, with the next."""
    done = defaultdict(list)
    for line in handled:
        if line.outcome in DONE:
            done[line.n].append(line)
    return [pair for lines in done.values() for pair in pairwise(lines)]


class Causes:
    """Says why what was done once was done again."""

    def __init__(self, runs: Sequence[Run], ledger: Ledger) -> None:
        self._runs = {run.name: run for run in runs}
        self._ledger = ledger

    def of(self, line: Handled, following: Handled) -> str:
        """
        Return the cause.

        :param line: a delivery that was done.
        :param following: the next one of the same message that was.
        """
        run = self._runs[line.run]
        settled = self._ledger.settled.get((line.n, line.attempt))
        if settled == "retried":
            return "its copy was not confirmed, so it was given back" if line.outcome == "reject" else UNEXPLAINED
        if run.clock_moved and (following.run == line.run or settled == "acknowledged"):
            return "its lease ended before its ack (the clock was moved)"
        if settled == "acknowledged":
            return "its ack was under way when its lease ended" if run.killed or run.error else UNEXPLAINED
        if run.killed:
            return "killed before its ack reached the API"
        return "its ack failed for good" if run.error else UNEXPLAINED
