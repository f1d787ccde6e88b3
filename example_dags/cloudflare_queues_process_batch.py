"""Process a queue in batches: one write for up to 50 messages, an outcome for each."""

from __future__ import annotations

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag

from airflow_provider_cfqueues.delays import ExponentialDelay
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
from airflow_provider_cfqueues.outcomes import Ack, Reject, Retry


def store(messages, table):
    """Return one outcome per message, in order. None acks all."""
    outcomes, rows = [], []
    for message in messages:
        if "customer" not in message.body:
            outcomes.append(Reject("no customer"))
        elif message.body.get("pending"):
            outcomes.append(Retry(delay_seconds=600))
        else:
            outcomes.append(Ack())
            rows.append(message.body)
    print(f"{len(rows)} rows into {table}")
    return outcomes


@dag(schedule=None, catchup=False, tags=["cloudflare", "example"])
def cloudflare_queues_process_batch():
    QueueProcessOperator(
        task_id="store",
        queue_name="orders",
        handler=store,
        op_kwargs={"table": "orders"},
        batch=True,
        batch_size=50,
        idle_timeout=1,
        expected_seconds_per_message=0.1,
        delay_seconds=ExponentialDelay(
            initial_seconds=30, max_seconds=3600, jitter=0.2
        ),
        max_attempts=2,  # below the consumer's max_retries, 3 unless changed
        dead_letter_queue="orders-failed",
        fail_on=0.1,  # more than a tenth failed
    )


cloudflare_queues_process_batch()
