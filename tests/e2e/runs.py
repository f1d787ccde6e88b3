"""The scenario of ``scripts/e2e`` that starts a run for each message, while requests fail and the worker is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_cfqueues._compat import HAS_SHARED_STREAMS
from e2e.world import World
from harness.audit import Verdict, account, check_queue
from harness.chaos import OFTEN, faults
from harness.cloudflare import Queue
from harness.local_airflow import IS_AIRFLOW_2

DAGS = Path(__file__).parent / "runs_dag.py"
LEASE_SECONDS = 60
PATIENCE_SECONDS = 15
"""Nothing happens for so long: what is left is leased to nobody, so the clock is moved."""
MAX_ACTIVE = 20
POISON = "not a number"
ACTIVE = "SELECT count(*) FROM dag_run WHERE dag_id = 'counted' AND state IN ('queued', 'running')"


class Campaign:
    """
    What happens while the messages become runs.

    :param world: where.
    :param messages: how many messages there are.
    :param kills: how often the worker is killed with -9.
    """

    def __init__(self, world: World, messages: int, kills: int) -> None:
        self.world, self.messages, self.kills = world, messages, kills
        self.airflow = world.airflow
        self.queue: Queue = world.cloudflare.create_queue("counted")
        self.most_active = 0
        self.killed: list[str] = []
        self._moved = time.monotonic()
        self._made = 0

    def run(self, seconds: float) -> None:
        """Wait until each message has its run and left the queue; kill the worker on the way."""
        gap = self.messages / (self.kills + 1)
        deadline = time.monotonic() + seconds
        while self.queue.backlog > self.poison_left:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.queue.backlog} of {self.messages} messages are left after {seconds:g} s")
            made = self.look()
            if len(self.killed) < self.kills and made >= gap * (len(self.killed) + 1):
                self.kill()
            if time.monotonic() > self._moved + PATIENCE_SECONDS:
                self.move_clock()
            self.airflow.pass_time(0.05)

    @property
    def poison_left(self) -> int:
        """How many messages stay in the queue: Airflow 3.0 to 3.2 do not say that they refuse a conf."""
        return 0 if IS_AIRFLOW_2 or HAS_SHARED_STREAMS else 1

    def look(self) -> int:
        """Return how many runs there are, and note how many are active."""
        made = self.airflow.query("SELECT count(*) FROM dag_run WHERE dag_id = 'counted'")[0][0]
        self.most_active = max(self.most_active, self.airflow.query(ACTIVE)[0][0])
        if made > self._made:
            self._made, self._moved = made, time.monotonic()
        return int(made)

    def kill(self) -> None:
        """Kill the process of the task with -9, and every second time the one that looks after it, too."""
        rows = self.airflow.query("SELECT pid FROM task_instance WHERE dag_id = 'starts' AND state = 'running'")
        with suppress(psutil.NoSuchProcess):
            for (pid,) in rows:
                process = psutil.Process(pid)
                both = len(self.killed) % 2 == 1
                for victim in [process.parent(), process] if both else [process]:
                    os.kill(victim.pid, signal.SIGKILL)
                self.killed.append("both" if both else "task")
                self.move_clock()

    def move_clock(self) -> None:
        """Let the leases end of whoever is dead."""
        self.world.cloudflare.advance(LEASE_SECONDS + 1)
        self._moved = time.monotonic()


def runs(world: World) -> Verdict:
    """Start one run for each message, none twice and never too many at once, while requests fail and workers die."""
    messages, kills = (40, 1) if world.is_short else (world.messages, 5)
    campaign = Campaign(world, messages, kills)
    campaign.queue.send([*({"n": n} for n in range(messages)), {"n": POISON}])
    world.cloudflare.add_faults(*faults(world.dice))
    if not IS_AIRFLOW_2:
        world.airflow.until_serving()
    began = time.monotonic()
    world.airflow.copy_dag(DAGS)
    try:
        campaign.run(seconds=1200)
    finally:
        world.airflow.pause_dag("starts", paused=True)
    verdict = Verdict({"messages": messages, "seconds until the last": round(time.monotonic() - began)})
    check(verdict, campaign)
    return verdict


def check(verdict: Verdict, campaign: Campaign) -> None:
    """Compare the messages with the runs in Airflow's database."""
    airflow, queue = campaign.airflow, campaign.queue
    rows = airflow.query("SELECT run_id, conf, queued_at, end_date FROM dag_run WHERE dag_id = 'counted'")
    numbers = [read_conf(conf)["n"] for _, conf, _, _ in rows]
    found = account(range(campaign.messages), numbers)
    most = most_at_once([(queued, ended) for _, _, queued, ended in rows])
    tries = airflow.query("SELECT sum(try_number) FROM task_instance WHERE dag_id = 'starts'")[0][0]
    verdict.facts |= {
        "runs": len(rows),
        "killed": dict.fromkeys(campaign.killed, 0) | {how: campaign.killed.count(how) for how in campaign.killed},
        "tries of the task": tries,
        "most active, seen": campaign.most_active,
        "most active, by the runs' own times": most,
        "deliveries": queue.totals["delivered"],
        "requests": campaign.world.cloudflare.calls(),
        "requests that failed": sum(OFTEN - rule["times"] for rule in campaign.world.cloudflare.faults()),
    }
    verdict.none_of("messages without a run", found.lost)
    verdict.none_of("runs of no message", found.strange)
    verdict.none_of("messages with two runs", found.again)
    verdict.expect(
        len(campaign.killed) == campaign.kills, f"{len(campaign.killed)} of {campaign.kills} kills were made"
    )
    verdict.expect(most <= MAX_ACTIVE and campaign.most_active <= MAX_ACTIVE, f"{most} runs were active at once")
    check_queue(verdict, queue.name, queue.totals, campaign.messages + 1 - campaign.poison_left)
    rejected = campaign.world.cloudflare.queue(f"{queue.name}-failed").backlog
    verdict.facts["rejected"] = rejected
    verdict.expect(rejected == 1 - campaign.poison_left, f"{rejected} messages are in the dead-letter queue")


def read_conf(stored: Any) -> dict[str, Any]:
    """Return the conf of a run: Airflow 2 pickles it, Airflow 3 stores JSON."""
    if isinstance(stored, bytes):
        import pickle

        return dict(pickle.loads(stored))
    return dict(json.loads(stored))


def most_at_once(intervals: list[tuple[str, str | None]]) -> int:
    """Return how many of these overlap; what has no end goes on."""
    changes = sorted([(start, 1) for start, _ in intervals] + [(end, -1) for _, end in intervals if end])
    return max(accumulate(change for _, change in changes), default=0)
