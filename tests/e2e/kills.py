"""The scenario of ``scripts/e2e`` that kills the triggerer with -9, at each step of a message's way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from e2e.events import key_of
from e2e.scenarios import LEASE_SECONDS, numbered
from e2e.triggerer import Triggerer
from e2e.troubles import start, watch
from e2e.world import AGAIN, World
from harness.audit import Verdict, check_queue
from harness.cloudflare import Queue

PER_ROUND = 5
VICTIMS = ("both", "supervisor", "runner")
ANSWER_DELAY_MS = 1_000
RUN_SECONDS = 1
"""``run_seconds`` of the watcher. It is short, as each round waits until the first event after a start is closed."""


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
        """How many messages of it are in stored events."""
        return len(self.world.airflow.events(self.queue.name)) - self.events_before

    @property
    def acked(self) -> int:
        """How many messages of it are acked."""
        return self.queue.totals["acked"] - self.acked_before

    @property
    def in_runs(self) -> int:
        """How many messages of it are in a run."""
        consumed = {key_of(message.body) for message in self.world.airflow.consumed(self.queue.name)}
        return len(consumed & set(map(key_of, self.messages)))

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
    time.sleep(RUN_SECONDS)  # a watcher that has just started waits for so long before its first event
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
def without_run(one: Round) -> Iterator[None]:
    """Wait until all events are stored, while the scheduler stands still; it creates their run afterwards."""
    with one.world.airflow.stopped("scheduler"):
        one.send()
        one.until("events", lambda: one.events >= PER_ROUND)
        yield


@contextmanager
def unclosed(one: Round) -> Iterator[None]:
    """Wait until a run has the first event and has left the last one behind; the closing event is not made yet."""
    with one.world.airflow.stopped("scheduler"):
        for count in (1, PER_ROUND):
            one.queue.send(one.messages[one.events : count])
            one.until("its event", lambda count=count: one.events >= count)
    one.until("the run of the first", lambda: one.in_runs)
    time.sleep(one.world.dice.uniform(RUN_SECONDS, 4 * RUN_SECONDS))  # an ack that waits for nothing takes two seconds
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
    """A step, and how many messages are in events, acked and in a run when it is reached; None = not known."""

    reach: Callable[[Round], AbstractContextManager[None]]
    events: int
    acked: int | None
    in_runs: int | None = None

    def is_reached(self, one: Round) -> bool:
        """Return whether it is."""
        return all(
            expected in (None, found)
            for expected, found in zip(self[1:], (one.events, one.acked, one.in_runs), strict=True)
        )


STEPS = {
    "after pull": Step(pulled, 0, 0),
    "after yield": Step(yielded, 0, 0),
    "after persistence": Step(stored, PER_ROUND, 0),
    "before the run": Step(without_run, PER_ROUND, 0, 0),
    "after ack": Step(acked, PER_ROUND, PER_ROUND),
    "pull under way": Step(pulling, 0, 0),
    "ack under way": Step(acking, PER_ROUND, 0),
}
WITHOUT_DAG_IDS = {
    "before the run": Step(without_run, PER_ROUND, None, 0),
    "before the closing event": Step(unclosed, PER_ROUND, None, 1),
}
"""What differs where the watcher does not see its runs. Where it does, no closing event follows."""
SHORT = ("after yield", "before the run")


def kills(world: World) -> Verdict:
    """Kill at each step, look that each message is in a run, and count what came again."""
    queue = watch(world, "kill", match="function:e2e.dags.everything", run_seconds=RUN_SECONDS)
    triggerer = start(world, queue)
    verdict, again, missed, sent = Verdict(), Counter[str](), Counter[str](), 0
    steps = {name: STEPS[name] for name in SHORT} if world.is_short else STEPS
    steps = steps if world.names_dags else steps | WITHOUT_DAG_IDS
    for step in steps:
        for number in range(world.rounds):
            victim = VICTIMS[number % len(VICTIMS)]
            messages = numbered(PER_ROUND, sent)
            sent += PER_ROUND
            one = Round(world, queue, messages, len(world.airflow.events(queue.name)), queue.totals["acked"])
            is_reached, triggerer = kill(one, steps[step], victim, triggerer)
            missed[step] += not is_reached
            found = world.judge({queue.name: numbered(sent)})
            again[f"{step}, {victim}"] += found.facts[AGAIN] - again.total()
            verdict.facts |= found.facts
            verdict.problems += [f"{step}, {victim} killed: {problem}" for problem in found.problems]
        verdict.facts |= _sum_up(step, world.rounds, again, missed)
        print(f"  {step}: {verdict.facts[step]}", flush=True)
    verdict.facts |= {"killed": world.rounds * len(steps), "messages": sent}
    check_queue(verdict, queue.name, queue.totals, sent)
    return verdict


def kill(one: Round, step: Step, victim: str, triggerer: Triggerer) -> tuple[bool, Triggerer]:
    """Kill at a step; return whether it was at that step, and the triggerer that took over and did the rest."""
    world = one.world
    with step.reach(one):
        triggerer.kill(victim)
        is_reached = step.is_reached(one)
    triggerer.wait_until_gone()
    triggerer = start(world, one.queue)
    world.cloudflare.advance(LEASE_SECONDS + 1)
    world.wait_until_acked(one.queue, move_clock=LEASE_SECONDS + 1)
    # The next round may stop the scheduler: a run that is still to come would hold its events up.
    world.airflow.until("the last run", lambda: not world.airflow.query("SELECT 1 FROM asset_dag_run_queue"))
    return is_reached, triggerer


def _sum_up(step: str, rounds: int, again: Counter[str], missed: Counter[str]) -> dict[str, str]:
    by_victim = {victim: again[f"{step}, {victim}"] for victim in VICTIMS[:rounds]}
    of = ", ".join(f"{victim} killed {count}" for victim, count in by_victim.items())
    other = f"; {missed[step]} kills came at another moment" if missed[step] else ""
    return {step: f"{sum(by_victim.values())} of {rounds * PER_ROUND} messages came again ({of}){other}"}
