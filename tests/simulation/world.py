"""One seed from start to end: broker, network, processes and faults in virtual time."""

from __future__ import annotations

import logging
import random as random_module
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

from airflow_provider_cfqueues.emulator.clock import Clock
from airflow_provider_cfqueues.emulator.model import Outgoing
from airflow_provider_cfqueues.emulator.service import Service
from airflow_provider_cfqueues.engines.processing.engine import Engine
from airflow_provider_cfqueues.models import Consumer, Message
from simulation.loop import VirtualTime
from simulation.network import Network, Server
from simulation.process import EPOCH, Process
from simulation.scenario import DEAD_LETTER_QUEUE_ID, QUEUE_ID, Run, Scenario, draw
from simulation.stage import Stage
from simulation.store import SharedStore
from simulation.truth import Truth, Violation

MAX_DRAINS = 25
JOURNAL_SEEDS = 4
"""One seed in so many is played with a journal, which all its runs share."""


class World(Stage):
    """
    One seed.

    :param seed: decides everything.
    :param service: an emulated account, used for one seed after another: making one costs more than most seeds.
    :param time: its time.
    :param engine_class: the engine; a test plants a bug here.
    """

    def __init__(self, seed: int, service: Service, time: VirtualTime, engine_class: type[Engine] = Engine) -> None:
        super().__init__(Random(seed), time)
        self.seed = seed
        self.scenario: Scenario = draw(self.random)
        self.engine_class = engine_class
        self.truth = Truth(time, self.scenario.items)
        self.network = Network(time, self.random, Server(service), self.truth, self.scenario)
        self.store = SharedStore(self) if seed % JOURNAL_SEEDS == 0 else None
        self.processes: list[Process] = []
        self.is_healed = False
        self.broker_has_jumped = False
        self._service = service
        self.consumer = Consumer(
            type="http_pull",
            dead_letter_queue="dead" if self.scenario.moves and self.scenario.max_retries < 100 else None,
            max_retries=self.scenario.max_retries,
        )
        reset_account(
            service,
            seed,
            dead_letter_queue=self.consumer.dead_letter_queue or "",
            max_retries=self.scenario.max_retries,
            retry_delay=self.scenario.retry_delay,
        )

    def counts(self) -> dict[str, int]:
        """Return how much happened."""
        return {"messages": len(self.scenario.items), "deliveries": len(self.truth.deliveries)}

    def is_trouble(self, message: Message) -> bool:
        """Return whether a handler does not succeed with this delivery."""
        item = self.truth.item(message)
        if self.is_healed:
            return item.trouble > 1000
        return (message.attempts or 0) <= item.trouble

    def is_rejected(self, message: Message) -> bool:
        """Return whether a handler rejects this message."""
        item = self.truth.item(message)
        # With nowhere to put it, it would come again and again until Cloudflare deletes it.
        return item.is_rejected and (self.scenario.has_dead_letter_queue or (message.attempts or 0) <= 3)

    def _send_items(self) -> None:
        moments: dict[float, list[int]] = {}
        for number, item in enumerate(self.scenario.items):
            moments.setdefault(item.sent_at, []).append(number)
        for moment, numbers in moments.items():
            if moment:
                self.time.at(moment, lambda numbers=numbers: self._send(numbers))
            else:
                self._send(numbers)

    def _send(self, numbers: list[int]) -> None:
        outgoing = []
        for number in numbers:
            kind = "v8" if self.scenario.items[number].is_undecodable else "json"
            outgoing.append(Outgoing(body=b'{"n": %d}' % number, content_type=kind, base64=kind == "v8"))
        self.truth.numbers.update(zip(self._service.broker.send(QUEUE_ID, outgoing), numbers, strict=True))
        self.truth.note(None, "sends messages %s", numbers)

    def violation(self) -> str:
        """Return what was found that must not happen; empty where all is well."""
        return self.truth.violation

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
                self.time.at(moment, lambda seconds=seconds: self._jump_broker(seconds))
            for number, run in enumerate(self.scenario.runs):
                self._play_run(f"run{number + 1}", run)
            self.run_until(lambda: not self.live)
            self._drain()
            self.truth.judge(set(self._dead_letters()), self.scenario)
        finally:
            for process in self.processes:
                process.die()
                process.loop.dispose()
            random_module.setstate(state)

    def _play_run(self, name: str, run: Run) -> None:
        if not run.beside:
            self.run_until(lambda: not self.live)
        self.wait(run.starts_after)
        process = self._start(name, run)
        if run.doom.after_seconds is not None:
            self.time.after(run.doom.after_seconds, process.strike)
        if run.jump:
            self.time.after(run.jump[0], lambda: process.jump(run.jump[1]))
        if run.options.idle_timeout is None:
            self.time.after(1000, lambda: process.stop(killed=False))

    def _start(self, name: str, run: Run) -> Process:
        process = Process(self, name, run)
        self.truth.note(process, "starts: %s, %s", run.options, run.shape)
        self.processes.append(process)
        self.live.append(process)
        return process

    def _jump_broker(self, seconds: float) -> None:
        self.truth.note(None, "the broker's clock jumps %s s", seconds)
        self.broker_has_jumped = True
        self._service.broker.clock.advance(seconds)

    def _drain(self) -> None:
        """Nothing fails any more: the queue must become empty."""
        self.is_healed = True
        self.network.heal()
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
        self.scenario = replace(self.scenario, pace=0.0)
        for number in range(MAX_DRAINS):
            self.wait(130.0)
            if not self._left():
                return
            self._start(
                f"drain{number + 1}", Run(options=options, shape="async" if first.shape == "lambda" else first.shape)
            )
            self.run_until(lambda: not self.live)
        raise Violation(f"the queue is not drained: messages {self._left()}")

    def _left(self) -> list[int]:
        return [self.truth.number_of(message_id, body) for message_id, body in rows_of(self._service, QUEUE_ID)]

    def _dead_letters(self) -> Iterator[int]:
        for message_id, body in rows_of(self._service, DEAD_LETTER_QUEUE_ID):
            yield self.truth.number_of(message_id, body)


def reset_account(service: Service, seed: int, **consumer: Any) -> None:
    """
    Empty an emulated account but for the two queues.

    :param service: the account.
    :param seed: decides the IDs that it makes up.
    :param consumer: settings of the first queue.
    """
    service.broker.store.clear()
    service.broker.store.db.execute("DELETE FROM sqlite_sequence")
    service.random.seed(seed)
    service.broker.clock.offset_ms = 0
    service.create_queue("dead", queue_id=DEAD_LETTER_QUEUE_ID)
    service.create_queue("orders", queue_id=QUEUE_ID, **consumer)


def rows_of(service: Service, queue_id: str) -> list[Any]:
    """Return ID and body of each message that is in a queue."""
    return service.broker.store.db.execute(
        "SELECT messages.id, body FROM messages JOIN queues ON queue = queues.number WHERE queues.id = ?", (queue_id,)
    ).fetchall()


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
