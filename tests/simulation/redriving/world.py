"""One seed from start to end: broker, network, redrives and faults in virtual time."""

from __future__ import annotations

import random as random_module
from dataclasses import replace
from random import Random

from airflow_provider_cfqueues.emulator.model import Outgoing
from airflow_provider_cfqueues.emulator.service import Service
from airflow_provider_cfqueues.engines.redriving.options import RedriveOptions
from airflow_provider_cfqueues.engines.redriving.redrive import Redrive
from simulation.loop import VirtualTime
from simulation.network import Network, Server
from simulation.redriving.process import Process
from simulation.redriving.scenario import LEASE_SECONDS, TARGET_ID, draw
from simulation.redriving.truth import Truth
from simulation.scenario import DEAD_LETTER_QUEUE_ID, QUEUE_ID, Doom, Run
from simulation.stage import Stage
from simulation.truth import Violation
from simulation.world import reset_account, rows_of

MAX_RUNS = 25


class World(Stage):
    """
    One seed.

    :param seed: decides everything.
    :param service: an emulated account.
    :param time: its time.
    :param redrive_class: the redrive; a test plants a bug here.
    """

    def __init__(self, seed: int, service: Service, time: VirtualTime, redrive_class: type[Redrive]) -> None:
        super().__init__(Random(seed), time)
        self.seed = seed
        self.scenario = draw(self.random)
        self.redrive_class = redrive_class
        self.truth = Truth(time, self.scenario)
        self.network = Network(time, self.random, Server(service), self.truth, self.scenario)
        self.processes: list[Process] = []
        self._service = service
        consumer = self.scenario.consumer
        dead_letter_queue = consumer.dead_letter_queue or ""
        reset_account(service, seed, dead_letter_queue=dead_letter_queue, max_retries=consumer.max_retries)
        service.create_queue("target", queue_id=TARGET_ID)

    def counts(self) -> dict[str, int]:
        """Return how much happened."""
        return {"messages": self.scenario.count, "deliveries": len(self.truth.deliveries)}

    def violation(self) -> str:
        """Return what was found that must not happen; empty where all is well."""
        return self.truth.violation

    def play(self) -> None:
        """
        Play the seed.

        :raises Violation: something happened that must not.
        """
        state = random_module.getstate()
        random_module.seed(self.seed)  # the package's own jitter
        try:
            self._send_messages()
            for number, run in enumerate(self.scenario.runs):
                self._play_run(f"run{number + 1}", run)
            self.run_until(lambda: not self.live)
            self._move_the_rest()
            rows = [*rows_of(self._service, QUEUE_ID), *rows_of(self._service, DEAD_LETTER_QUEUE_ID)]
            self.truth.judge({self.truth.number_of(*row) for row in rows})
        finally:
            for process in self.processes:
                process.die()
                process.loop.dispose()
            random_module.setstate(state)

    def _send_messages(self) -> None:
        numbers = range(self.scenario.count)
        kinds = ["v8" if number in self.scenario.unsendable else "json" for number in numbers]
        outgoing = [
            Outgoing(body=b'{"n": %d}' % number, content_type=kind, base64=kind == "v8")
            for number, kind in zip(numbers, kinds, strict=True)
        ]
        for start in range(0, len(outgoing), 100):
            ids = self._service.broker.send(QUEUE_ID, outgoing[start : start + 100])
            self.truth.numbers.update(zip(ids, numbers[start : start + 100], strict=True))

    def _play_run(self, name: str, run: Run) -> None:
        if not run.beside:
            self.run_until(lambda: not self.live)
        self.wait(run.starts_after)
        process = Process(self, name, run)
        self.truth.note(process, "starts: %s", run.options)
        self.processes.append(process)
        self.live.append(process)
        if run.doom.after_seconds is not None:
            self.time.after(run.doom.after_seconds, process.strike)
        if run.jump:
            self.time.after(run.jump[0], lambda: process.jump(run.jump[1]))
        if run.options.idle_timeout is None:
            self.time.after(1000, lambda: process.stop(killed=False))

    def _move_the_rest(self) -> None:
        """Nothing fails any more: all that can be moved must be."""
        self.network.heal()
        rest = RedriveOptions(idle_timeout=0, visibility_timeout=LEASE_SECONDS)
        for number in range(MAX_RUNS):
            self.wait(LEASE_SECONDS)
            if {self.truth.number_of(*row) for row in rows_of(self._service, QUEUE_ID)} <= self.scenario.unsendable:
                return
            run = replace(self.scenario.runs[0], options=rest, doom=Doom(), jump=None)  # type: ignore[arg-type]
            self._play_run(f"rest{number + 1}", run)
            self.run_until(lambda: not self.live)
        raise Violation("the source is not emptied")
