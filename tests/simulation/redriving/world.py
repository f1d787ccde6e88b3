"""A seed of redrives: broker, network, processes and faults in virtual time."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_cfqueues.emulator.service import Service
from airflow_provider_cfqueues.engines.redriving.options import RedriveOptions
from airflow_provider_cfqueues.engines.redriving.redrive import Redrive
from simulation.loop import VirtualTime
from simulation.record import Violation
from simulation.redriving.process import Process
from simulation.redriving.scenario import LEASE_SECONDS, TARGET_ID, draw
from simulation.redriving.truth import Truth
from simulation.scenario import DEAD_LETTER_QUEUE_ID, QUEUE_ID, Doom
from simulation.stage import Stage

MAX_RUNS = 25


class World(Stage):
    """
    One seed of redrives.

    :param seed: decides everything.
    :param service: an emulated account.
    :param time: its time.
    :param redrive_class: the redrive; a test plants a bug here.
    """

    def __init__(self, seed: int, service: Service, time: VirtualTime, redrive_class: type[Redrive] = Redrive) -> None:
        super().__init__(seed, service, time)
        self.scenario = draw(self.random)
        self.redrive_class = redrive_class
        consumer = self.consumer = self.scenario.consumer
        dead_letter_queue = consumer.dead_letter_queue or ""
        self.prepare(Truth(time, self.scenario), dead_letter_queue=dead_letter_queue, max_retries=consumer.max_retries)
        service.create_queue("target", queue_id=TARGET_ID)

    def outgoing(self, number: int) -> tuple[bytes, bool]:
        """Return the body of a message, and whether HTTP can send it."""
        return b'{"n": %d}' % number, number not in self.scenario.unsendable

    def act(self) -> None:
        """Do what the scenario says, until all is moved that can be, and judge it."""
        self.send(list(range(self.scenario.count)))
        for number, run in enumerate(self.scenario.runs):
            self.play_run(Process, f"run{number + 1}", run)
        self.run_until(lambda: not self.live)
        self._move_the_rest()
        self.truth.judge(self.left_in(QUEUE_ID) | self.left_in(DEAD_LETTER_QUEUE_ID))

    def _move_the_rest(self) -> None:
        """Nothing fails any more: all that can be moved must be."""
        self.heal()
        rest = RedriveOptions(idle_timeout=0, visibility_timeout=LEASE_SECONDS)
        for number in range(MAX_RUNS):
            self.wait(LEASE_SECONDS)
            if self.left_in(QUEUE_ID) <= self.scenario.unsendable:
                return
            run = replace(self.scenario.runs[0], options=rest, doom=Doom(), jump=None)  # type: ignore[arg-type]
            self.play_run(Process, f"rest{number + 1}", run)
            self.run_until(lambda: not self.live)
        raise Violation("the source is not emptied")
