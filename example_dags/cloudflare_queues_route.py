"""
One queue becomes two: send each message to the queue of its kind.

A message of another kind goes to the dead-letter queue. If the task dies after a send
and before the ack, it sends these messages again, and they get new IDs.
"""

from __future__ import annotations

from datetime import datetime, timezone

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.outcomes import Ack, Reject

QUEUES = {"refund": "refunds", "signup": "signups"}


def kind_of(body):
    match body:
        case {"type": str(kind)}:
            return kind
    return None


@dag(
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["cloudflare", "example"],
)
def cloudflare_queues_route():
    @task.cloudflare_queue(
        queue_name="shop", batch=True, batch_size=100, dead_letter_queue="shop-failed"
    )
    def route(messages):
        hook = CloudflareQueuesHook()
        bodies = [message.body for message in messages]
        for kind, queue_name in QUEUES.items():
            if of_kind := [body for body in bodies if kind_of(body) == kind]:
                hook.send(hook.get_queue_id(queue_name), of_kind)
        return [
            Ack() if kind_of(body) in QUEUES else Reject("unknown type")
            for body in bodies
        ]

    route()


cloudflare_queues_route()
