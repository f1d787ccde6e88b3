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
        hook: Any = Hook(self)
        options: Any = run.options
        self.engine = world.redrive_class(hook, QUEUE_ID, TARGET_ID, options, now=self.now, log=Quiet())
        self.main = self.loop.create_task(self.engine.move(self.consumer))
