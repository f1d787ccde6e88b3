"""A worker process: one redrive on a loop of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulation.network import Hook
from simulation.process import Quiet, Worker
from simulation.redriving.scenario import TARGET_ID
from simulation.scenario import QUEUE_ID, Run

if TYPE_CHECKING:
    from simulation.redriving.world import World


class Process(Worker):
    """
    A worker process with one redrive in it.

    :param world: where it runs.
    :param name: for the trace.
    :param run: what it does.
    """

    def __init__(self, world: World, name: str, run: Run) -> None:
        super().__init__(world, name, run)
        self.consumer = world.scenario.consumer if world.scenario.knows_consumer else None
        hook: Any = Hook(self)  # type: ignore[arg-type]
        options: Any = run.options
        self.redrive = world.redrive_class(hook, QUEUE_ID, TARGET_ID, options, now=self.now, log=Quiet())
        self.main = self.loop.create_task(self.redrive.move(self.consumer))

    def stop(self, *, killed: bool) -> None:
        """Ask the redrive to end."""
        if not self.is_dead:
            self.truth.note(self, "is killed" if killed else "is stopped")
            self.redrive.stop(killed=killed)

    def look_at_clock(self) -> None:
        """Judge nothing: a settlement may take as long as it needs."""

    def has_read(self, lease_ids: list[str]) -> None:
        """Note that the answer of a pull arrived."""
        for lease_id in lease_ids:
            self.truth.deliveries[lease_id].is_read = True

    def end(self) -> None:
        """Judge its end, which it came to by itself."""
        self.truth.judge_run(self)
        self.die()
