"""What became of the messages of a run: the numbers for log, XCom and the task's error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from traceback import walk_tb
from typing import Any

from airflow_provider_cfqueues.bodies import why_not_xcom
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.run import RunReport
from airflow_provider_cfqueues.engines.settlement import Case, Happened, Kind
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.texts import counted, per_second, to_reason

MAX_FAILURES_KEPT = 100
MAX_REASONS = 3
MAX_REASON_SHOWN = 200
MAX_RESULT_SIZE = 64_000
"""Of one result of a handler as JSON: an XCom is a value of Airflow's database."""

FATES = {
    Kind.ACKED: "acked",
    Kind.ACKED_FROM_JOURNAL: "acked from the journal",
    Kind.REJECTED: "copied to the dead-letter queue",
    Kind.RENEWED: "sent to the queue again",
    Kind.RETRIED: "delivered again after a delay",
    Kind.UNCONFIRMED: "not confirmed (if not settled, delivered again)",
}
"""What became of messages, for a person."""


class Handled(Case, frozen=True, kw_only=True):
    """
    What came of a message in a handler.

    :param finished_at: when its handler was done.
    :param failed: whether it counts as a failure of the task.
    :param result: what the handler returned.
    :param error: what the handler raised, if that is a failure.
    """

    finished_at: datetime
    failed: bool = False
    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that was not processed, and why."""

    message_id: str
    attempts: int | None
    reason: str


@dataclass(kw_only=True)
class Report(RunReport):
    """
    Counts of a run. ``fates`` also counts messages that were not pulled, but acked by the lease of an earlier try.

    :param handled: messages that a handler finished.
    :param failed: messages whose handler raised, or that were rejected.
    :param in_doubt: messages that did not fail, but whose settlement the API did not confirm.
    :param exhausted: messages after what may have been their last delivery, which Cloudflare takes away; they count as
        retried, expired or unconfirmed too.
    :param late: messages whose handler needed longer than the lease (they count as acked or retried too).
    :param closest: the smallest share of a lease that was left when its message was done; below 0 it had ended.
    :param attempts: how many messages came at which delivery.
    :param results: the first results that handlers returned.
    :param failures: the first messages that failed, with reason.
    :param kinds: how many messages failed alike, as :func:`kind_of` says; the first hundred kinds.
    :param examples: the first message of each kind.
    """

    handled: int = 0
    failed: int = 0
    in_doubt: int = 0
    exhausted: int = 0
    late: int = 0
    closest: float = 1.0
    attempts: Counter[int] = field(default_factory=Counter)
    results: list[Any] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    kinds: Counter[Hashable] = field(default_factory=Counter)
    examples: dict[Hashable, Failure] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Messages handled per second, without the time in which none were open."""
        return self.handled / self.activity.seconds if self.activity.seconds else 0.0

    @property
    def settled(self) -> int:
        """Messages that are no longer open, and whose settlement the API confirmed."""
        return sum(self.fates.values()) - self.fates[Kind.UNCONFIRMED]

    def add(self, handled: Handled, options: Options) -> None:
        """Count a message that a handler finished, or that was rejected unseen."""
        self.handled += 1
        if handled.failed:
            self.failed += 1
            failure, kind = Failure(handled.message.id, handled.message.attempts, handled.reason), kind_of(handled)
            if len(self.failures) < MAX_FAILURES_KEPT:
                self.failures.append(failure)
            if kind in self.examples or len(self.examples) < MAX_FAILURES_KEPT:
                self.examples.setdefault(kind, failure)
                self.kinds[kind] += 1
        elif len(self.results) < options.keep_results:
            self.results.append(_storable(handled.result))
        if (expires := handled.message.lease_expires_at) is not None:
            left = (expires - handled.finished_at).total_seconds() / options.visibility_timeout
            self.closest = min(self.closest, left)
            self.late += left < 0

    def count(self, settling: Settling) -> None:
        """Count what became of messages."""
        self.fates += settling.counts()
        self.exhausted += settling.exhausted
        self.in_doubt += settling.count_unconfirmed(Happened.HANDLED, Happened.NOT_STARTED)

    def conclusion(self) -> str:
        """Return how the run went, in a sentence for a person who reads nothing else."""
        if not self.fates:
            return "No message was pulled"
        handled = counted(self.handled, "message")
        head = f"{self.failed:,} of {handled} failed" if self.failed else f"{handled[0].upper()}{handled[1:]} handled"
        fates = [
            counted(count, f"is {word}", f"are {word}") for kind, word in FATES.items() if (count := self.fates[kind])
        ]
        parts = [f"{head}: {', '.join(fates)}" if fates else head]
        if expired := self.fates[Kind.EXPIRED]:
            what = ("more delivery was skipped, as its lease", "more deliveries were skipped, as their leases")
            parts.append(f"{counted(expired, *what)} ended before the handler began")
        if self.exhausted:
            parts.append(f"{self.exhausted:,} may have had no delivery left")
        return "; ".join(parts)

    def remedy(self) -> str:
        """Return what to do about the messages that are not done."""
        parts = ["Fix the cause."]
        for kind in (Kind.RETRIED, Kind.UNCONFIRMED, Kind.REJECTED):
            if count := self.fates[kind]:
                parts.append(f"{counted(count, 'message is', 'messages are')} {FATES[kind]}.")
        if self.exhausted:
            parts.append(f"Of these, {self.exhausted:,} may have had no delivery left: Cloudflare takes them away.")
        if self.fates[Kind.REJECTED]:
            parts.append("Look at rejected messages (peek), and redrive them once the cause is fixed.")
        return " ".join(parts)

    def verdict(self, limit: str) -> str:
        """Return how many messages failed, or are not confirmed although they did not, how many may, and why."""
        counts = [f"{self.failed} of {counted(self.handled, 'message')} failed"] if self.failed else []
        if self.in_doubt:
            counts.append(f"{counted(self.in_doubt, 'message is', 'messages are')} not confirmed")
        reasons = f": {self._reasons()}" if self.failed else ""
        return f"{' and '.join(counts)}{limit}{reasons}"

    def _reasons(self) -> str:
        parts, left = [], self.failed
        for kind, count in self.kinds.most_common(MAX_REASONS):
            first, left = self.examples[kind], left - count
            shown = to_reason(first.reason, MAX_REASON_SHOWN)
            parts.append(f"{count} x {shown}, for example {first.message_id} at delivery {first.attempts}")
        if left:
            parts.append(f"{left} more, see the log")
        return "; ".join(parts)

    def to_xcom(self) -> dict[str, Any]:
        """Return the report as plain JSON values; it has no body and no lease."""
        return {
            "pulled": self.pulled,
            "handled": self.handled,
            "failed": self.failed,
            **{kind.value: self.fates[kind] for kind in Kind},
            **self.unconfirmed.to_xcom(),
            "exhausted": self.exhausted,
            "late": self.late,
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 3),
            "attempts": {str(attempts): count for attempts, count in sorted(self.attempts.items())},
            "results": self.results,
        }


def log_report(log: Any, report: Report, options: Options) -> None:
    """Log what became of the messages, as a table."""
    rows = {
        "pulled": report.pulled,
        "handled": f"{report.handled} in {report.activity.seconds:.1f} s ({per_second(report.rate, 1)})",
        "failed": report.failed,
        "acked": report.fates[Kind.ACKED],
        "retried": report.fates[Kind.RETRIED],
        "rejected": report.fates[Kind.REJECTED],
        "sent to the same queue again": report.fates[Kind.RENEWED],
        "expired before their turn": report.fates[Kind.EXPIRED],
        "may have had their last delivery": report.exhausted,
        "not confirmed": report.fates[Kind.UNCONFIRMED],
        "handled before (journal)": report.fates[Kind.ACKED_FROM_JOURNAL],
        "attempts": ", ".join(f"{count} at delivery {n}" for n, count in sorted(report.attempts.items())) or "-",
    }
    if report.handled:
        left = f"{max(0, report.closest):.0%} of {options.visibility_timeout:g} s"
        whose = "its" if report.late == 1 else "their"
        late = f"; {counted(report.late, 'handled message')} needed longer than {whose} lease" if report.late else ""
        rows["least time left on a lease"] = f"{left}{late}"
    width = max(map(len, rows))
    log.info(
        "What became of the messages:\n%s", "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())
    )
    log.info("%s", report.conclusion())


def kind_of(handled: Handled) -> Hashable:
    """Return what failures that are alike have in common: what was raised and where, or else the reason."""
    if handled.error is None or handled.error.__traceback__ is None:
        return handled.reason
    *_, (frame, line) = walk_tb(handled.error.__traceback__)
    return type(handled.error), frame.f_code.co_filename, line


def _storable(result: Any) -> Any:
    """Return a result, or its text and why if Airflow cannot store it as an XCom: the work is done either way."""
    try:
        why = f"it is larger than {MAX_RESULT_SIZE:,} characters" if len(json.dumps(result)) > MAX_RESULT_SIZE else None
        why = why or why_not_xcom(result)
    except Exception as error:  # noqa: BLE001 - whatever the value does, its report goes on
        why = to_reason(error)
    return result if why is None else {"unstorable": to_reason(result), "why": why}
