"""
Process one queue from several Celery workers, kill one of them with -9 half-way, then look for every message.

Called by ``scripts/scale``, which sets up the environment. Airflow runs with the CeleryExecutor on PostgreSQL and Redis
that the script starts for itself and ends. The same number of messages is processed twice: by one worker, then by two,
of which one dies. What is compared: the handlers' own record and the emulator's ledger. The exit code is 0 only if
nothing is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from harness.audit import Verdict, show
from harness.cloudflare import Cloudflare, cloudflare
from harness.ledger import Handled, Run, audit, read_handled
from harness.local_airflow import Api, end_of_run, ended_in_order, start_run
from harness.scale_cluster import SLOTS_PER_WORKER, Cluster, cluster, find

SURVIVOR, VICTIM = "worker-1", "worker-2"
DAG_ID = "scale"
CONCURRENCY = 8
HANDLER_SECONDS = 0.05
LEAST_SECONDS = 15
"""How long one worker is busy at least: with few messages, both workers must be at work when one is killed."""
PROGRAMS = ("initdb", "postgres", "pg_isready", "redis-server")


class Scale:
    """
    The proof: an emulated queue, an Airflow, and what the handlers write.

    :param messages: how many are processed in each pass.
    :param started: the Airflow.
    :param emulated: the emulator.
    """

    def __init__(self, messages: int, started: Cluster, emulated: Cloudflare) -> None:
        self.messages = messages
        self.cluster = started
        self.queue = emulated.queue("orders")
        self.record = Path(os.environ["SCALE_HANDLED"])
        self.api = Api(os.environ["AIRFLOW__API__BASE_URL"], started)

    def handled(self, first: int) -> list[Handled]:
        """Read what handlers wrote of the messages of a pass, by the number of its first one."""
        return [line for line in read_handled(self.record) if line.n >= first]

    def run(self, name: str, first: int, workers: list[str], *, kill: str | None = None) -> Verdict:
        """Process messages, numbered from ``first``, by a run of the DAG; kill a worker half-way, if one is named."""
        from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

        hook = CloudflareQueuesHook()
        hook.send(self.queue.queue_id, [{"n": n} for n in range(first, first + self.messages)])
        hook.close()
        tasks = SLOTS_PER_WORKER * len(workers)
        print(f"{name}: {self.messages} messages, {tasks} tasks on {' and '.join(workers)}", flush=True)
        start_run(self.api, DAG_ID, name, conf={"tasks": tasks})
        self.cluster.until("half of the messages", lambda: len(self.handled(first)) >= self.messages / 2, 300)
        if kill is not None:
            count = self.cluster.kill_worker(kill)
            print(f"{kill}: its {count} processes are killed with -9", flush=True)
        state = end_of_run(self.api, DAG_ID, name, 600)
        path = f"/dags/{DAG_ID}/dagRuns/{name}/taskInstances"
        instances = self.api.call("GET", path).json()["task_instances"]
        verdict = Verdict(_facts(self.handled(first), self.messages))
        verdict.facts["tasks tried again"] = sum(instance["try_number"] > 1 for instance in instances)
        verdict.expect(state == "success", f"the run of the DAG is {state}")
        killed_none = kill is not None and not any(line.run.startswith(kill) for line in self.handled(first))
        verdict.expect(not killed_none, f"{kill} had handled nothing when it was killed")
        return verdict


def _facts(handled: list[Handled], messages: int) -> dict[str, Any]:
    """Return how fast the first half was handled, from when all tasks were at work, and by whom how much."""
    handled = sorted(handled, key=lambda line: line.at)
    began = {line.run: line.at for line in reversed(handled[: messages // 2])}
    at_work = [line.at for line in handled[: messages // 2] if line.at >= max(began.values())]
    by_worker = Counter(line.run.partition(":")[0] for line in handled)
    return {
        "messages": messages,
        "messages/s with all tasks at work": round((len(at_work) - 1) / (at_work[-1] - at_work[0])),
        "seconds until the last was handled": round(handled[-1].at - handled[0].at, 1),
        **{f"handled by {name}": count for name, count in sorted(by_worker.items())},
    }


def prove(messages: int, home: Path) -> dict[str, Verdict]:
    """Start it all, process messages by one worker, then as many by two of which one dies, and look for all of them."""
    dags, record, state = home / "dags", home / "handled", home / "state"
    dags.mkdir()
    record.touch()
    shutil.copy(Path(__file__).parent / "scale_dag.py", dags)
    least = LEAST_SECONDS * SLOTS_PER_WORKER * CONCURRENCY / messages
    os.environ |= {
        "SCALE_CONCURRENCY": str(CONCURRENCY),
        "SCALE_HANDLED": str(record),
        "SCALE_HANDLER_SECONDS": str(max(HANDLER_SECONDS, least)),
    }
    with cloudflare(home, "orders", state=state) as emulated:
        os.environ["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"] = json.dumps(emulated.connection)
        with cluster(home, dags) as started:
            scale = Scale(messages, started, emulated)
            scale.api.until("Airflow's web page", scale.api.log_in)
            started.start_worker(SURVIVOR)
            one = scale.run("one_worker", 0, [SURVIVOR])
            started.start_worker(VICTIM)
            two = scale.run("two_workers", messages, [SURVIVOR, VICTIM], kill=VICTIM)
    handled = read_handled(record)
    runs = [Run(name, killed=name.startswith(VICTIM)) for name in sorted({line.run for line in handled})]
    return {"one worker": one, "two, one killed": two, "all messages": audit(2 * messages, handled, runs, state)}


def main() -> int:
    """Prove it as the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/scale", description=__doc__.strip().splitlines()[0])
    parser.add_argument("--messages", type=int, default=10_000, help="how many, for each pass (%(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy logs and the handlers' record there")
    parser.add_argument("--journal", action="store_true", help="let the tasks keep a journal")
    given = parser.parse_args()
    os.environ["SCALE_JOURNAL"] = "yes" if given.journal else ""
    for program in PROGRAMS:
        find(program)
    with tempfile.TemporaryDirectory(prefix="cfqueues-scale-", ignore_cleanup_errors=True) as name:
        try:
            verdicts = prove(given.messages, Path(name))
        finally:
            if given.keep is not None:
                shutil.copytree(name, given.keep, dirs_exist_ok=True)
    return show("One queue, several workers", verdicts)


if __name__ == "__main__":
    sys.exit(ended_in_order(main))
