"""
Share one queue between assets: each watcher takes what it wants; they share one poll.

Needs Airflow 3.3, and ``pip install 'airflow-provider-cfqueues[jsonpath]'``. A message
that no watcher wants goes to the dead-letter queue.
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_provider_cfqueues.events import event_messages
from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger


def asset_of(event_type):
    trigger = QueueMessageTrigger(
        queue_name="shop",
        match=f'jsonpath:$.type == "{event_type}"',
        unmatched="dead_letter",
        dead_letter_queue="shop-failed",
        dag_ids=[f"cloudflare_queues_watch_{event_type}"],
    )
    return Asset(event_type, watchers=[AssetWatcher(name=event_type, trigger=trigger)])


def dag_of(event_type):
    @dag(
        dag_id=f"cloudflare_queues_watch_{event_type}",
        schedule=[asset_of(event_type)],
        catchup=False,
    )
    def handle_events():
        @task
        def handle(messages):
            print(f"{len(messages)} events of type {event_type}")

        handle(event_messages())

    return handle_events()


dag_of("signup")
dag_of("purchase")
