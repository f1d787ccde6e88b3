"""
The scenarios of ``scripts/e2e`` that ask for runs: is every message in a DAG run, two minutes after the last one?

A stored event is not enough. Airflow 3.0 to 3.3 makes one run of the events up to the first one since the last run, and
leaves later ones lying until another event comes (apache/airflow#54659, #56050). So what is compared is what runs
consumed: Airflow's table ``dagrun_asset_event``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from e2e.scenarios import numbered, watcher
from e2e.world import World
from harness.audit import Verdict, account, check_queue

AFTERWARDS_SECONDS = 8
"""What would still come then: a closing event that starts a run without messages."""
STOPPED_SECONDS = 20
TRICKLE_PER_SECOND = 20


class Watched:
    """
    A queue, its asset, and the DAGs that run for it.

    :param world: where they are.
    :param name: of queue, asset and DAG.
    :param dags: how many DAGs share the asset.
    :param spec: what else the DAGs are told.
    """

    def __init__(self, world: World, name: str, *, dags: int = 1, **spec: Any) -> None:
        self.world, self.queue = world, world.cloudflare.create_queue(name)
        self.dag_ids = [name if number == 0 else f"{name}-{number}" for number in range(dags)]
        self.watchers = {name: watcher(self.queue, **world.trigger_arguments(self.dag_ids))}
        self.specs = [
            {"dag_id": dag_id, "watchers": self.watchers, "task": world.task, **spec} for dag_id in self.dag_ids
        ]
        self.sent: list[dict[str, Any]] = []

    def start(self, *others: Watched) -> None:
        """Start the triggerer, and wait until the queue is watched, and that of others."""
        airflow = self.world.airflow
        airflow.write_dags([spec for each in (self, *others) for spec in each.specs])
        triggerer = airflow.start_triggerer(self.queue.name)
        for each in (self, *others):
            airflow.until_watching(triggerer, each.queue.name)
        airflow.until("the DAGs", lambda: self._known() >= len(self.dag_ids))

    def _known(self) -> int:
        rows = self.world.airflow.query("SELECT dag_id FROM dag")
        return sum(dag_id in self.dag_ids for (dag_id,) in rows)

    def send(self, count: int) -> None:
        """Send so many messages."""
        messages = [{**message, "queue": self.queue.name} for message in numbered(count, len(self.sent))]
        self.sent += messages
        self.queue.send(messages)


def judge(world: World, watched: Sequence[Watched]) -> Verdict:
    """
    Wait until every message is in a run of each DAG, or patience ends, and count what there is then.

    :param world: where they run.
    :param watched: the queues; those that share their DAGs share all messages.
    """
    messages = [message for each in watched for message in each.sent]
    assets = [asset for each in watched for asset in each.watchers]
    dag_ids = watched[0].dag_ids
    verdict = world.judge(dict.fromkeys(dag_ids, messages), assets)
    for each in watched:
        world.wait_until_acked(each.queue, move_clock=1_000)  # a run that came too late leaves leases
    world.airflow.pass_time(AFTERWARDS_SECONDS)
    verdict.facts |= {"messages": len(messages), "events": sum(map(world.airflow.event_count, assets))}
    for dag_id in dag_ids:
        runs = world.airflow.runs(dag_id)
        again = account((), [key for run in runs for key in run.keys]).again
        empty = sum(not run.keys for run in runs)
        verdict.facts[dag_id] = f"{len(runs)} runs, {empty} empty, {sum(again.values())} messages twice"
    for each in watched:
        check_queue(verdict, each.queue.name, each.queue.totals, len(each.sent))
    return verdict


def bursts(world: World) -> Verdict:
    """Send bursts of many sizes, each to a queue that has been silent, with one DAG."""
    verdict = Verdict()
    for size in (1, 7, 50) if world.is_short else (1, 7, 50, 400, 1_000, 5_000):
        watched = Watched(world, f"burst-{size}")
        watched.start()
        watched.send(size)
        found = judge(world, [watched])
        verdict.facts[str(size)] = "; ".join(f"{what}: {figure}" for what, figure in found.facts.items())
        verdict.problems += found.problems
        limit = max(1, math.ceil(size / 50))
        events = found.facts["events"]
        verdict.expect(events <= limit + world.closing_events, f"{size} messages made {events} events")
        world.airflow.end_triggerers()
    return verdict


def repeated(world: World) -> Verdict:
    """Send three bursts to one queue, each when the one before is over."""
    watched = Watched(world, "repeated")
    watched.start()
    verdict = Verdict()
    for size in (50, 20, 50):
        watched.send(size)
        verdict = judge(world, [watched])
    return verdict


def trickle(world: World) -> Verdict:
    """Send twenty messages a second for five minutes, then none."""
    watched = Watched(world, "trickle")
    watched.start()
    total = TRICKLE_PER_SECOND * (10 if world.is_short else 300)
    began = time.monotonic()
    while (sent := len(watched.sent)) < total:
        due = min(total, int((time.monotonic() - began) * TRICKLE_PER_SECOND) + 1)
        watched.send(due - sent)
        world.airflow.pass_time(began + due / TRICKLE_PER_SECOND - time.monotonic())
    rate = total / (time.monotonic() - began)
    verdict = judge(world, [watched])
    verdict.facts["messages a second"] = round(rate, 1)
    return verdict


def shared(world: World) -> Verdict:
    """Let two DAGs run for one asset."""
    watched = Watched(world, "shared", dags=2)
    watched.start()
    watched.send(50)
    return judge(world, [watched])


def either(world: World) -> Verdict:
    """Let one DAG run for either of two assets, each with a queue of its own."""
    one, other = Watched(world, "either-a"), Watched(world, "either-b")
    one.specs = [{"dag_id": "either", "watchers": one.watchers | other.watchers, "task": world.task}]
    other.specs = []
    for each in (one, other):
        each.dag_ids = ["either"]
        for arguments in each.watchers.values():
            arguments.update(world.trigger_arguments(["either"]))
    one.start(other)
    for _ in range(5):
        one.send(10)
        other.send(10)
        world.airflow.pass_time(0.5)
    return judge(world, [one, other])


def stopped(world: World) -> Verdict:
    """Stop the scheduler in the middle of a burst, and let it go on."""
    watched = Watched(world, "stopped")
    watched.start()
    watched.send(25)
    with world.airflow.stopped("scheduler"):
        watched.send(25)
        world.airflow.pass_time(STOPPED_SECONDS)
    return judge(world, [watched])


def one_run(world: World) -> Verdict:
    """Let a DAG have one active run, whose task takes three seconds, while bursts come."""
    watched = Watched(world, "one-run", max_active_runs=1, task=f"slow, {world.task}")
    watched.start()
    world.airflow.until_serving()
    for _ in range(4):
        watched.send(12)
        world.airflow.pass_time(1)
    return judge(world, [watched])


def paused(world: World) -> Verdict:
    """Pause a DAG right after a burst, and unpause it when more messages wait."""
    watched = Watched(world, "paused")
    watched.start()
    watched.send(50)
    world.airflow.pause_dag("paused", paused=True)
    watched.send(10)
    world.airflow.pass_time(15)
    world.airflow.pause_dag("paused", paused=False)
    return judge(world, [watched])


def changed(world: World) -> Verdict:
    """Change an argument of the watcher again and again while messages come, so that Airflow replaces the watcher."""
    watched = Watched(world, "changed")
    watched.start()
    for number in range(2 if world.is_short else 4):
        watched.watchers["changed"]["max_in_flight"] = 1_000 + number
        world.airflow.write_dags(watched.specs)
        for _ in range(40):
            watched.send(1)
            world.airflow.pass_time(0.2)
    return judge(world, [watched])


BURSTS: dict[str, Callable[[World], Verdict]] = {
    "bursts": bursts,
    "repeated": repeated,
    "trickle": trickle,
    "shared": shared,
    "either": either,
    "stopped": stopped,
    "one-run": one_run,
    "paused": paused,
    "changed": changed,
}
