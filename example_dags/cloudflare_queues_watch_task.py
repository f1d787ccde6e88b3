"""
Start a run when messages arrive. It acks them; if it fails, they are delivered again.

Needs Airflow 3.0. The lease of each message travels in its event. If the run fails, the
lease ends, and the message is delivered again, to a new run.
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_provider_cfqueues.events import event_leases, event_messages
from airflow_provider_cfqueues.operators.queues import QueueAckOperator
from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger

refunds = Asset(
    "refunds",
    watchers=[
        AssetWatcher(
            name="refunds",
            trigger=QueueMessageTrigger(
                queue_name="refunds",
                settle="task",
                visibility_timeout=900,
                dag_ids=["cloudflare_queues_watch_task"],
            ),
        )
    ],
)


@dag(schedule=[refunds], catchup=False, tags=["cloudflare", "example"])
def cloudflare_queues_watch_task():
    @task
    def pay(messages):
        for message in messages:
            print(f"message {message['id']}: paid {message['body']['amount']} back")

    pay(event_messages()) >> QueueAckOperator(
        task_id="ack", queue_name="refunds", lease_ids=event_leases()
    )


cloudflare_queues_watch_task()
