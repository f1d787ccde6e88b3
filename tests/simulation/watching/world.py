"""One seed from start to end: broker, network, database, triggerers, watchers and faults in virtual time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from airflow.jobs import triggerer_job_runner
from airflow.sdk.execution_time import task_runner
from airflow.triggers import shared_stream

from airflow_provider_cfqueues.client import message_calls
from airflow_provider_cfqueues.emulator.service import Service
from airflow_provider_cfqueues.engines.watching.stream import QueueStream
from airflow_provider_cfqueues.triggers import queues
from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger
from simulation.loop import VirtualTime
from simulation.record import Violation
from simulation.scenario import DEAD_LETTER_QUEUE_ID, QUEUE_ID
from simulation.stage import Stage
from simulation.watching.matches import LARGE, verdict
from simulation.watching.scenario import ACK_TIMEOUT, Life, Watcher, draw
from simulation.watching.scheduler import COMMS, Scheduler
from simulation.watching.triggerer import Triggerer
from simulation.watching.truth import Truth

LONGEST_LIFE = 120.0
LONGEST_CLOSING = 90.0
LONGEST_DRAIN = 3_000.0
SETTING = "AIRFLOW__TRIGGERER__SHARED_STREAM_"


class Silent:
    """A log and a span that nobody reads."""

    def info(self, *_: Any, **__: Any) -> None:
        pass

    warning = set_status = info


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
    One seed of watchers that share the stream of a queue.

    :param seed: decides everything.
    :param service: an emulated account.
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
        super().__init__(seed, service, time)
        self.scenario = draw(self.random)
        self.trigger_class = trigger_class
        self.stream_class = stream_class
        self.consumer = self.scenario.consumer
        self.prepare(
            Truth(time, self.scenario),
            dead_letter_queue=self.consumer.dead_letter_queue or "",
            max_retries=self.consumer.max_retries,
        )
        self.database = Database(self)
        self.scheduler = self.truth.scheduler = Scheduler(self)

    @classmethod
    @contextmanager
    def surroundings(cls) -> Iterator[None]:
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

    def draw_store_fault(self) -> str:
        """Decide what becomes of an event that is to be stored; empty where all goes well."""
        if self.is_healed or self.random.random() >= self.scenario.store_fault_rate:
            return ""
        return self.random.choice(("not stored", "stored, then failed", "dropped", "not confirmed"))

    def outgoing(self, number: int) -> tuple[bytes, bool]:
        """Return the body of a message, and whether it can be decoded."""
        kind = self.scenario.items[number].kind
        body = {"kind": kind, "n": number, **({"text": LARGE} if kind == "large" else {})}
        return json.dumps(body).encode(), kind != "odd"

    # -- the play

    def act(self) -> None:
        """Do what the scenario says, until what is wanted has left the queue, and judge it."""
        COMMS.world = self
        queues._MISSING.clear()
        self.plan()
        for number, life in enumerate(self.scenario.lives, 1):
            self.wait(life.starts_after)
            self._live(f"life{number}", life, is_last=number == len(self.scenario.lives))
        self._drain()
        self.truth.judge_runs(self.scheduler.runs)
        self.truth.judge_calm_runs(self.scheduler.runs)
        self.truth.judge(self.left_in(QUEUE_ID), self.left_in(DEAD_LETTER_QUEUE_ID))

    def plan(self) -> None:
        """See to it that all happens when the scenario says so."""
        super().plan()
        scenario, at = self.scenario, self.time.at
        for watcher in scenario.watchers:
            if watcher.appears_at:
                at(watcher.appears_at, partial(self.database.add, watcher))
            else:
                self.database.add(watcher)
        for number, watcher in enumerate(scenario.watchers, 1):
            if watcher.vanishes_at is not None:
                at(watcher.vanishes_at, lambda number=number: self.is_healed or self.database.delete(number))
        if scenario.database_away:
            moment, seconds, waits = scenario.database_away
            at(moment, lambda: self.is_healed or self._lose_database(seconds, waits=waits))

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
        self.start(process, life)
        if life.jump:
            self.time.after(life.jump[0], partial(process.jump, life.jump[1]))
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
            self.truth.settled(call.payload, document["result"])

        self.time.after(5 * self.random.random(), settle)

    def _drain(self) -> None:
        """Nothing fails any more: what is wanted, or not to stay, must leave the queue."""
        self.heal()
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
                self.start(Triggerer(self, "drain", Life()), Life())
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
        for number in self.left_in(QUEUE_ID):
            verdicts = [verdict(watcher, self.truth.kind(number)) for watcher in watchers]
            is_refused = None in verdicts
            if (is_refused and self.scenario.has_dead_letter_queue) or (not is_refused and (any(verdicts) or leaves)):
                due.append(number)
        return due
