"""Play seeds, one after another, and show the first that fails. Called by ``scripts/simulate``."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

from simulation.record import Violation
from simulation.stage import Stage, emulated_account
from simulation.world import World

SEEDS_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class Result:
    """
    What a seed showed.

    :param seed: the seed.
    :param violation: what must not happen and did; empty where all was well.
    :param trace: what happened, in order.
    :param counts: how much of it.
    """

    seed: int
    violation: str
    trace: list[str] = field(repr=False)
    counts: Counter[str] = field(repr=False)


@contextmanager
def rare_collection() -> Iterator[None]:
    """Collect garbage now and then only: a dead loop is nothing but cycles, and looking for them took a fifth."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def play(
    seeds: Iterable[int], world_class: type[Stage] = World, *, with_trace: bool = False, **planted: Any
) -> Iterator[Result]:
    """
    Play seeds and yield what each showed.

    :param seeds: the seeds.
    :param world_class: what is played.
    :param with_trace: keep the trace of seeds that show nothing as well.
    :param planted: classes of the package, by the argument of the world that takes them; a test plants a bug here.
    """
    with world_class.surroundings(), emulated_account() as (service, time), rare_collection():
        for seed in seeds:
            world = world_class(seed, service, time, **planted)
            violation = ""
            try:
                world.play()
            except Violation as found:
                violation = str(found)
            counts = Counter(
                **world.counts(), requests=world.network.requests, runs=len(world.processes), seconds=int(time.now)
            )
            trace = world.truth.show_trace() if violation or with_trace else []
            yield Result(seed=seed, violation=violation, trace=trace, counts=counts)


def play_on_all_cores(seeds: range, processes: int | None = None, world_class: type[Stage] = World) -> Iterator[Result]:
    """
    Play seeds in processes of their own, which no seed depends on, and yield what each showed, in order.

    :param seeds: the seeds.
    :param processes: how many; None = one for each core.
    :param world_class: what is played.
    """
    parts = [seeds[start : start + SEEDS_AT_ONCE] for start in range(0, len(seeds), SEEDS_AT_ONCE)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for results in pool.map(partial(_play_part, world_class), parts):
            yield from results


def _play_part(world_class: type[Stage], seeds: range) -> list[Result]:
    return list(play(seeds, world_class))


def main() -> int:
    """Play the seeds asked for; 1 where one of them fails."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5_000, help="how many (default %(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first (default %(default)s)")
    parser.add_argument("--seed", type=int, help="only this one, with its whole trace")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first that fails")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--watching", action="store_true", help="the watchers of a queue instead of the engine")
    what.add_argument("--redriving", action="store_true", help="redrives from a queue to another instead of the engine")
    parser.add_argument("--processes", type=int, help="how many play at once (default: one for each core)")
    arguments = parser.parse_args()
    world_class: type[Stage] = World
    kind = ""
    if arguments.watching:
        from simulation.watching.world import World as world_class

        kind = "--watching "
    if arguments.redriving:
        from simulation.redriving.world import World as world_class

        kind = "--redriving "
    if arguments.seed is not None:
        [result] = play([arguments.seed], world_class, with_trace=True)
        print("\n".join(result.trace))
        print(f"seed {result.seed}: {result.violation or 'all is well'}")
        return int(bool(result.violation))
    seeds = range(arguments.start, arguments.start + arguments.seeds)
    results = play_on_all_cores(seeds, arguments.processes, world_class)
    return _show(results, len(seeds), f"scripts/simulate {kind}--seed", keep_going=arguments.keep_going)


def _show(results: Iterator[Result], count: int, again: str, *, keep_going: bool) -> int:
    began = shown = monotonic()
    totals: Counter[str] = Counter()
    failed = 0
    for done, result in enumerate(results, 1):
        totals += result.counts
        if result.violation:
            failed += 1
            shown_trace = [] if keep_going else result.trace[-40:]
            print("\n".join([*shown_trace, f"seed {result.seed}: {result.violation}"]))
            print(f"  again, with all that happened: {again} {result.seed}", flush=True)
            if not keep_going:
                break
        now = monotonic()
        if now - shown >= 5 or done == count:
            shown = now
            rate = done / (now - began) * 60
            print(f"{done:,} of {count:,} seeds, {rate:,.0f} a minute, {failed} failed", flush=True)
    print(", ".join(f"{total:,} {what}" for what, total in totals.items()))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
