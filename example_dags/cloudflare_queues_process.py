"""
Process a queue inside one task: the outcome of the function decides about the message.

If it returns, the message is acked. If it raises, the message is delivered again, after
a delay. A rejected message goes to the dead-letter queue. Eight are handled at once.
"""

from __future__ import annotations

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_cfqueues.outcomes import Reject


@dag(schedule=None, catchup=False, tags=["cloudflare", "example"])
def cloudflare_queues_process():
    @task.cloudflare_queue(
        queue_name="orders",
        max_messages=10_000,
        concurrency=8,
        dead_letter_queue="orders-failed",
    )
    def ship(message, *, ds=None):
        order = message.body
        if "quantity" not in order:
            raise Reject("an order without a quantity")
        if order["quantity"] == 0:
            raise RuntimeError("out of stock")  # again later
        print(f"{ds}: shipped {order['quantity']} pieces")

    ship()


cloudflare_queues_process()
