"""
Pull orders, ship what can be shipped, and give the others back with a growing delay.

Each message stays leased for ten minutes, long enough for the tasks downstream. If a
task or a whole worker dies, the messages that it had not settled are delivered again.
"""

from __future__ import annotations

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_cfqueues.delays import ExponentialDelay
from airflow_provider_cfqueues.operators.queues import (
    QueueAckOperator,
    QueuePullOperator,
    QueueRetryOperator,
)


@dag(schedule=None, catchup=False, tags=["cloudflare", "example"])
def cloudflare_queues_ack_retry():
    pull = QueuePullOperator(
        task_id="pull", queue_name="orders", max_messages=100, visibility_timeout=600
    )

    @task
    def process(messages: list[dict]) -> dict[str, list[dict]]:
        shipped, failed = [], []
        for message in messages:
            order = message["body"]
            can_ship = isinstance(order, dict) and order.get("quantity", 0) > 0
            (shipped if can_ship else failed).append(message)
        return {"shipped": shipped, "failed": failed}

    @task
    def report(acked: int, retried: int) -> None:
        print(f"The API counted {acked} acks and {retried} retries")

    processed = process(pull.output)
    ack = QueueAckOperator(
        task_id="ack", queue_name="orders", lease_ids=processed["shipped"]
    )
    retry = QueueRetryOperator(
        task_id="retry",
        queue_name="orders",
        lease_ids=processed["failed"],
        delay_seconds=ExponentialDelay(initial_seconds=60, max_seconds=3600),
    )
    report(ack.output["ack_count"], retry.output["retry_count"])


cloudflare_queues_ack_retry()
