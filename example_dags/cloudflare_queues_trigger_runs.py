"""
One DAG run per message: every five minutes, start a run for each order that waits.

At most 20 runs are active at once; further orders stay in the queue. An order that is
delivered twice starts one run.
"""

from __future__ import annotations

from datetime import datetime, timezone

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_cfqueues.operators.queues import QueueTriggerDagRunsOperator

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dag(
    schedule="*/5 * * * *",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    tags=["cloudflare", "example"],
)
def cloudflare_queues_trigger_runs():
    QueueTriggerDagRunsOperator(
        task_id="start_runs",
        queue_name="orders",
        trigger_dag_id="cloudflare_queues_ship_order",
        max_active=20,
        dead_letter_queue="orders-failed",
    )


@dag(
    schedule=None, start_date=START, max_active_runs=20, tags=["cloudflare", "example"]
)
def cloudflare_queues_ship_order():
    @task
    def ship(*, dag_run=None):
        order = dag_run.conf["body"]
        print(f"Message {dag_run.conf['id']}: shipped {order['quantity']} pieces")

    ship()


cloudflare_queues_trigger_runs()
cloudflare_queues_ship_order()
