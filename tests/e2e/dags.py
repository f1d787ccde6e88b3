"""
The DAGs of ``scripts/e2e``, and the functions that its watchers match by.

The file in Airflow's DAGs folder calls :func:`define`. Airflow's processes find this module by ``PYTHONPATH``; the
environment tells it the folder where it leaves and finds signs: ``judged`` gets a line per message that a watcher looks
at, and while there is a file ``hold`` no watcher comes back from looking.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_provider_cfqueues.models import Message

SIGNS = Path(os.environ.get("CFQUEUES_E2E_SIGNS", "."))


def define(specs: list[dict[str, Any]]) -> dict[str, DAG]:
    """
    Return DAGs by their names.

    :param specs: for each: ``dag_id``; ``watchers``, the arguments of a trigger by the name of its asset; and
        ``task``: ``nothing``; ``ack`` for one that fails in its first run and acks in the next; or any of ``settle``,
        which acks, and ``slow``, which takes three seconds; ``max_active_runs``.
    """
    return {spec["dag_id"]: _define(**spec) for spec in specs}


def _define(dag_id: str, watchers: dict[str, dict[str, Any]], task: str = "nothing", max_active_runs: int = 100) -> DAG:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG, Asset, AssetAny, AssetWatcher

    from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger

    assets = [
        Asset(name, watchers=[AssetWatcher(name=name, trigger=QueueMessageTrigger(**arguments))])
        for name, arguments in watchers.items()
    ]
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    schedule = AssetAny(*assets) if assets else None
    with DAG(dag_id, schedule=schedule, start_date=start, catchup=False, max_active_runs=max_active_runs) as dag:
        queue_names = [arguments["queue_name"] for arguments in watchers.values()]
        if task == "nothing":
            EmptyOperator(task_id="nothing")  # the scheduler runs it itself
        elif task == "ack":
            _fail_once_then_ack(queue_names[0])
        else:
            _settle(queue_names if "settle" in task else [])
        if "slow" in task:
            _take_three_seconds()
    return dag


def _take_three_seconds() -> None:
    from airflow.sdk import task

    @task
    def work() -> None:
        time.sleep(3)

    work()


def _settle(queue_names: list[str]) -> None:
    from airflow_provider_cfqueues.events import event_leases
    from airflow_provider_cfqueues.operators.queues import QueueAckOperator

    for name in queue_names:
        leases = event_leases(queue_name=name)
        # The api-server may be too busy for the first try.
        QueueAckOperator(
            task_id=f"ack-{name}", queue_name=name, lease_ids=leases, retries=2, retry_delay=timedelta(seconds=1)
        )


def _fail_once_then_ack(queue_name: str) -> None:
    from airflow.sdk import task

    from airflow_provider_cfqueues.events import event_leases
    from airflow_provider_cfqueues.operators.queues import QueueAckOperator

    @task
    def work() -> None:
        try:
            (SIGNS / "failed once").touch(exist_ok=False)
        except FileExistsError:
            return
        raise RuntimeError("the first run fails")

    work() >> QueueAckOperator(task_id="ack", queue_name=queue_name, lease_ids=event_leases())


def everything(message: Message) -> bool:
    """Want every message, leave a sign, and do not come back while there is a hold."""
    with (SIGNS / "judged").open("a") as judged:
        judged.write(f"{message.id}\n")
    while (SIGNS / "hold").exists():
        time.sleep(0.01)
    return True


def even(message: Message) -> bool:
    """Want messages with an even number."""
    return isinstance(message.body, dict) and message.body["n"] % 2 == 0


def odd(message: Message) -> bool:
    """Want messages with an odd number."""
    return not even(message)
