"""
The DAG of ``scripts/scale``: one queue, as many mapped tasks as a run asks for.

Each handler waits, as one that calls another service does, and appends a line to a file before it returns.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
from harness.ledger import Handled

LEASE_SECONDS = 30


async def handle(message: Any, *, share: int) -> None:
    """Do what the handlers of a real queue do: wait for somebody, then write down what was done."""
    await asyncio.sleep(float(os.environ["SCALE_HANDLER_SECONDS"]))
    line = Handled(message.body["n"], message.attempts, "ok", f"{os.environ['SCALE_WORKER']}:{share}", time.time())
    record = os.open(os.environ["SCALE_HANDLED"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(record, str(line).encode())
    finally:
        os.close(record)


@dag(
    schedule=None, catchup=False, params={"tasks": 1}, default_args={"retries": 3, "retry_delay": timedelta(seconds=5)}
)
def scale() -> None:
    """Consume one queue from several tasks."""

    @task
    def plan(params: Any = None) -> list[dict[str, int]]:
        return [{"share": share} for share in range(params["tasks"])]

    QueueProcessOperator.partial(
        task_id="consume",
        queue_name="orders",
        handler=handle,
        concurrency=int(os.environ["SCALE_CONCURRENCY"]),
        visibility_timeout=LEASE_SECONDS,
        retry_delay=timedelta(seconds=LEASE_SECONDS),
        journal=bool(os.environ.get("SCALE_JOURNAL")),
    ).expand(op_kwargs=plan())


scale()
