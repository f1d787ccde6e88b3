"""
Wait for orders, then ship them: a sensor leases them, tasks ship them and ack them.

While it waits, the sensor is in the triggerer and takes no worker slot. It leases
nothing until an order is there, and gives back the others that it then leases with it.
"""

from __future__ import annotations

from datetime import timedelta

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_cfqueues.operators.queues import QueueAckOperator
from airflow_provider_cfqueues.sensors.queues import QueueMessageSensor


@dag(schedule=None, catchup=False, tags=["cloudflare", "example"])
def cloudflare_queues_sensor():
    orders = QueueMessageSensor(
        task_id="wait_for_orders",
        queue_name="orders",
        match='jsonpath:$.type == "order"',
        dead_letter_queue="orders-failed",  # gets messages that no reader wants
        max_messages=20,
        visibility_timeout=600,  # until the last of them is acked
        poke_interval=30,
        timeout=timedelta(hours=6),
        deferrable=True,
    )

    @task
    def ship(messages):
        for message in messages:
            print(f"shipping {message['body']['quantity']} pieces")
        return messages

    QueueAckOperator(task_id="ack", queue_name="orders", lease_ids=ship(orders.output))


cloudflare_queues_sensor()
