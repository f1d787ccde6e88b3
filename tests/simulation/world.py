"""A seed of the engine: broker, network, processes and faults in virtual time."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_cfqueues.emulator.service import Service
from airflow_provider_cfqueues.engines.processing.engine import Engine
from airflow_provider_cfqueues.models import Consumer, Message
from simulation.loop import VirtualTime
from simulation.process import Process
from simulation.record import Violation
from simulation.scenario import DEAD_LETTER_QUEUE_ID, QUEUE_ID, Run, draw
from simulation.stage import Stage
from simulation.store import SharedStore
from simulation.truth import Truth

MAX_DRAINS = 25
JOURNAL_SEEDS = 4
"""One seed in so many is played with a journal, which all its runs share."""


class World(Stage):
    """
    One seed of the engine.

    :param seed: decides everything.
    :param service: an emulated account.
    :param time: its time.
    :param engine_class: the engine; a test plants a bug here.
    """

    def __init__(self, seed: int, service: Service, time: VirtualTime, engine_class: type[Engine] = Engine) -> None:
        super().__init__(seed, service, time)
        scenario = self.scenario = draw(self.random)
        self.engine_class = engine_class
        self.store = SharedStore(self) if seed % JOURNAL_SEEDS == 0 else None
        self.consumer = Consumer(
            type="http_pull",
            dead_letter_queue="dead" if scenario.moves and scenario.max_retries < 100 else None,
            max_retries=scenario.max_retries,
        )
        self.prepare(
            Truth(time, scenario.items),
            dead_letter_queue=self.consumer.dead_letter_queue or "",
            max_retries=scenario.max_retries,
            retry_delay=scenario.retry_delay,
        )

    def is_trouble(self, message: Message) -> bool:
        """Return whether a handler does not succeed with this delivery."""
        item = self.truth.item(message)
        if self.is_healed:
            return bool(item.trouble > 1000)
        return bool((message.attempts or 0) <= item.trouble)

    def is_rejected(self, message: Message) -> bool:
        """Return whether a handler rejects this message."""
        item = self.truth.item(message)
        # With nowhere to put it, it would come again and again until Cloudflare deletes it.
        return item.is_rejected and (self.scenario.has_dead_letter_queue or (message.attempts or 0) <= 3)

    def outgoing(self, number: int) -> tuple[bytes, bool]:
        """Return the body of a message, and whether it can be decoded."""
        return b'{"n": %d}' % number, not self.scenario.items[number].is_undecodable

    def act(self) -> None:
        """Do what the scenario says, until the queue is empty, and judge it."""
        self.plan()
        for number, run in enumerate(self.scenario.runs):
            self.play_run(Process, f"run{number + 1}", run)
        self.run_until(lambda: not self.live)
        self._drain()
        self.truth.judge(self.left_in(DEAD_LETTER_QUEUE_ID), self.scenario)

    def _drain(self) -> None:
        """Nothing fails any more: the queue must become empty."""
        self.heal()
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
            if not self.left_in(QUEUE_ID):
                return
            shape = "async" if first.shape == "lambda" else first.shape
            self.play_run(Process, f"drain{number + 1}", Run(options=options, shape=shape))
            self.run_until(lambda: not self.live)
        raise Violation(f"the queue is not drained: messages {self.left_in(QUEUE_ID)}")
