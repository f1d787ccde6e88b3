"""The DAGs of the scenario ``runs``: one starts a run of the other for each message, again and again."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG
    from airflow.models.param import Param
try:
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:  # Airflow 2
    from airflow.operators.empty import EmptyOperator

from airflow_provider_cfqueues.operators.queues import QueueTriggerDagRunsOperator
from e2e.runs import LEASE_SECONDS, MAX_ACTIVE

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def n_of(message):
    """Return the conf of a run."""
    return {"n": message.body["n"]}


with DAG(
    "counted",
    start_date=START,
    schedule=None,
    max_active_runs=1000,  # so that what limits the runs is not Airflow
    params={"n": Param(0, type="integer")},
) as counted:
    EmptyOperator(task_id="nothing")  # the scheduler runs it itself

with DAG("starts", start_date=START, schedule="@continuous", max_active_runs=1, catchup=False) as starts:
    QueueTriggerDagRunsOperator(
        task_id="start",
        queue_name="counted",
        trigger_dag_id="counted",
        conf=n_of,
        max_active=MAX_ACTIVE,
        visibility_timeout=LEASE_SECONDS,
        delay_seconds=1,
        idle_timeout=2,
        max_duration=8,  # the executor of Airflow 2 on SQLite keeps the scheduler from everything else meanwhile
        fail_on="none",
        retries=100,
        retry_delay=timedelta(seconds=0),
    )
