"""
One seed from start to end: broker, network, processes and faults in virtual time, and what must hold throughout.

The world knows the truth: which lease was given to whom, what its handler said and when, what was sent of it and what
the broker did. The engine is judged by that, at each request and each handler's start, and at the end of each run.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
import random as random_module
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

import httpx

from airflow_provider_cfqueues import clients
from airflow_provider_cfqueues.delays import ExponentialDelay
from airflow_provider_cfqueues.emulator.clock import Clock
from airflow_provider_cfqueues.emulator.model import Outgoing
from airflow_provider_cfqueues.emulator.service import Service
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.outcomes import Ack, Reject, Retry
from airflow_provider_cfqueues.processing.engine import Engine
from airflow_provider_cfqueues.processing.options import Options
from airflow_provider_cfqueues.processing.port import HookPort
from airflow_provider_cfqueues.protocol import Call
from simulation.handlers import make_handler
from simulation.loop import VirtualLoop, VirtualTime
from simulation.network import _TIMEOUT, Fault, Hook, Server, answer_bytes, draw_fault
from simulation.scenario import Run, Scenario, draw

EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)
MAX_STEPS = 100_000
MAX_SECONDS = 100_000.0
MAX_DRAINS = 25
SECONDS_AFTER_KILL = 200.0
"""Beyond the grace: a last request is repeated for a minute, and a copy to the dead-letter queue goes before it."""
QUEUE_ID, DEAD_LETTER_QUEUE_ID = "1" * 32, "2" * 32


class Violation(Exception):
    """Something happened that must never happen."""


class Quiet:
    """The engine's log: nobody reads it."""

    def warning(self, *_: Any) -> None:
        pass

    error = info = warning


@dataclass(slots=True, eq=False)
class Delivery:
    """
    A lease, and what became of it.

    :param number: of the message.
    :param attempt: which delivery of it.
    :param process: whose lease it is.
    :param ends_ms: when it ends, by the broker's clock.
    """

    number: int
    attempt: int
    process: Process
    ends_ms: int
    is_read: bool = False
    began_at: float | None = None
    ended_at: float | None = None
    verdict: Any = None
    least_delay: float | None = None
    is_copied: bool = False
    sent: str = ""
    honoured: str = ""

    def __str__(self) -> str:
        return f"message {self.number}, delivery {self.attempt}, of {self.process.name}"


class Process:
    """
    A worker process with one engine in it.

    :param world: where it runs.
    :param name: for the trace.
    :param run: what it does.
    """

    def __init__(self, world: World, name: str, run: Run) -> None:
        self.world = world
        self.name = name
        self.run = run
        self.options = run.options
        self.loop = VirtualLoop(world.time, self._on_error)
        self.began_at = world.time.now
        self.steps = 0
        self.offset = timedelta(seconds=run.skew)
        self.has_jumped = False
        self.is_dead = False
        self.stopped_at: float | None = None
        self.killed_at: float | None = None
        self.deliveries: list[Delivery] = []
        self.last_answer: int | None = None
        has_dead_letter_queue = world.scenario.has_dead_letter_queue
        port = HookPort(
            Hook(self),  # type: ignore[arg-type]
            QUEUE_ID,
            visibility_timeout=run.options.visibility_timeout,
            dead_letter_queue_id=DEAD_LETTER_QUEUE_ID if has_dead_letter_queue else None,
        )
        handler = make_handler(self, run.shape, run.options.batch_size is not None)
        self.engine = world.engine_class(port, handler, run.options, now=self.now, log=Quiet())
        self.main = self.loop.create_task(self.engine.run())

    def now(self) -> datetime:
        """Return what the clock of this machine says."""
        return EPOCH + timedelta(seconds=self.world.time.now) + self.offset

    def proceed(self, *, is_alone: bool) -> None:
        """
        Run it to its next await; alone, until it has nothing to do for now, or meets its doom.

        :param is_alone: whether no other process could run in between.
        """
        doom = self.run.doom.after_steps
        steps = 1 if not is_alone else MAX_STEPS if doom is None or doom <= self.steps else doom - self.steps
        try:
            self.steps += self.loop.proceed(steps, self.main)
        except SystemExit:
            self.world.blame("a handler's SystemExit tore down the run: what was done is not settled")

    def stop(self, *, killed: bool) -> None:
        """Ask the engine to end."""
        if not self.is_dead:
            self.world.note(self, "is killed" if killed else "is stopped")
            if killed and self.killed_at is None:
                self.killed_at = self.world.time.now
            if self.stopped_at is None:
                self.stopped_at = self.world.time.now
            self.engine.stop(killed=killed)

    def die(self) -> None:
        """End at once."""
        self.is_dead = True

    def _on_error(self, context: dict[str, Any]) -> None:
        self.world.blame(f"{self.name}: nobody took {context.get('exception') or context.get('message')!r}")

    # -- what the network and the handlers tell

    def has_read(self, lease_ids: list[str]) -> None:
        """Note that the answer of a pull arrived."""
        self.last_answer = len(lease_ids)
        for lease_id in lease_ids:
            self.world.deliveries[lease_id].is_read = True

    def begins(self, message: Message) -> None:
        """Note that a handler is given a message."""
        world, delivery = self.world, self.world.deliveries[message.lease_id]
        world.note(self, "begins message %d, delivery %d", delivery.number, delivery.attempt)
        world.check(delivery.process is self, "%s is handled by %s", delivery, self.name)
        world.check(delivery.began_at is None, "%s is handled twice", delivery)
        world.check(not delivery.sent, "%s is handled after it was settled as %s", delivery, delivery.sent)
        expires = message.lease_expires_at
        world.check(expires is not None and self.now() < expires, "%s is handled though its lease ended", delivery)
        if not self.has_jumped and not world.broker_has_jumped:
            world.check(world.broker_ms() < delivery.ends_ms, "%s: the engine believes in a lease that ended", delivery)
        limit = self.options.max_attempts
        world.check(limit is None or delivery.attempt <= limit, "%s is above max_attempts", delivery)
        is_late = self.stopped_at is not None and world.time.now > self.stopped_at
        world.check(not is_late, "%s begins after stop", delivery)
        delivery.began_at = world.time.now

    def ends(self, message: Message, verdict: Any) -> None:
        """Note what a handler is about to say of a message."""
        delivery = self.world.deliveries[message.lease_id]
        self.world.note(self, "ends message %d, delivery %d: %r", delivery.number, delivery.attempt, verdict)
        delivery.ended_at = self.world.time.now
        delivery.verdict = verdict
        if not isinstance(verdict, (Ack, Reject)):
            delivery.least_delay = _least_delay(self.options, verdict, delivery.attempt)


class World:
    """
    One seed.

    :param seed: decides everything.
    :param service: an emulated account, used for one seed after another: making one costs more than most seeds.
    :param time: its time.
    :param engine_class: the engine; a test plants a bug here.
    """

    def __init__(self, seed: int, service: Service, time: VirtualTime, engine_class: type[Engine] = Engine) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.scenario: Scenario = draw(self.random)
        self.engine_class = engine_class
        self.time = time
        time.now = 0.0
        self.trace: list[tuple[Any, ...]] = []
        self.deliveries: dict[str, Delivery] = {}
        self.processes: list[Process] = []
        self.live: list[Process] = []
        self.steps = 0
        self.is_healed = False
        self.broker_has_jumped = False
        self.requests = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._event_count = 0
        self._violation = ""
        self._service = service
        self._server = Server(service)
        self._numbers: dict[str, int] = {}
        self._reset_broker()

    # -- the truth

    def note(self, process: Process | None, text: str, *args: Any) -> None:
        """Add to the trace; it is formatted only if somebody looks."""
        self.trace.append((self.time.now, process and process.name, text, args))

    def check(self, holds: bool, text: str, *args: Any) -> None:
        """Blame the engine unless something holds."""
        if not holds:
            self.blame(text % args)

    def blame(self, text: str) -> None:
        """Remember the first thing that must not happen; the code under test cannot swallow it."""
        self._violation = self._violation or text
        self.trace.append((self.time.now, None, f"VIOLATION: {text}".replace("%", "%%"), ()))

    def show_trace(self, last: int | None = None) -> list[str]:
        """Return the trace, or its end, as lines."""
        events = self.trace if last is None else self.trace[-last:]
        return [f"{now:10.3f}  {name or 'world':<6} {text % args}" for now, name, text, args in events]

    def broker_ms(self) -> int:
        """Return what the broker's clock says."""
        return self._service.broker.clock.now_ms()

    def is_trouble(self, message: Message) -> bool:
        """Return whether a handler does not succeed with this delivery."""
        item = self.scenario.items[self._numbers[message.id]]
        if self.is_healed:
            return item.trouble > 1000
        return (message.attempts or 0) <= item.trouble

    def is_rejected(self, message: Message) -> bool:
        """Return whether a handler rejects this message."""
        item = self.scenario.items[self._numbers[message.id]]
        # With nowhere to put it, it would come again and again until Cloudflare deletes it.
        return item.is_rejected and (self.scenario.has_dead_letter_queue or (message.attempts or 0) <= 3)

    def _reset_broker(self) -> None:
        service, scenario = self._service, self.scenario
        service.broker.clear()
        service.broker.store.db.execute("DELETE FROM sqlite_sequence")
        service.random.seed(self.seed)
        service.broker.clock.offset_ms = 0
        service.create_queue("dead", queue_id=DEAD_LETTER_QUEUE_ID)
        takes_away = scenario.max_retries < 100
        service.create_queue(
            "orders",
            queue_id=QUEUE_ID,
            dead_letter_queue="dead" if takes_away else "",
            max_retries=scenario.max_retries,
            retry_delay=scenario.retry_delay,
        )

    def _send_items(self) -> None:
        moments: dict[float, list[int]] = {}
        for number, item in enumerate(self.scenario.items):
            moments.setdefault(item.sent_at, []).append(number)
        for moment, numbers in moments.items():
            if moment:
                self._at(moment, lambda numbers=numbers: self._send(numbers))
            else:
                self._send(numbers)

    def _send(self, numbers: list[int]) -> None:
        outgoing = []
        for number in numbers:
            kind = "v8" if self.scenario.items[number].is_undecodable else "json"
            outgoing.append(Outgoing(body=b'{"n": %d}' % number, content_type=kind, base64=kind == "v8"))
        self._numbers.update(zip(self._service.broker.send(QUEUE_ID, outgoing), numbers, strict=True))
        self.note(None, "sends messages %s", numbers)

    # -- the network

    def send(self, process: Process, call: Call[Any], content: bytes, answer: asyncio.Future[Any]) -> None:
        """Take a request, decide its fate, and see to it that it meets it."""
        rate, outage = self.scenario.fault_rate, self.scenario.outage
        if outage and outage[0] <= self.time.now <= outage[1]:
            rate = 1.0
        fault = draw_fault(self.random, 0.0 if self.is_healed else rate, self.scenario.latency)
        self.requests += 1
        number = self.requests
        if fault.name:
            self.note(process, "request %d, %s: %s", number, call.name, fault.name)
        else:
            self.note(process, "request %d, %s", number, call.name)
        if call.path.endswith("/ack"):
            self._check_settlement(process, call.payload)
        if fault.up + fault.down > _TIMEOUT:
            self._after(_TIMEOUT, lambda: self._break(process, call, answer, "timed out"))
        self._after(fault.up, lambda: self._arrive(process, call, content, answer, fault, number))

    def _arrive(
        self, process: Process, call: Call[Any], content: bytes, answer: asyncio.Future[Any], fault: Fault, number: int
    ) -> None:
        status, document, arrived = fault.status, None, None
        if fault.is_applied:
            if fault.share < 1 and call.path.endswith("/pull"):
                size = max(1, int(call.payload["batch_size"] * fault.share))
                content = answer_bytes({**call.payload, "batch_size": size})
            applied, document = self._server.apply(call, content)
            arrived = self._note_applied(process, call, document, number)
            status = status or applied
        if fault.breaks:
            self._after(fault.down, lambda: self._break(process, call, answer, fault.breaks))
            return
        body = fault.content if fault.status or document is None else answer_bytes(document)
        if fault.cut:
            body = body[: len(body) // 2]
        if fault.status or fault.cut:
            arrived = None
        result = (status, fault.headers or {}, body, arrived)
        self._after(fault.down, lambda: self._give(process, answer, lambda: answer.set_result(result)))

    def _break(self, process: Process, call: Call[Any], answer: asyncio.Future[Any], why: str) -> None:
        error = clients._no_answer(call, httpx.ReadError(why), connected=why != "refused")
        self._give(process, answer, lambda: answer.set_exception(error))

    def _give(self, process: Process, answer: asyncio.Future[Any], give: Callable[[], None]) -> None:
        if not process.is_dead and not answer.done():
            give()

    def _note_applied(self, process: Process, call: Call[Any], document: Any, number: int) -> Any:
        if not document["success"]:
            return None
        result = document["result"]
        if call.path.endswith("/pull"):
            ends_ms = self.broker_ms() + call.payload["visibility_timeout_ms"]
            lease_ids = []
            for item in result["messages"]:
                delivery = Delivery(self._numbers[item["id"]], item["attempts"], process, ends_ms)
                self.deliveries[item["lease_id"]] = delivery
                process.deliveries.append(delivery)
                lease_ids.append(item["lease_id"])
            shown = [(d.number, d.attempt) for d in map(self.deliveries.__getitem__, lease_ids)]
            self.note(process, "request %d gives (message, delivery): %s", number, shown)
            return lease_ids
        if call.path.endswith("/ack"):
            for kind in ("acks", "retries"):
                for item in call.payload[kind]:
                    if item["lease_id"] not in result["warnings"]:
                        self.deliveries[item["lease_id"]].honoured = kind
            self.note(process, "request %d settles %s and %s", number, result["ackCount"], result["retryCount"])
        if call.path.endswith("/batch"):
            self._note_copies(process, call.payload["messages"], number)
        return None

    def _note_copies(self, process: Process, copies: list[Any], number: int) -> None:
        for copy in copies:
            message = self._numbers[copy["body"]["id"]]
            attempt = copy["body"]["attempts"]
            delivery = next(d for d in process.deliveries if (d.number, d.attempt) == (message, attempt))
            delivery.is_copied = True
            limit = process.options.max_attempts
            is_undecodable = self.scenario.items[message].is_undecodable
            is_unseen = is_undecodable or (limit is not None and attempt > limit)
            is_rejected = isinstance(delivery.verdict, Reject) or is_unseen
            self.check(is_rejected, "%s is dead-lettered, and nobody rejected it", delivery)
        self.note(process, "request %d copies messages %s", number, [copy["body"]["id"][:4] for copy in copies])

    def _check_settlement(self, process: Process, payload: Any) -> None:
        for item in payload["acks"]:
            delivery = self.deliveries[item["lease_id"]]
            self.check(delivery.process is process, "%s settles %s", process.name, delivery)
            is_done = isinstance(delivery.verdict, Ack) or delivery.is_copied
            self.check(is_done, "%s is acked, and was neither handled nor accepted by the dead-letter queue", delivery)
            self.check(not process.options.dry_run, "%s is acked in a dry run", delivery)
            self._note_sent(delivery, "acked")
        for item in payload["retries"]:
            delivery = self.deliveries[item["lease_id"]]
            self.check(delivery.process is process, "%s settles %s", process.name, delivery)
            self._check_retry(delivery, item.get("delay_seconds"))
            self._note_sent(delivery, "retried")

    def _note_sent(self, delivery: Delivery, kind: str) -> None:
        self.check(delivery.sent in ("", kind), "%s is %s after it was %s", delivery, kind, delivery.sent)
        delivery.sent = kind

    def _check_retry(self, delivery: Delivery, delay: int | None) -> None:
        process = delivery.process
        grace_ends = FAR if process.killed_at is None else process.killed_at + process.options.grace
        if process.options.dry_run or delivery.ended_at is None or delivery.ended_at >= grace_ends:
            return  # given back whatever was said of it, or before anything was
        self.check(not isinstance(delivery.verdict, Ack), "%s is given back, and was handled", delivery)
        least = delivery.least_delay
        if delay is not None and least is not None:
            self.check(delay >= least, "%s waits %s s, and %s s were asked for", delivery, delay, least)

    # -- time

    def _at(self, when: float, action: Callable[[], None]) -> None:
        self._event_count += 1
        heapq.heappush(self._events, (when, self._event_count, action))

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._at(self.time.now + seconds, action)

    def _step(self) -> None:
        """Let a process that has something to do proceed; where none has, let time pass."""
        live = self.live
        ready = [process for process in live if process.loop.is_ready]
        if not ready:
            self._pass_time()
            return
        process = ready[0] if len(ready) == 1 else self.random.choice(ready)
        before = process.steps
        process.proceed(is_alone=len(live) == 1)
        self.steps += process.steps - before
        if process.run.doom.after_steps == process.steps:
            self._strike(process)
        if process.main.done() and not process.is_dead:
            self._judge_run(process)
            process.die()
        if process.is_dead:
            self.live.remove(process)

    def _pass_time(self) -> None:
        moments = [when for process in self.live if (when := process.loop.next_timer()) is not None]
        timer = min(moments, default=FAR)
        event = self._events[0][0] if self._events else FAR
        if timer == event == FAR:
            raise Violation(f"{', '.join(process.name for process in self.live)} hangs: nothing will ever happen again")
        self.time.now = max(self.time.now, min(timer, event))
        for process in self.live:
            over = FAR if process.killed_at is None else process.killed_at + process.options.grace + SECONDS_AFTER_KILL
            self.check(self.time.now <= over, "%s runs on after it was killed", process.name)
        if event <= timer:
            heapq.heappop(self._events)[2]()
            self.live = [process for process in self.live if not process.is_dead]
        else:
            for process in self.live:
                process.loop.fire()

    def _run_until(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            self._step()
            if self._violation:
                break
            if self.steps > MAX_STEPS or self.time.now > MAX_SECONDS:
                raise Violation(f"no end after {self.steps} steps and {self.time.now:.0f} s")
        if self._violation:
            raise Violation(self._violation)

    # -- the play

    def play(self) -> None:
        """
        Play the seed.

        :raises Violation: something happened that must not.
        """
        state = random_module.getstate()
        random_module.seed(self.seed)  # the package's own jitter
        try:
            self._send_items()
            for moment, seconds in self.scenario.broker_jumps:
                self._at(moment, lambda seconds=seconds: self._jump_broker(seconds))
            for number, run in enumerate(self.scenario.runs):
                self._play_run(f"run{number + 1}", run)
            self._run_until(lambda: not self.live)
            self._drain()
            self._judge()
        finally:
            for process in self.processes:
                process.die()
                process.loop.dispose()
            random_module.setstate(state)

    def _play_run(self, name: str, run: Run) -> None:
        if not run.beside:
            self._run_until(lambda: not self.live)
        self._wait(run.starts_after)
        process = self._start(name, run)
        if run.doom.after_seconds is not None:
            self._after(run.doom.after_seconds, lambda: self._strike(process))
        if run.jump:
            self._after(run.jump[0], lambda: self._jump_client(process, run.jump[1]))
        if run.options.idle_timeout is None:
            self._after(1000, lambda: process.stop(killed=False))

    def _start(self, name: str, run: Run) -> Process:
        process = Process(self, name, run)
        self.note(process, "starts: %s, %s", run.options, run.shape)
        self.processes.append(process)
        self.live.append(process)
        return process

    def _wait(self, seconds: float) -> None:
        is_over = False

        def end() -> None:
            nonlocal is_over
            is_over = True

        self._after(seconds, end)
        self._run_until(lambda: is_over)

    def _strike(self, process: Process) -> None:
        doom = process.run.doom
        if process.is_dead:
            return
        if doom.kind == "crash":
            self._crash(process)
            return
        process.stop(killed=doom.kind == "kill")
        if doom.crash_after_kill is not None:
            self._after(doom.crash_after_kill, lambda: self._crash(process))

    def _crash(self, process: Process) -> None:
        if not process.is_dead:
            self.note(process, "crashes")
            process.die()

    def _jump_broker(self, seconds: float) -> None:
        self.note(None, "the broker's clock jumps %s s", seconds)
        self.broker_has_jumped = True
        self._service.broker.clock.advance(seconds)

    def _jump_client(self, process: Process, seconds: float) -> None:
        self.note(process, "has its clock jump %s s", seconds)
        process.has_jumped = True
        process.offset += timedelta(seconds=seconds)

    def _drain(self) -> None:
        """Nothing fails any more: the queue must become empty."""
        self.is_healed = True
        first = self.scenario.runs[0]
        options = replace(
            first.options,
            max_messages=None,
            max_duration=None,
            idle_timeout=0,
            dry_run=False,
            expected_seconds_per_message=None,
            visibility_timeout=60.0,
            settle_interval=0.1,
            max_attempts=first.options.max_attempts if self.scenario.has_dead_letter_queue else None,
        )
        self.scenario = replace(self.scenario, pace=0.0, latency=min(0.1, self.scenario.latency))
        for number in range(MAX_DRAINS):
            self._wait(130.0)
            if not self._left():
                return
            self._start(
                f"drain{number + 1}", Run(options=options, shape="async" if first.shape == "lambda" else first.shape)
            )
            self._run_until(lambda: not self.live)
        raise Violation(f"the queue is not drained: messages {self._left()}")

    def _left(self) -> list[int]:
        rows = self._service.broker.store.db.execute(
            "SELECT messages.id FROM messages JOIN queues ON queue = queues.number WHERE queues.id = ?", (QUEUE_ID,)
        )
        return [self._numbers[row[0]] for row in rows]

    # -- judgement

    def _judge_run(self, process: Process) -> None:
        """Judge a run that came to its end, however it was brought about."""
        engine, report = process.engine, process.engine.report
        raised = process.main.exception() if not process.main.cancelled() else asyncio.CancelledError()
        self.note(process, "ends: %s, error %r, raised %r", report.to_xcom(), engine.error, raised)
        self.check(raised is None, "%s raised %r", process.name, raised)
        fates = ("acked", "retried", "rejected", "expired", "unconfirmed")
        total = sum(getattr(report, fate) for fate in fates)
        self.check(report.pulled == total, "%s pulled %d, and reports %d", process.name, report.pulled, total)
        read = [delivery for delivery in process.deliveries if delivery.is_read]
        self.check(report.pulled == len(read), "%s was given %d, pulled %d", process.name, len(read), report.pulled)
        self.check(engine._window.open == 0, "%s has %d open at its end", process.name, engine._window.open)
        acked = sum(delivery.honoured == "acks" for delivery in read)
        retried = sum(delivery.honoured == "retries" for delivery in read)
        self.check(report.acked + report.rejected <= acked, "%s reports more acks than took place", process.name)
        self.check(report.retried <= retried, "%s reports more retries than took place", process.name)
        if process.killed_at is None:
            done = sum(delivery.verdict is not None for delivery in read)
            self.check(report.handled >= done, "%s handled %d, reports %d", process.name, done, report.handled)
        alive = [task for task in process.loop._tasks if not task.done()]
        self.check(not alive, "%s left tasks behind: %s", process.name, alive)
        self._judge_end(process)

    def _judge_end(self, process: Process) -> None:
        options, engine = process.options, process.engine
        is_explained = (
            engine.error is not None
            or process.stopped_at is not None
            or process.last_answer == 0
            or (options.max_messages is not None and engine.report.pulled >= options.max_messages)
            or (options.max_duration is not None and self.time.now - process.began_at >= options.max_duration - 1e-6)
        )
        self.check(is_explained, "%s ended before the queue was empty, and does not say why", process.name)
        if options.max_messages is not None:
            limit = options.max_messages
            self.check(engine.report.pulled <= limit, "%s pulled %d of %d", process.name, engine.report.pulled, limit)

    def _judge(self) -> None:
        """Judge the seed: every message was handled, or is in the dead-letter queue."""
        dead = {self._numbers[message_id] for message_id in self._dead_letters()}
        handled = {d.number for d in self.deliveries.values() if isinstance(d.verdict, Ack)}
        lost = sorted(set(self._numbers.values()) - dead - handled)
        if lost:
            raise Violation(f"messages {lost} are lost: never handled, and not in the dead-letter queue")

    def _dead_letters(self) -> Iterator[str]:
        rows = self._service.broker.store.db.execute(
            "SELECT messages.id, body FROM messages JOIN queues ON queue = queues.number WHERE queues.id = ?",
            (DEAD_LETTER_QUEUE_ID,),
        )
        for message_id, body in rows:
            yield message_id if message_id in self._numbers else json.loads(body)["id"]


FAR = float("inf")


def _least_delay(options: Options, verdict: Any, attempt: int) -> float | None:
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


@contextmanager
def emulated_account() -> Iterator[tuple[Service, VirtualTime]]:
    """Make the account that seeds use one after another; meanwhile the client logs no repeats."""
    time = VirtualTime()
    service = Service(queues=[], clock=Clock(lambda: EPOCH.timestamp() + time.now), random=Random(0))
    level = logging.getLogger("airflow_provider_cfqueues").level
    logging.getLogger("airflow_provider_cfqueues").setLevel(logging.CRITICAL)
    try:
        yield service, time
    finally:
        logging.getLogger("airflow_provider_cfqueues").setLevel(level)
        service.close()
