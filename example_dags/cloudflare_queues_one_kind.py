"""
Several kinds of messages in one queue: start a run for each refund, and leave signups.

A signup is given back for a minute, which uses up one of its deliveries. A message
of another kind goes to the dead-letter queue.
"""

from __future__ import annotations

from datetime import datetime, timezone

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_cfqueues.operators.queues import QueueTriggerDagRunsOperator
from airflow_provider_cfqueues.outcomes import Reject, Retry


def conf_of_refund(message):
    match message.body:
        case {"type": "refund"}:
            return message.body
        case {"type": "signup"}:  # another reader wants it; not logged
            raise Retry(60, reason=None)
        case _:
            raise Reject("unknown type")


START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dag(
    schedule="*/5 * * * *",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    tags=["cloudflare", "example"],
)
def cloudflare_queues_one_kind():
    QueueTriggerDagRunsOperator(
        task_id="start_refunds",
        queue_name="shop",
        trigger_dag_id="cloudflare_queues_refund",
        conf=conf_of_refund,
        dead_letter_queue="shop-failed",
    )


@dag(schedule=None, start_date=START, tags=["cloudflare", "example"])
def cloudflare_queues_refund():
    @task
    def pay_back(*, dag_run=None):
        print(f"Order {dag_run.conf['order']}: paid back")

    pay_back()


cloudflare_queues_one_kind()
cloudflare_queues_refund()
