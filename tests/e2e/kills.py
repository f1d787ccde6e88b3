"""The scenario of ``scripts/e2e`` that kills the triggerer with -9, at each step of a message's way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from e2e.events import compare, key_of
from e2e.scenarios import LEASE_SECONDS, numbered
from e2e.triggerer import Triggerer
from e2e.troubles import start, watch
from e2e.world import World
from harness.audit import Verdict, check_queue
from harness.cloudflare import Queue

PER_ROUND = 5
VICTIMS = ("both", "supervisor", "runner")
ANSWER_DELAY_MS = 1_000


@dataclass
class Round:
    """One kill: the messages that are on their way, and how far they were before."""

    world: World
    queue: Queue
    messages: list[dict[str, Any]]
    events_before: int
    acked_before: int

    @property
    def events(self) -> int:
        """How many events of it are stored."""
        return len(self.world.airflow.events(self.queue.name)) - self.events_before

    @property
    def acked(self) -> int:
        """How many messages of it are acked."""
        return self.queue.totals["acked"] - self.acked_before

    def send(self) -> None:
        """Send its messages, so that one pull gets all."""
        self.queue.send(self.messages)

    def until(self, what: str, ask: Callable[[], Any]) -> None:
        """Wait for the step."""
        self.world.airflow.until(what, ask, seconds=60, every=0.005)


@contextmanager
def pulling(one: Round) -> Iterator[None]:
    """Wait until the API has the request; its answer, with the leases, will find nobody."""
    cloudflare = one.world.cloudflare
    cloudflare.add_faults({"path": "pull", "delay_ms": ANSWER_DELAY_MS})
    one.until("a pull", lambda: not cloudflare.faults())
    one.send()
    yield
    time.sleep(1.5 * ANSWER_DELAY_MS / 1000)


@contextmanager
def pulled(one: Round) -> Iterator[None]:
    """Wait until the filter looks at the first message; none is yielded."""
    judged = one.world.judged
    with one.world.hold():
        one.send()
        one.until("a look at a message", lambda: one.world.judged > judged)
        yield


@contextmanager
def yielded(one: Round) -> Iterator[None]:
    """Wait until all events are yielded; none is stored, as the database does not let the supervisor write."""
    judged = one.world.judged
    with one.world.airflow.locked_database():
        one.send()
        one.until("looks at all messages", lambda: one.world.judged >= judged + PER_ROUND)
        time.sleep(one.world.dice.uniform(0, 2))  # they are with the runner first, then with the supervisor
        yield


@contextmanager
def stored(one: Round) -> Iterator[None]:
    """Wait until all events are stored; the API knows nothing of it."""
    one.send()
    one.until("events", lambda: one.events >= PER_ROUND)
    yield


@contextmanager
def acking(one: Round) -> Iterator[None]:
    """Wait until the API has the request; its answer will find nobody."""
    cloudflare = one.world.cloudflare
    cloudflare.add_faults({"path": "ack", "delay_ms": ANSWER_DELAY_MS})
    one.send()
    one.until("an ack", lambda: not cloudflare.faults())
    yield
    time.sleep(1.5 * ANSWER_DELAY_MS / 1000)


@contextmanager
def acked(one: Round) -> Iterator[None]:
    """Wait until the API has acked."""
    one.send()
    one.until("acks", lambda: one.acked >= PER_ROUND)
    yield


class Step(NamedTuple):
    """A step, and how many events are stored and messages acked when it is reached."""

    reach: Callable[[Round], AbstractContextManager[None]]
    events: int
    acked: int


STEPS = {
    "after pull": Step(pulled, 0, 0),
    "after yield": Step(yielded, 0, 0),
    "after persistence": Step(stored, PER_ROUND, 0),
    "after ack": Step(acked, PER_ROUND, PER_ROUND),
    "pull under way": Step(pulling, 0, 0),
    "ack under way": Step(acking, PER_ROUND, 0),
}
SHORT = ("after yield", "after persistence")


def kills(world: World) -> Verdict:
    """Kill at each step, look that nothing is lost, and count what came again."""
    queue = watch(world, "kill", match="function:e2e.dags.everything")
    triggerer = start(world, queue)
    verdict, again, missed, sent = Verdict(), Counter[str](), Counter[str](), 0
    steps = SHORT if world.is_short else tuple(STEPS)
    for step in steps:
        for number in range(world.rounds):
            victim = VICTIMS[number % len(VICTIMS)]
            messages = numbered(PER_ROUND, sent)
            sent += PER_ROUND
            one = Round(world, queue, messages, len(world.airflow.events(queue.name)), queue.totals["acked"])
            triggerer = kill(one, step, victim, triggerer, missed)
            again[f"{step}, {victim}"] += one.events - PER_ROUND
            problems, _ = compare(world.airflow.events(queue.name)[one.events_before :], {queue.name: messages})
            verdict.problems += [f"{step}, {victim} killed: {problem}" for problem in problems]
        verdict.facts |= _sum_up(step, world.rounds, again, missed)
        print(f"  {step}: {verdict.facts[step]}", flush=True)
    verdict.facts |= {"killed": world.rounds * len(steps), "messages": sent}
    wanted = set(map(key_of, numbered(sent)))
    with suppress(TimeoutError):  # the next line says which are missing
        world.airflow.until("runs with all messages", lambda: wanted <= in_runs(world, queue.name), seconds=60)
    verdict.none_of("messages without a run", wanted - in_runs(world, queue.name))
    check_queue(verdict, queue.name, queue.totals, sent)
    return verdict


def in_runs(world: World, dag_id: str) -> set[str]:
    """Return what tells apart the messages that runs of a DAG consumed."""
    return {key for run in world.airflow.runs(dag_id) for key in run.keys}


def kill(one: Round, step: str, victim: str, triggerer: Triggerer, missed: Counter[str]) -> Triggerer:
    """Kill at a step, and return the triggerer that took over and brought all to its end."""
    world = one.world
    with STEPS[step].reach(one):
        triggerer.kill(victim)
        missed[step] += (one.events, one.acked) != STEPS[step][1:]
    triggerer.wait_until_gone()
    triggerer = start(world, one.queue)
    world.cloudflare.advance(LEASE_SECONDS + 1)
    world.wait_until_acked(one.queue, move_clock=LEASE_SECONDS + 1)
    return triggerer


def _sum_up(step: str, rounds: int, again: Counter[str], missed: Counter[str]) -> dict[str, str]:
    by_victim = {victim: again[f"{step}, {victim}"] for victim in VICTIMS[:rounds]}
    of = ", ".join(f"{victim} killed {count}" for victim, count in by_victim.items())
    other = f"; {missed[step]} kills came at another moment" if missed[step] else ""
    return {step: f"{sum(by_victim.values())} of {rounds * PER_ROUND} messages came again ({of}){other}"}
