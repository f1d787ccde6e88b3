"""
What handlers said, and when.

The engine is judged by that: at each request, at each handler's start, and at the end of each run.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.delays import ExponentialDelay
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.settlement import Kind
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.outcomes import Ack, Reject, Retry
from harness.audit import account
from simulation.loop import NEVER, VirtualTime
from simulation.record import Delivery, Record, Violation, may_delete
from simulation.scenario import Item, Scenario

if TYPE_CHECKING:
    from simulation.process import Process


@dataclass(slots=True, eq=False, kw_only=True)
class Handling(Delivery):
    """
    A lease whose message is for a handler.

    :param began_at: when its handler began.
    :param ended_at: when it ended.
    :param verdict: what it said.
    :param least_delay: the least that the message must wait then.
    """

    began_at: float | None = None
    ended_at: float | None = None
    verdict: Any = None
    least_delay: float | None = None


class Truth(Record):
    """
    The record of a seed of the engine, and its judge.

    :param time: the time.
    :param items: the messages.
    """

    delivery_class = Handling

    def __init__(self, time: VirtualTime, items: tuple[Item, ...]) -> None:
        super().__init__(time)
        self._items = items

    def item(self, message: Message) -> Item:
        """Return what a message is like."""
        return self._items[self.numbers[message.id]]

    # -- what a request does

    def check_copy(self, process: Process, delivery: Handling, fitting: list[Handling], is_renewal: bool) -> None:
        """Judge that a copy is of what was rejected or not seen, or of what may be deleted."""
        self.check(not process.options.dry_run, "%s is copied in a dry run", delivery)
        if is_renewal:
            for one in fitting:  # the body does not say of which delivery: the copy stands for all that were read
                one.is_copied = one.is_copied or one.message_id == delivery.message_id
            return
        limit = process.options.max_attempts
        is_unseen = self._items[delivery.number].is_undecodable or (limit is not None and delivery.attempt > limit)
        is_right = isinstance(delivery.verdict, Reject) or is_unseen or may_delete(delivery)
        self.check(is_right, "%s is dead-lettered, and nobody rejected it", delivery)

    def check_ack(self, process: Process, delivery: Handling) -> None:
        """Judge that what is acked is done, or kept elsewhere."""
        is_done = isinstance(delivery.verdict, Ack) or delivery.is_copied
        if process.journal is not None and delivery.verdict is None:
            is_done = is_done or self._was_handled(delivery)
        self.check(is_done, "%s is acked, and was neither handled nor accepted by the dead-letter queue", delivery)
        self.check(not process.options.dry_run, "%s is acked in a dry run", delivery)
        owner = process if process.journal is None else delivery.process  # it may know the leases of another try
        self.note_sent(owner, delivery, "acked")

    def _was_handled(self, delivery: Handling) -> bool:
        """Return whether another delivery of the message was handled with success: all that a journal may know."""
        return any(d.number == delivery.number and isinstance(d.verdict, Ack) for d in self.deliveries.values())

    def check_retry(self, process: Process, delivery: Handling, delay: int | None) -> None:
        """Judge that what is given back failed or had no turn, and waits for as long as was asked for."""
        self.note_sent(process, delivery, "given back")
        is_kept = not may_delete(delivery) or (has_failed(delivery) and not process.options.dry_run)
        self.check(is_kept, "%s is given back, Cloudflare may delete it by that, and no handler failed", delivery)
        grace_ends = NEVER if process.killed_at is None else process.killed_at + process.options.grace
        if process.options.dry_run or delivery.ended_at is None or delivery.ended_at >= grace_ends:
            return  # given back whatever was said of it, or before anything was
        self.check(not isinstance(delivery.verdict, Ack), "%s is given back, and was handled", delivery)
        least = delivery.least_delay
        is_heeded = least is None or (delay is not None and delay >= least)
        self.check(is_heeded, "%s waits %s s, and %s s were asked for", delivery, delay, least)

    # -- judgement

    def judge_run(self, process: Process) -> None:
        """Judge a run that came to its end, however it was brought about."""
        engine, report = process.engine, process.engine.report
        raised = process.main.exception() if not process.main.cancelled() else asyncio.CancelledError()
        self.note(process, "ends: %s, error %r, raised %r", report.to_xcom(), engine.state.error, raised)
        self.check(raised is None, "%s raised %r", process.name, raised)
        fates = report.fates
        total = fates.total() - process.acked_at_start
        self.check(report.pulled == total, "%s pulled %d, and reports %d", process.name, report.pulled, total)
        read = [delivery for delivery in process.deliveries if delivery.is_read]
        self.check(report.pulled == len(read), "%s was given %d, pulled %d", process.name, len(read), report.pulled)
        self.check(engine._window.open == 0, "%s has %d open at its end", process.name, engine._window.open)
        self.check_report(process, report, fates[Kind.ACKED] + fates[Kind.REJECTED])
        if process.killed_at is None:
            done = sum(delivery.verdict is not None for delivery in read)
            self.check(report.handled >= done, "%s handled %d, reports %d", process.name, done, report.handled)
        self.check_tasks(process)
        self._judge_end(process)

    def _judge_end(self, process: Process) -> None:
        options, engine = process.options, process.engine
        is_explained = (
            engine.state.error is not None
            or process.stopped_at is not None
            or process.last_answer == 0
            or options.dry_run  # it ends at the first message that comes again
            or (options.max_messages is not None and engine.report.pulled >= options.max_messages)
            or (options.max_duration is not None and self._time.now - process.began_at >= options.max_duration - 1e-6)
        )
        self.check(is_explained, "%s ended before the queue was empty, and does not say why", process.name)
        if engine.state.error is None and process.stopped_at is None:
            report = engine.report
            others = (Kind.EXPIRED, Kind.ACKED_FROM_JOURNAL, Kind.UNCONFIRMED)
            had_their_turn = report.handled + sum(report.fates[kind] for kind in others)
            had_their_turn += sum(delivery.is_copied and delivery.verdict is None for delivery in process.deliveries)
            self.check(report.pulled <= had_their_turn, "%s gave back messages whose turn did not come", process.name)
        if options.max_messages is not None:
            limit = options.max_messages
            self.check(engine.report.pulled <= limit, "%s pulled %d of %d", process.name, engine.report.pulled, limit)

    def judge(self, dead: set[int], scenario: Scenario) -> None:
        """
        Judge the seed: every message was handled, is in the dead-letter queue, or Cloudflare had a reason to delete it.

        :param dead: the messages that are there.
        :param scenario: the seed.
        """
        handled = {d.number for d in self.deliveries.values() if isinstance(d.verdict, Ack)}
        lost = []
        for number in sorted(account(self.numbers.values(), handled, dead).lost):
            last = [delivery for delivery in self.deliveries.values() if delivery.number == number][-1:]
            is_deleted = last and not scenario.moves and last[0].attempt > scenario.max_retries
            if not is_deleted or (last[0].honoured == "retries" and not has_failed(last[0])):
                lost.append(number)
        if lost and scenario.knows_consumer:
            raise Violation(f"messages {lost} are lost: never handled, and not in the dead-letter queue")


def has_failed(delivery: Handling) -> bool:
    """Return whether a handler saw a message and failed, or asked for another delivery."""
    return delivery.verdict is not None and not isinstance(delivery.verdict, (Ack, Reject))


def least_delay(options: Options, verdict: Any, attempt: int) -> float | None:
    """Return the least that a message must wait after a verdict; None where the consumer's setting decides."""
    asked = verdict.delay_seconds if isinstance(verdict, Retry) else None
    if asked is not None:
        return float(asked)
    rule = options.delay
    if isinstance(rule, ExponentialDelay):
        return replace(rule, jitter=0).seconds(Message(id="", lease_id="", body=None, attempts=attempt)) * (
            1 - rule.jitter
        )
    return None if rule is None else float(rule)  # type: ignore[arg-type]
