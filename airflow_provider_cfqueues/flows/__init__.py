"""
What takes more than one request, as generators: they yield calls and pauses, are sent results, and return the outcome.

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
from airflow_provider_cfqueues.flows.base import (
    API_VISIBILITY_SECONDS,
    Flow,
    Known,
    Pause,
    once,
    patiently,
)
from airflow_provider_cfqueues.flows.lookup import (
    get_pull_consumer,
    get_queue,
    get_queue_id,
    list_queues,
    test_connection,
)
from airflow_provider_cfqueues.flows.messages import ack, batches, fits, pull, send
from airflow_provider_cfqueues.flows.purging import Purge, finish_purge, prepare_purge

__all__ = [
    "API_VISIBILITY_SECONDS",
    "Flow",
    "Known",
    "Pause",
    "Purge",
    "ack",
    "batches",
    "create_pull_consumer",
    "create_queue",
    "delete_queue",
    "ensure_pull_consumer",
    "finish_purge",
    "fits",
    "get_pull_consumer",
    "get_queue",
    "get_queue_id",
    "list_queues",
    "once",
    "patiently",
    "prepare_purge",
    "pull",
    "send",
    "test_connection",
    "update_pull_consumer",
]
