"""A task with a journal; its first try kills itself with -9 at its last message."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_cfqueues.operators.queues import QueueProcessOperator

HOME = Path(os.environ["AIRFLOW_HOME"])


def stored():
    """Return the journal, from Airflow's database."""
    with closing(sqlite3.connect(HOME / "airflow.db")) as db:
        return db.execute("SELECT value FROM task_state_store WHERE task_id = 'process'").fetchone()


def handle(message):
    if message.attempts == 1 and message.body == "written too late":
        while stored() is None:  # it is written at the most once a second: what comes now waits for the next time
            time.sleep(0.01)
    if message.attempts == 1 and message.body == "unhandled":
        os.kill(os.getpid(), signal.SIGKILL)
    with (HOME / "handled").open("a") as record:
        record.write(f"{message.body}\n")


with DAG("journal", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), schedule=None) as dag:
    QueueProcessOperator(
        task_id="process",
        queue_name="orders",
        handler=handle,
        journal=True,
        settle_interval=600,
        idle_timeout=0,
        visibility_timeout=600,
        expected_seconds_per_message=1,  # so that all messages are pulled at once
        retries=1,
        retry_delay=0,
    )
