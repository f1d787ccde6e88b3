"""
What takes more than one request, as generators: they yield calls, are sent results, and return the outcome.

A client drives them (``client.run(flow)``), sync or async, so each decision stands here once. The error of a call is
thrown into the flow that yielded it.
"""

from __future__ import annotations

from airflow_provider_cfqueues.flows.administration import (
    create_pull_consumer,
    create_queue,
    delete_queue,
    ensure_pull_consumer,
    update_pull_consumer,
)
from airflow_provider_cfqueues.flows.base import DEFAULT_VISIBILITY_SECONDS, Flow, Known, once, patiently
from airflow_provider_cfqueues.flows.lookup import (
    get_pull_consumer,
    get_queue,
    get_queue_id,
    list_queues,
    test_connection,
)
from airflow_provider_cfqueues.flows.messages import ack, batches, fits, pull, send

__all__ = [
    "DEFAULT_VISIBILITY_SECONDS",
    "Flow",
    "Known",
    "ack",
    "batches",
    "create_pull_consumer",
    "create_queue",
    "delete_queue",
    "ensure_pull_consumer",
    "fits",
    "get_pull_consumer",
    "get_queue",
    "get_queue_id",
    "list_queues",
    "once",
    "patiently",
    "pull",
    "send",
    "test_connection",
    "update_pull_consumer",
]
