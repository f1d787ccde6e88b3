"""
Process one queue with several tasks, each on whatever worker is free.

Each message goes to one of the tasks that pull, so mapped tasks share the queue without
coordination. The backlog decides how many tasks there are. If a worker dies, Airflow
retries its task once the leases have ended: the retry finds what the dead worker left.
"""

from __future__ import annotations

from datetime import timedelta

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator

LEASE_SECONDS = 300
MESSAGES_PER_TASK = 1_000
MAX_TASKS = 8


def ship(message, *, share):
    print(f"Share {share}: shipped {message.body['quantity']} pieces")


@dag(schedule=None, catchup=False, max_active_runs=1, tags=["cloudflare", "example"])
def cloudflare_queues_scale_out():
    @task
    def plan():
        hook = CloudflareQueuesHook()
        backlog = hook.get_metrics(hook.get_queue_id("orders")).backlog_count
        return [
            {"share": share}
            for share in range(min(MAX_TASKS, 1 + backlog // MESSAGES_PER_TASK))
        ]

    QueueProcessOperator.partial(
        task_id="ship",
        queue_name="orders",
        handler=ship,
        concurrency=8,
        idle_timeout=1,
        visibility_timeout=LEASE_SECONDS,
        retries=3,
        retry_delay=timedelta(seconds=LEASE_SECONDS),
    ).expand(op_kwargs=plan())


cloudflare_queues_scale_out()
