"""Play seeds of redrives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_provider_cfqueues.engines.redriving.redrive import Redrive
from simulation.redriving.world import World
from simulation.run import Result, play_worlds


def play(seeds: Iterable[int], redrive_class: type[Redrive] = Redrive, *, with_trace: bool = False) -> Iterator[Result]:
    """
    Play seeds and yield what each showed.

    :param seeds: the seeds.
    :param redrive_class: the redrive; a test plants a bug here.
    :param with_trace: keep the trace of seeds that show nothing as well.
    """
    yield from play_worlds(
        seeds, lambda seed, service, time: World(seed, service, time, redrive_class), with_trace=with_trace
    )
