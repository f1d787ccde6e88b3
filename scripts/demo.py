"""
Run the example DAG against a local Cloudflare Queues and check its counts against the queue itself.

Called by ``scripts/demo``, which sets up the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DAG_ID = "cloudflare_queues_ack_retry"
ORDERS = 25
CANNOT_SHIP = 5


@contextmanager
def emulator(port: int) -> Iterator[dict[str, Any]]:
    """Start the emulator as a process of its own; yield what its first line says."""
    command = [sys.executable, "-m", "airflow_provider_cfqueues.emulator", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--queue", "orders"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        if not first_line:
            sys.exit(f"The emulator did not start: {' '.join(command)} ended with {process.wait()}")
        yield json.loads(first_line)
    finally:
        process.terminate()
        process.wait()


def connection(cloudflare: dict[str, Any]) -> dict[str, Any]:
    """Return the Airflow connection to the emulator."""
    return {
        "conn_type": "cloudflare",
        "host": cloudflare["base_url"],
        "password": cloudflare["api_token"],
        "extra": {"account_id": cloudflare["account_id"]},
    }


def set_dead_letter_queue(cloudflare: dict[str, Any]) -> None:
    """Give the queue what every queue should have: a place for messages that fail again and again."""
    import requests

    queue = f"accounts/{cloudflare['account_id']}/queues/{cloudflare['queues']['orders']}"
    url = f"{cloudflare['base_url']}/{queue}/consumers"
    headers = {"Authorization": f"Bearer {cloudflare['api_token']}"}
    (consumer,) = requests.get(url, headers=headers, timeout=10).json()["result"]
    wanted = {"type": "http_pull", "dead_letter_queue": "orders-failed", "settings": {"max_retries": 5}}
    requests.put(f"{url}/{consumer['consumer_id']}", json=wanted, headers=headers, timeout=10).raise_for_status()


def send_orders(queue_id: str, conn_id: str = "cloudflare_default") -> None:
    """Send orders, of which some cannot be shipped, by the provider's own hook."""
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    orders: list[dict[str, Any]] = [{"order": number, "quantity": 1 + number % 3} for number in range(ORDERS)]
    for order in orders[:: ORDERS // CANNOT_SHIP]:
        order["quantity"] = 0
    sent = CloudflareQueuesHook(conn_id).send(queue_id, orders)
    print(f"Sent {sent.sent_count} orders to the queue 'orders', {CANNOT_SHIP} of which cannot be shipped\n")


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


def look_into_queue(cloudflare: dict[str, Any]) -> dict[str, int]:
    """Return what the queue itself says happened."""
    import requests

    control = cloudflare["base_url"].removesuffix("/client/v4")
    state = requests.get(f"{control}/_emulator/state", timeout=10).json()
    (queue,) = (queue for queue in state["queues"] if queue["name"] == "orders")
    totals = queue["totals"]
    return {
        "pulled": totals["delivered"],
        "acked": totals["acked"],
        "retried": totals["retried"],
        "left": queue["backlog_count"],
    }


def print_table(of_tasks: dict[str, Any], of_queue: dict[str, int]) -> None:
    """Print what the tasks counted beside what the queue says."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "XCom of the tasks", "the queue itself", title="What happened to the orders")
    for what, count in of_queue.items():
        table.add_row(what, str(of_tasks.get(what, "")), str(count))
    Console().print(table)


def run_in_terminal() -> int:
    """Run the DAG once and compare."""
    with emulator(port=0) as cloudflare:
        os.environ["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"] = json.dumps(connection(cloudflare))
        set_dead_letter_queue(cloudflare)
        send_orders(cloudflare["queues"]["orders"])
        of_tasks = run_dag()
        of_queue = look_into_queue(cloudflare)
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
    """Read the command line; end in order on Ctrl-C and on what ends processes elsewhere."""
    parser = argparse.ArgumentParser(prog="./scripts/demo", description=__doc__)
    parser.add_argument("--ui", action="store_true", help="serve the same in a real Airflow with its web page")
    arguments = parser.parse_args()
    for ending in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C: else what the demo started would outlive it
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as under nohup
            signal.signal(ending, signal.default_int_handler)
    try:
        return run(ui=arguments.ui)
    except KeyboardInterrupt:
        print("\nStopped", file=sys.stderr)
        return 130


@contextmanager
def airflow_home() -> Iterator[Path]:
    """Give this process, and all that it starts, an Airflow of its own with the example DAGs."""
    with tempfile.TemporaryDirectory(prefix="cfqueues-demo-", ignore_cleanup_errors=True) as home:
        os.environ.update(
            AIRFLOW_HOME=home,
            AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "example_dags"),
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
            # Show what this provider logs, and of Airflow itself only what is wrong.
            AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
            AIRFLOW__LOGGING__NAMESPACE_LEVELS="airflow.task.operators.airflow_provider_cfqueues=INFO",
        )
        warnings.simplefilter("ignore")  # deprecations inside Airflow
        yield Path(home)


def run(*, ui: bool) -> int:
    """Run the demo."""
    with airflow_home() as home:
        if ui:
            from demo_ui import serve

            return serve(home)
        return run_in_terminal()


if __name__ == "__main__":
    sys.exit(main())
