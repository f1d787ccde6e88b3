"""
Operate queues: create one, move back what failed, empty another one, report failures.

The first two tasks can stand before any DAG: they change nothing if queue and consumer
are as wanted. The consumer of the dead-letter queue has a high ``max_retries``, because
each pull of a message that stays there counts as a delivery.
"""

from __future__ import annotations

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag

from airflow_provider_cfqueues.notifications.queues import CloudflareQueuesNotifier
from airflow_provider_cfqueues.operators.queues import (
    QueueCreateOperator,
    QueueDeleteOperator,
    QueueEnsurePullConsumerOperator,
    QueuePauseOperator,
    QueuePurgeOperator,
    QueueRedriveOperator,
    QueueResumeOperator,
)

tell = CloudflareQueuesNotifier(
    queue_name="alerts",
    message_body={
        "dag": "{{ dag.dag_id }}",
        "task": "{{ ti.task_id }}",
        "state": "failed",
    },
)


@dag(
    schedule=None,
    catchup=False,
    tags=["cloudflare", "example"],
    default_args={"on_failure_callback": tell},
)
def cloudflare_queues_operations():
    create = QueueCreateOperator(
        task_id="create", queue_name="orders", if_exists="ignore"
    )
    ensure = QueueEnsurePullConsumerOperator(
        task_id="ensure",
        queue_name="orders",
        visibility_timeout=600,
        dead_letter_queue="orders-failed",
    )
    ensure_failed = QueueEnsurePullConsumerOperator(
        task_id="ensure_failed", queue_name="orders-failed", consumer_max_retries=100
    )
    redrive = QueueRedriveOperator(
        task_id="redrive",
        queue_name="orders-failed",
        target_queue_name="orders",
        messages_per_second=50,
    )
    create >> ensure >> ensure_failed >> redrive

    create_trial = QueueCreateOperator(
        task_id="create_trial", queue_name="orders-trial", if_exists="ignore"
    )
    pause = QueuePauseOperator(task_id="pause", queue_name="orders-trial")
    purge = QueuePurgeOperator(task_id="purge", queue_name="orders-trial")
    resume = QueueResumeOperator(
        task_id="resume", queue_name="orders-trial", trigger_rule="all_done"
    )
    delete = QueueDeleteOperator(
        task_id="delete", queue_name="orders-trial", if_missing="ignore"
    )
    create_trial >> pause >> purge >> resume
    [purge, resume] >> delete


cloudflare_queues_operations()
