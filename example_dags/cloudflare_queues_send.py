"""Send what a task made: texts and JSON, at once or later."""

from __future__ import annotations

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_cfqueues.operators.queues import QueueSendOperator


@dag(schedule=None, catchup=False, tags=["cloudflare", "example"])
def cloudflare_queues_send():
    @task
    def make_reminders() -> list[dict]:
        return [
            {"body": {"customer": 7, "text": "Your order is on its way"}},
            {"body": {"customer": 7, "text": "How was it?"}, "delay_seconds": 3600},
        ]

    QueueSendOperator(task_id="send", queue_name="reminders", messages=make_reminders())


cloudflare_queues_send()
