"""
Process one queue from several Celery workers, kill one of them with -9 half-way, then look for every message.

Called by ``scripts/scale``, which sets up the environment. Airflow runs with the CeleryExecutor on PostgreSQL and Redis
that the script starts for itself and ends. The same number of messages is processed twice: by one worker, then by two,
of which one dies. What is compared: the handlers' own record and the emulator's counts. The exit code is 0 only if
nothing is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import requests

from harness import demo_orders, local_airflow
from harness.scale_cluster import SLOTS_PER_WORKER, Cluster, cluster, find, until

SURVIVOR, VICTIM = "worker-1", "worker-2"
DAG_ID = "scale"
PROGRAMS = ("initdb", "postgres", "pg_isready", "redis-server")
COUNTS = ("received", "delivered", "acked", "dead_lettered", "exhausted", "expired")


class Handled(NamedTuple):
    """A line of the handlers' record."""

    n: int
    attempt: int
    worker: str
    share: int
    at: float


@dataclass
class Pass:
    """One run of the DAG over all messages."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Scale:
    """
    The proof: an emulated queue, an Airflow, and what the handlers write.

    :param messages: how many are processed in each pass.
    :param started: the Airflow.
    :param cloudflare: the emulator, as its first line says.
    """

    def __init__(self, messages: int, started: Cluster, cloudflare: dict[str, Any]) -> None:
        self.messages = messages
        self.cluster = started
        self.cloudflare = cloudflare
        self.record = Path(os.environ["SCALE_HANDLED"])
        url = os.environ["AIRFLOW__API__BASE_URL"]
        self.api = local_airflow.Api(url, started.processes, started.home)

    def counts(self) -> dict[str, int]:
        """Return what the emulator counted: events since its start, and the backlog."""
        root = self.cloudflare["base_url"].removesuffix("/client/v4")
        state = requests.get(f"{root}/_emulator/state", timeout=30).json()
        (queue,) = (queue for queue in state["queues"] if queue["name"] == "orders")
        return {**{name: queue["totals"][name] for name in COUNTS}, "backlog": queue["backlog_count"]}

    def handled(self) -> list[Handled]:
        """Read the record of this pass."""
        rows = [line.split() for line in self.record.read_text().splitlines()]
        return [Handled(int(n), int(attempt), worker, int(share), float(at)) for n, attempt, worker, share, at in rows]

    def run(self, name: str, workers: list[str], *, kill: str | None = None) -> Pass:
        """Process all messages by a run of the DAG; kill a worker half-way, where one is named."""
        from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

        before = self.counts()
        self.record.write_text("")
        hook = CloudflareQueuesHook()
        hook.send(self.cloudflare["queues"]["orders"], [{"n": n} for n in range(self.messages)])
        hook.close()
        tasks = SLOTS_PER_WORKER * len(workers)
        print(f"{name}: {self.messages} messages, {tasks} tasks on {' and '.join(workers)}", flush=True)
        path = f"/dags/{DAG_ID}/dagRuns"
        asked = self.api.call("POST", path, dag_run_id=name, logical_date=None, conf={"tasks": tasks})
        asked.raise_for_status()
        half = until("half of the messages", self._half_is_handled, self.cluster, 300)
        killed_at = None
        if kill is not None:
            count, killed_at = self.cluster.kill_worker(kill), time.time()
            print(f"{kill}: its {count} processes are killed with -9", flush=True)
        state = until(
            "the end of the run",
            lambda: {"success": "success", "failed": "failed"}.get(
                self.api.call("GET", f"{path}/{name}").json()["state"]
            ),
            self.cluster,
            600,
        )
        instances = self.api.call("GET", f"{path}/{name}/taskInstances").json()["task_instances"]
        done = self._compare(before, killed_at, kill, half)
        done.facts["tasks tried again"] = sum(instance["try_number"] > 1 for instance in instances)
        if state != "success":
            done.problems.append(f"the run of the DAG is {state}")
        return done

    def _half_is_handled(self) -> float | None:
        """Return the rate of the first half, from when all tasks were at work; None before that."""
        handled = self.handled()
        if len(handled) < self.messages / 2:
            return None
        at_work: dict[int, float] = {}
        for line in handled:
            at_work.setdefault(line.share, line.at)
        began = max(at_work.values())
        counted = [line.at for line in handled if line.at >= began]
        return len(counted) / (max(counted) - began)

    def _compare(self, before: dict[str, int], killed_at: float | None, killed: str | None, rate: float) -> Pass:
        handled, after = self.handled(), self.counts()
        of_queue = {name: after[name] - before[name] for name in COUNTS}
        of_message: dict[int, list[Handled]] = defaultdict(list)
        for line in sorted(handled, key=lambda line: line.at):
            of_message[line.n].append(line)
        lost = self.messages - len(of_message)
        twice = {n: lines for n, lines in of_message.items() if len(lines) > 1}
        # What its handler finished on the worker that died, and was not acked yet, is handled again.
        by_kill = [n for n, lines in twice.items() if all(line.worker == killed for line in lines[:-1])]
        shares = {name: sum(line.worker == name for line in handled) for name in sorted({x.worker for x in handled})}
        done = Pass()
        done.facts = {
            "messages": self.messages,
            "messages/s with all tasks at work": round(rate),
            "seconds until the last was handled": round(max(x.at for x in handled) - min(x.at for x in handled), 1),
            **{f"handled by {name}": count for name, count in shares.items()},
            "lost": lost,
            "handled twice, by the worker that died and again": len(by_kill),
            "handled twice, unexplained": len(twice) - len(by_kill),
            "delivered again when leases ended": of_queue["delivered"] - self.messages,
            "acked, by the queue's own count": of_queue["acked"],
            "left in the queue": after["backlog"],
        }
        wrong = {
            "lost": lost,
            "handled twice, unexplained": len(twice) - len(by_kill),
            "left in the queue": after["backlog"],
            "sent, but not acked": of_queue["received"] - of_queue["acked"],
        }
        done.problems = [f"{what}: {count}" for what, count in wrong.items() if count]
        if killed_at is not None and shares.get(str(killed), 0) == 0:
            done.problems.append(f"{killed} had handled nothing when it was killed")
        return done


def prove(messages: int, home: Path) -> dict[str, Pass]:
    """Start it all, process the messages by one worker, then by two of which one dies."""
    dags = home / "dags"
    dags.mkdir()
    shutil.copy(Path(__file__).parent / "scale_dag.py", dags)
    os.environ["SCALE_HANDLED"] = str(home / "handled")
    with demo_orders.emulator(port=0) as cloudflare:
        os.environ["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"] = json.dumps(demo_orders.connection(cloudflare))
        with cluster(home, dags) as started:
            scale = Scale(messages, started, cloudflare)
            scale.api.until("Airflow's web page", scale.api.log_in)
            scale.api.until("the DAG", lambda: scale.api.call("GET", f"/dags/{DAG_ID}").ok)
            started.start_worker(SURVIVOR)
            one = scale.run("one_worker", [SURVIVOR])
            started.start_worker(VICTIM)
            two = scale.run("two_workers", [SURVIVOR, VICTIM], kill=VICTIM)
    return {"one worker": one, "two, one killed": two}


def show(passes: dict[str, Pass]) -> None:
    """Print a table for people and one line of JSON for programs."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", *passes, title="One queue, several workers")
    names = dict.fromkeys(name for each in passes.values() for name in each.facts)
    for name in names:
        table.add_row(name, *(str(each.facts.get(name, "")) for each in passes.values()))
    console = Console(width=100)
    console.print(table)
    problems = [f"{name}: {problem}" for name, each in passes.items() for problem in each.problems]
    for problem in problems:
        console.print(f"WRONG  {problem}", style="red", markup=False)
    facts = {name: each.facts for name, each in passes.items()}
    print(json.dumps({"ok": not problems, **facts, "problems": problems}))


def main() -> int:
    """Prove it as the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/scale", description=__doc__.strip().splitlines()[0])
    parser.add_argument("--messages", type=int, default=10_000, help="how many, for each pass (%(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy logs and the handlers' record there")
    parser.add_argument("--journal", action="store_true", help="let the tasks keep a journal")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all it started is ended too
    os.environ["SCALE_JOURNAL"] = "yes" if given.journal else ""
    for program in PROGRAMS:
        find(program)
    with tempfile.TemporaryDirectory(prefix="cfqueues-scale-", ignore_cleanup_errors=True) as name:
        try:
            passes = prove(given.messages, Path(name))
        except KeyboardInterrupt:
            return 130
        finally:
            if given.keep is not None:
                shutil.copytree(name, given.keep, dirs_exist_ok=True)
    show(passes)
    return 1 if any(each.problems for each in passes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
