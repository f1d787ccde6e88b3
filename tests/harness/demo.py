"""
Run the example DAG against a local Cloudflare Queues and check its counts against the queue itself.

Called by ``scripts/demo``, which sets up the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from harness.cloudflare import cloudflare
from harness.demo_orders import (
    CANNOT_SHIP,
    DAG_ID,
    ORDERS,
    look_into_queue,
    prepare,
)
from harness.demo_ui import serve
from harness.local_airflow import ROOT, airflow_home, ended_in_order


def run_dag() -> dict[str, Any]:
    """Run the DAG in this process and return the counts that its tasks left in XCom."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.utils.db import initdb

    initdb()
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(ROOT / "example_dags")
    sync_bag_to_db(bag, "dags-folder", None)
    run = bag.dags[DAG_ID].test()
    tasks = {instance.task_id: instance for instance in run.get_task_instances()}
    print(f"\nDAG run {run.run_id}: {run.state}")

    def xcom(task_id: str, key: str) -> Any:
        return tasks[task_id].xcom_pull(task_ids=task_id, key=key)

    return {
        "pulled": len(xcom("pull", "return_value")),
        "acked": xcom("ack", "ack_count"),
        "retried": xcom("retry", "retry_count"),
    }


def print_table(of_tasks: dict[str, Any], of_queue: dict[str, int]) -> None:
    """Print what the tasks counted beside what the queue says."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "XCom of the tasks", "the queue itself", title="What happened to the orders")
    for what, count in of_queue.items():
        table.add_row(what, str(of_tasks.get(what, "")), str(count))
    Console().print(table)


def run_in_terminal(home: Path) -> int:
    """Run the DAG once and compare."""
    with cloudflare(home, "orders") as emulated:
        os.environ["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"] = json.dumps(emulated.connection)
        prepare(emulated)
        of_tasks = run_dag()
        of_queue = look_into_queue(emulated)
    print_table(of_tasks, of_queue)
    agree = (
        all(of_tasks[what] == of_queue[what] for what in of_tasks)
        and of_queue["left"] == of_queue["retried"] == CANNOT_SHIP
        and of_queue["pulled"] == ORDERS
    )
    if not agree:
        print("The tasks and the queue do not agree", file=sys.stderr)
    print(json.dumps(of_queue))
    return 0 if agree else 1


def main() -> int:
    """Read the command line and run the demo."""
    parser = argparse.ArgumentParser(prog="./scripts/demo", description=__doc__)
    parser.add_argument("--ui", action="store_true", help="serve the same in a real Airflow with its web page")
    arguments = parser.parse_args()
    with airflow_home() as home:
        return serve(home) if arguments.ui else run_in_terminal(home)


if __name__ == "__main__":
    sys.exit(ended_in_order(main))
