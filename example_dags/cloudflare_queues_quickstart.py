"""Send two messages, pull them and ack them: the smallest DAG with all three steps."""

from __future__ import annotations

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag

from airflow_provider_cfqueues.operators.queues import (
    QueueAckOperator,
    QueuePullOperator,
    QueueSendOperator,
)


@dag(schedule=None, catchup=False, tags=["cloudflare", "example"])
def cloudflare_queues_quickstart():
    send = QueueSendOperator(
        task_id="send", queue_name="orders", messages=[{"order": 1}, {"order": 2}]
    )
    pull = QueuePullOperator(
        task_id="pull", queue_name="orders", max_messages=10, visibility_timeout=600
    )
    ack = QueueAckOperator(task_id="ack", queue_name="orders", lease_ids=pull.output)
    send >> pull >> ack


cloudflare_queues_quickstart()
