"""One seed from start to end: broker, network, database, triggerers, watchers and faults in virtual time."""

from __future__ import annotations

import json
import os
import random as random_module
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from random import Random
from typing import Any

from airflow.jobs import triggerer_job_runner
from airflow.sdk.execution_time import task_runner
from airflow.triggers import shared_stream

from airflow_provider_cfqueues.client import message_calls
from airflow_provider_cfqueues.emulator.model import Outgoing
from airflow_provider_cfqueues.emulator.service import Service
from airflow_provider_cfqueues.engines.watching.stream import QueueStream
from airflow_provider_cfqueues.triggers import queues
from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger
from simulation.loop import VirtualTime
from simulation.network import Network, Server
from simulation.process import DEAD_LETTER_QUEUE_ID, QUEUE_ID
from simulation.stage import Stage
from simulation.truth import Violation
from simulation.watching.matches import LARGE, verdict
from simulation.watching.scenario import ACK_TIMEOUT, Life, Watcher, draw
from simulation.watching.scheduler import COMMS, Scheduler
from simulation.watching.triggerer import Triggerer
from simulation.watching.truth import Truth
from simulation.world import reset_account, rows_of

LONGEST_LIFE = 120.0
LONGEST_CLOSING = 90.0
LONGEST_DRAIN = 3_000.0
SETTING = "AIRFLOW__TRIGGERER__SHARED_STREAM_"


class Database:
    """
    Airflow's database: the rows of triggers, and the asset events.

    :param world: whose it is.
    """

    def __init__(self, world: World) -> None:
        self.is_there = True
        self._world = world
        self._rows: dict[int, Watcher] = {}

    def watchers(self) -> dict[int, Watcher]:
        """Return the watchers that are to run, by the number of their row."""
        return self._rows

    def add(self, watcher: Watcher) -> None:
        """Store the row of a watcher."""
        truth = self._world.truth
        number = len(truth.watchers) + 1
        truth.note(None, "watcher %d appears: %s", number, watcher)
        truth.watchers[number] = self._rows[number] = watcher
        self._changed()

    def delete(self, number: int) -> None:
        """Delete the row of a watcher."""
        if self._rows.pop(number, None):
            self._world.truth.note(None, "the row of watcher %d is deleted", number)
            self._changed()

    def submit(self, process: Triggerer, entry: Any) -> None:
        """Do what ``Trigger.submit_event`` does: where the row is gone, nothing, without a word."""
        watcher = self._rows.get(entry.trigger_id)
        messages = self._world.truth.stored(process, entry, is_there=watcher is not None)
        if watcher is None:
            return
        self._world.scheduler.store(watcher.asset, messages)
        if watcher.settle == "task":
            for message in entry.event.payload["messages"]:
                self._world.run_dag(message["lease_id"])

    def _changed(self) -> None:
        world = self._world
        for triggerer in world.live:
            world.time.after(world.random.random(), triggerer.supervisor.look_at_rows)


class World(Stage):
    """
    One seed.

    :param seed: decides everything.
    :param service: an emulated account, used for one seed after another.
    :param time: its time.
    :param trigger_class: the trigger; a test plants a bug here.
    :param stream_class: the stream; likewise.
    """

    def __init__(
        self,
        seed: int,
        service: Service,
        time: VirtualTime,
        trigger_class: type[QueueMessageTrigger] = QueueMessageTrigger,
        stream_class: type[QueueStream] = QueueStream,
    ) -> None:
        super().__init__(Random(seed), time)
        self.seed = seed
        self.scenario = draw(self.random)
        self.trigger_class = trigger_class
        self.stream_class = stream_class
        self.truth = Truth(time, self.scenario)
        self.network = Network(time, self.random, Server(service), self.truth, self.scenario)
        self.database = Database(self)
        self.scheduler = self.truth.scheduler = Scheduler(self)
        self.processes: list[Triggerer] = []
        self.is_healed = False
        self._service = service
        self.truth.find_renewed = self._find_renewed
        reset_account(
            service,
            seed,
            dead_letter_queue="dead" if self.scenario.has_dead_letter_queue else "",
            max_retries=self.scenario.max_retries,
        )

    def violation(self) -> str:
        """Return what was found that must not happen; empty where all is well."""
        return self.truth.violation

    def counts(self) -> dict[str, int]:
        """Return how much happened."""
        return {"messages": len(self.scenario.items), "deliveries": len(self.truth.deliveries)} | self.truth.counts

    def draw_store_fault(self) -> str:
        """Decide what becomes of an event that is to be stored; empty where all goes well."""
        if self.is_healed or self.random.random() >= self.scenario.store_fault_rate:
            return ""
        return self.random.choice(("not stored", "stored, then failed", "dropped", "not confirmed"))

    # -- the play

    def play(self) -> None:
        """
        Play the seed.

        :raises Violation: something happened that must not.
        """
        state = random_module.getstate()
        random_module.seed(self.seed)  # the package's own jitter
        COMMS.world = self
        queues._MISSING.clear()
        try:
            self._plan()
            for number, life in enumerate(self.scenario.lives, 1):
                self.wait(life.starts_after)
                self._live(f"life{number}", life, is_last=number == len(self.scenario.lives))
            self._drain()
            left = {self.truth.numbers[message_id] for message_id, _ in rows_of(self._service, QUEUE_ID)}
            self.truth.judge_runs(self.scheduler.runs)
            self.truth.judge_calm_runs(self.scheduler.runs)
            self.truth.judge(left, set(self._dead_letters()))
        finally:
            for process in self.processes:
                process.die()
                process.loop.dispose()
            random_module.setstate(state)

    def _plan(self) -> None:
        scenario, at = self.scenario, self.time.at
        moments: dict[float, list[int]] = {}
        for number, item in enumerate(scenario.items):
            moments.setdefault(item.sent_at, []).append(number)
        for moment, numbers in moments.items():
            at(moment, lambda numbers=numbers: self._send(numbers))
        for watcher in scenario.watchers:
            if watcher.appears_at:
                at(watcher.appears_at, lambda watcher=watcher: self.database.add(watcher))
            else:
                self.database.add(watcher)
        for number, watcher in enumerate(scenario.watchers, 1):
            if watcher.vanishes_at is not None:
                at(watcher.vanishes_at, lambda number=number: self.is_healed or self.database.delete(number))
        for moment, seconds in scenario.broker_jumps:
            at(moment, lambda seconds=seconds: self._jump_broker(seconds))
        if scenario.database_away:
            moment, seconds, waits = scenario.database_away
            at(moment, lambda: self.is_healed or self._lose_database(seconds, waits=waits))

    def _send(self, numbers: list[int]) -> None:
        outgoing = []
        for number in numbers:
            kind = self.scenario.items[number].kind
            body = {"kind": kind, "number": number, **({"text": LARGE} if kind == "large" else {})}
            type_ = "v8" if kind == "odd" else "json"
            outgoing.append(Outgoing(body=json.dumps(body).encode(), content_type=type_, base64=kind == "odd"))
        self.truth.numbers.update(zip(self._service.broker.send(QUEUE_ID, outgoing), numbers, strict=True))
        self.truth.note(None, "sends messages %s", [(number, self.truth.kind(number)) for number in numbers])

    def _jump_broker(self, seconds: float) -> None:
        self.truth.note(None, "the broker's clock jumps %s s", seconds)
        self._service.broker.clock.advance(seconds)

    def _lose_database(self, seconds: float, *, waits: bool) -> None:
        self.truth.note(None, "the database is away for %s s, and is %s", seconds, "waited for" if waits else "missed")
        if waits:
            for triggerer in self.live:
                triggerer.supervisor.stall(seconds)
            return
        self.database.is_there = False
        self.time.after(seconds, self._find_database)
        for triggerer in self.live:
            self.time.after(self.random.random(), triggerer.supervisor.look_at_rows)

    def _find_database(self) -> None:
        self.database.is_there = True
        self.truth.note(None, "the database is back")

    def _live(self, name: str, life: Life, *, is_last: bool) -> None:
        self.run_until_database_is_there()
        process = Triggerer(self, name, life)
        self.truth.note(process, "starts: %s", life)
        self.processes.append(process)
        self.live.append(process)
        if life.jump:
            self.time.after(life.jump[0], lambda: process.jump(life.jump[1]))
        if life.ends_after_seconds is not None:
            self.time.after(life.ends_after_seconds, process.stop)
        over = self.time.now + LONGEST_LIFE
        self.time.at(over, lambda: None)
        self.run_until(lambda: process.is_dead or self.time.now >= over)
        if not is_last:
            process.stop()
            self.run_until(lambda: process.is_dead)

    def run_until_database_is_there(self) -> None:
        """Wait where the database is away."""
        while not self.database.is_there:
            self.wait(1.0)

    def run_dag(self, lease_id: str) -> None:
        """Let a DAG settle a lease, or fail."""
        if not (self.is_healed or self.scenario.is_calm) and self.random.random() < 0.2:
            return

        def settle() -> None:
            call = message_calls.ack(QUEUE_ID, [lease_id], [])
            _, document = self.network.server.apply(call, call.content() or b"")
            self.truth.note(None, "a DAG settles message %d", self.truth.deliveries[lease_id].number)
            self.truth.honoured(call.payload, document["result"])

        self.time.after(5 * self.random.random(), settle)

    def _drain(self) -> None:
        """Nothing fails any more: what is wanted, or not to stay, must leave the queue."""
        self.is_healed = True
        self.network.heal()
        self.scenario = replace(self.scenario, log_seconds=0.01, store_seconds=0.01)
        self.run_until_database_is_there()
        for number in range(1, len(self.truth.watchers) + 1):
            if number not in self.database.watchers():
                self.database.add(self.truth.watchers[number])
        if any(process.is_ending for process in self.live):
            self.run_until(lambda: not self.live)
        # Of two streams, the one whose watchers do not want a message may be the first to pull it, again and again.
        is_sure = self.scenario.has_one_stream
        over = self.time.now + (LONGEST_DRAIN if is_sure else LONGEST_LIFE)
        while due := self._due():
            if not self.live:  # the last one may have ended, even now, of a fault that began before
                process = Triggerer(self, "drain", Life())
                self.processes.append(process)
                self.live.append(process)
            if self.time.now > over:
                if not is_sure:
                    break
                raise Violation(f"the queue is not drained: messages {due}")
            self.wait(5.0)
        self.wait(LONGEST_CLOSING)  # for events that close others
        self.run_until(lambda: self.scheduler.is_done)
        for process in list(self.live):
            process.stop()
        self.run_until(lambda: not self.live)

    def _due(self) -> list[int]:
        """Return which messages in the queue must not stay there."""
        watchers = self.database.watchers().values()
        if any(self.scenario.pulls_nothing(watcher) for watcher in watchers):
            return []  # it may be the one that the stream was opened for
        leaves = all(
            watcher.unmatched == "ack" or (watcher.unmatched == "dead_letter" and self.scenario.has_dead_letter_queue)
            for watcher in watchers
        )
        due = []
        for message_id, _ in rows_of(self._service, QUEUE_ID):
            number = self.truth.numbers[message_id]
            verdicts = [verdict(watcher, self.truth.kind(number)) for watcher in watchers]
            is_refused = None in verdicts
            if (is_refused and self.scenario.has_dead_letter_queue) or (not is_refused and (any(verdicts) or leaves)):
                due.append(number)
        return due

    def _dead_letters(self) -> Iterator[int]:
        numbers = self.truth.numbers
        for message_id, body in rows_of(self._service, DEAD_LETTER_QUEUE_ID):
            if message_id in numbers:
                yield numbers[message_id]
            else:
                copy = json.loads(body)
                yield numbers[copy["id"]] if "attempts" in copy else copy["number"]

    def _find_renewed(self) -> None:
        """Note the IDs of messages that were sent to their queue again."""
        for message_id, body in rows_of(self._service, QUEUE_ID):
            if message_id not in self.truth.numbers:
                self.truth.numbers[message_id] = json.loads(body)["number"]


class Silent:
    """A log and a span that nobody reads."""

    def info(self, *_: Any, **__: Any) -> None:
        pass

    warning = set_status = info


@contextmanager
def settings_of_airflow() -> Iterator[None]:
    """Set what a triggerer reads; no triggers in greenlets, no lines in the log, and no spans."""
    before = dict(os.environ), shared_stream.log, triggerer_job_runner._make_trigger_span
    task_runner.SUPERVISOR_COMMS = COMMS
    os.environ[f"{SETTING}ACK_TIMEOUT"] = str(ACK_TIMEOUT)
    os.environ["AIRFLOW_DISABLE_GREENBACK_PORTAL"] = "true"
    shared_stream.log = Silent()
    triggerer_job_runner._make_trigger_span = lambda **_: nullcontext(Silent())
    try:
        yield
    finally:
        del task_runner.SUPERVISOR_COMMS
        os.environ.clear()
        os.environ.update(before[0])
        shared_stream.log, triggerer_job_runner._make_trigger_span = before[1:]
