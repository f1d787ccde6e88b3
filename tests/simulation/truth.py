"""
What really happened: which lease was given to whom, what its handler said and when, what the broker did.

The engine is judged by that: at each request, at each handler's start, and at the end of each run.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.bodies import decode_body
from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.delays import ExponentialDelay
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.settlement import Kind
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.outcomes import Ack, Reject, Retry
from harness.audit import account
from simulation.loop import NEVER, VirtualTime
from simulation.scenario import QUEUE_ID, Item, Scenario

if TYPE_CHECKING:
    from simulation.process import Process


class Violation(Exception):
    """Something happened that must never happen."""


@dataclass(slots=True, eq=False, kw_only=True)
class Delivery:
    """
    A lease, and what became of it.

    :param number: of the message.
    :param message_id: its ID in the queue. A message that is sent again gets a new one.
    :param attempt: which delivery of it.
    :param process: whose lease it is.
    :param ends_ms: when it ends, by the broker's clock.
    """

    number: int
    message_id: str
    attempt: int
    process: Any
    ends_ms: int
    is_read: bool = False
    is_copied: bool = False
    sent: str = ""
    honoured: str = ""

    def __str__(self) -> str:
        return f"message {self.number}, delivery {self.attempt}, of {self.process.name}"


class Record:
    """
    What happened in a seed, in order, and the first thing that must not.

    :param time: the time.
    """

    delivery_class: type[Any] = Delivery

    def __init__(self, time: VirtualTime) -> None:
        self.trace: list[tuple[Any, ...]] = []
        self.violation = ""
        self.counts: Counter[str] = Counter()
        self.deliveries: dict[str, Any] = {}
        self.numbers: dict[str, int] = {}
        self._time = time

    def note(self, process: Any, text: str, *args: Any) -> None:
        """Add to the trace; it is formatted only if somebody looks."""
        self.trace.append((self._time.now, process and process.name, text, args))

    def check(self, holds: bool, text: str, *args: Any) -> None:
        """Blame the code under test unless something holds."""
        if not holds:
            self.blame(text % args)

    def blame(self, text: str) -> None:
        """Remember the first thing that must not happen; the code under test cannot swallow it."""
        self.violation = self.violation or text
        self.trace.append((self._time.now, None, f"VIOLATION: {text}".replace("%", "%%"), ()))

    def show_trace(self, last: int | None = None) -> list[str]:
        """Return the trace, or its end, as lines."""
        events = self.trace if last is None else self.trace[-last:]
        return [f"{now:10.3f}  {name or 'world':<6} {text % args}" for now, name, text, args in events]

    # -- what a request does

    def number_of(self, message_id: str, body: Any) -> int:
        """Return the number of a message; one that was sent again has another ID, and a dead letter that of another."""
        if message_id not in self.numbers:
            document = json.loads(body) if isinstance(body, (bytes, str)) else body
            if "id" in document:
                return self.numbers[document["id"]]
            self.numbers[message_id] = document["n"]
        return self.numbers[message_id]

    def sends(self, process: Any, call: Call[Any], fault: str) -> None:
        """
        Judge a request as it leaves its process.

        :param process: who makes it.
        :param call: what for.
        :param fault: what goes wrong with it.
        """
        if call.path.endswith("/ack"):
            self.check_settlement(process, call.payload)

    def check_settlement(self, process: Any, payload: Any) -> None:
        """Judge a request to settle leases."""
        for item in payload["acks"]:
            self.check_ack(process, self.deliveries[item["lease_id"]])
        for item in payload["retries"]:
            self.check_retry(process, self.deliveries[item["lease_id"]], item.get("delay_seconds"))

    def check_ack(self, process: Any, delivery: Any) -> None:
        """Judge an ack."""
        raise NotImplementedError

    def check_retry(self, process: Any, delivery: Any, delay: int | None) -> None:
        """Judge that a message is given back."""
        raise NotImplementedError

    def note_sent(self, process: Any, delivery: Any, kind: str) -> None:
        """Note how a lease is settled, by its own process, and always in the same way."""
        self.check(delivery.process is process, "%s settles %s", process.name, delivery)
        self.check(delivery.sent in ("", kind), "%s is %s after it was %s", delivery, kind, delivery.sent)
        delivery.sent = kind

    def applied(self, process: Any, call: Call[Any], document: Any, number: int, broker_ms: int) -> Any:
        """
        Note what the broker did at a request; return the leases it gave.

        :param process: who asked.
        :param call: what for.
        :param document: the broker's answer.
        :param number: of the request.
        :param broker_ms: the broker's time.
        """
        if not document["success"]:
            return None
        result = document["result"]
        if call.path.endswith("/pull"):
            ends_ms = broker_ms + call.payload["visibility_timeout_ms"]
            given = [self.given(process, item, ends_ms) for item in result["messages"]]
            self.deliveries |= zip((item["lease_id"] for item in result["messages"]), given, strict=True)
            process.deliveries += given
            shown = [(delivery.number, delivery.attempt) for delivery in given]
            self.note(process, "request %d gives (message, delivery): %s", number, shown)
            return [item["lease_id"] for item in result["messages"]]
        if call.path.endswith("/ack"):
            self.settled(call.payload, result)
            self.note(process, "request %d settles %s and %s", number, result["ackCount"], result["retryCount"])
        if call.path.endswith("/batch"):
            is_renewal = f"/queues/{QUEUE_ID}/" in call.path
            copied = [self._note_copy(process, call, copy["body"], is_renewal) for copy in call.payload["messages"]]
            self.note(process, "request %d %s messages %s", number, "renews" if is_renewal else "copies", copied)
        return None

    def given(self, process: Any, item: Any, ends_ms: int) -> Any:
        """Return the delivery that an item of a pull is."""
        content_type = item["metadata"].get("CF-Content-Type")
        body = None if item["id"] in self.numbers else decode_body(item["body"], content_type)
        return self.delivery_class(
            number=self.number_of(item["id"], body),
            message_id=item["id"],
            attempt=item["attempts"],
            process=process,
            ends_ms=ends_ms,
        )

    def settled(self, payload: Any, result: Any) -> None:
        """Note which leases the broker settled."""
        for kind in ("acks", "retries"):
            for item in payload[kind]:
                if item["lease_id"] not in result["warnings"]:
                    self.deliveries[item["lease_id"]].honoured = kind

    def _note_copy(self, process: Any, call: Call[Any], body: Any, is_renewal: bool) -> int:
        """
        Note that a queue accepted a copy of a message.

        A queue may hold several copies of a message, and a copy whose answer was lost is sent again. A copy in a
        dead-letter queue says of which delivery it is.
        """
        number = self.numbers[body["id"]] if "id" in body else body["n"]
        mine = [one for one in reversed(self.may_copy(process, call)) if one.number == number and one.is_read]
        if is_renewal:
            fitting = [one for one in mine if may_delete(one)]
        else:
            fitting = [one for one in mine if body.get("attempts") in (None, one.attempt)]
        new = (one for one in fitting if not (one.is_copied or one.sent))
        delivery = next(new, (fitting or mine)[0])
        delivery.is_copied = True
        if is_renewal:
            self.check(may_delete(delivery), "%s is sent again, and nothing would delete it", delivery)
        self.check_copy(process, delivery, fitting, is_renewal)
        return number

    def may_copy(self, process: Any, call: Call[Any]) -> list[Any]:
        """Return the deliveries that a process may copy by a call."""
        deliveries: list[Any] = process.deliveries
        return deliveries

    def check_copy(self, process: Any, delivery: Any, fitting: list[Any], is_renewal: bool) -> None:
        """Judge a copy, which may be of other deliveries that fit as well."""
        raise NotImplementedError

    # -- judgement

    def check_tasks(self, process: Any) -> None:
        """Judge that a process that came to its end has nothing unfinished in it."""
        alive = [task for task in process.loop._tasks if not task.done()]
        self.check(not alive, "%s left tasks behind: %s", process.name, alive)

    def check_report(self, process: Any, report: Any, acked: int) -> None:
        """
        Judge that a report counts no more than took place.

        :param process: whose report it is.
        :param report: the report.
        :param acked: how many acks it has.
        """
        honoured = Counter(delivery.honoured for delivery in process.deliveries if delivery.is_read)
        self.check(acked <= honoured["acks"], "%s reports more acks than took place", process.name)
        is_right = report.fates[Kind.RETRIED] <= honoured["retries"]
        self.check(is_right, "%s reports more retries than took place", process.name)


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


def may_delete(delivery: Delivery) -> bool:
    """Return whether Cloudflare may delete a message that is given back, as its process has to see it."""
    consumer = delivery.process.consumer
    limit = 3 if consumer is None or consumer.max_retries is None else consumer.max_retries
    return delivery.attempt >= limit and (consumer is None or consumer.dead_letter_queue is None)


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
