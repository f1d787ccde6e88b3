"""
Start a run when messages arrive: a message is acked after Airflow has stored its event.

Needs Airflow 3.3. Messages that arrive while a run is created go into the next run.
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_provider_cfqueues.events import event_messages
from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger

orders = Asset(
    "orders",
    watchers=[
        AssetWatcher(
            name="orders",
            trigger=QueueMessageTrigger(
                queue_name="orders",
                settle="event",
                dag_ids=["cloudflare_queues_watch_event"],
            ),
        )
    ],
)


@dag(schedule=[orders], catchup=False, tags=["cloudflare", "example"])
def cloudflare_queues_watch_event():
    @task
    def ship(messages):
        for message in messages:
            print(
                f"message {message['id']}: shipped {message['body']['quantity']} pieces"
            )

    ship(event_messages())


cloudflare_queues_watch_event()
