"""Ack what is done and give the rest back, in one task and one request."""

from __future__ import annotations

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_cfqueues.operators.queues import (
    QueuePullOperator,
    QueueSettleOperator,
)


@dag(schedule=None, catchup=False, tags=["cloudflare", "example"])
def cloudflare_queues_settle():
    pull = QueuePullOperator(
        task_id="pull", queue_name="orders", max_messages=100, visibility_timeout=600
    )

    @task
    def ship(messages: list[dict]) -> dict[str, list[str]]:
        done = [
            message["lease_id"]
            for message in messages
            if message["body"]["quantity"] > 0
        ]
        again = [
            message["lease_id"]
            for message in messages
            if message["body"]["quantity"] == 0
        ]
        return {"done": done, "again": again}

    shipped = ship(pull.output)
    QueueSettleOperator(
        task_id="settle",
        queue_name="orders",
        ack_lease_ids=shipped["done"],
        retry_lease_ids=shipped["again"],
        delay_seconds=300,
        fail_on="any",  # one lease that is not confirmed fails the task
    )


cloudflare_queues_settle()
