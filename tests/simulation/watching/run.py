"""Play seeds of watchers that share the stream of a queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_provider_cfqueues.engines.watching.stream import QueueStream
from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger
from simulation.run import Result, play_worlds
from simulation.watching.world import World, settings_of_airflow


def play(
    seeds: Iterable[int],
    trigger_class: type[QueueMessageTrigger] = QueueMessageTrigger,
    stream_class: type[QueueStream] = QueueStream,
    *,
    with_trace: bool = False,
) -> Iterator[Result]:
    """
    Play seeds and yield what each showed.

    :param seeds: the seeds.
    :param trigger_class: the trigger; a test plants a bug here.
    :param stream_class: the stream; likewise.
    :param with_trace: keep the trace of seeds that show nothing as well.
    """
    with settings_of_airflow():
        yield from play_worlds(
            seeds,
            lambda seed, service, time: World(seed, service, time, trigger_class, stream_class),
            with_trace=with_trace,
        )
