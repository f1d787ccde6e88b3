"""
The calls of the Queues API, each a function from its arguments to a :class:`~.protocol.Call`.

Paths and shapes are those of Cloudflare's OpenAPI schema (``queues-*``), read with the
tolerance that real answers need.
"""

from __future__ import annotations

from airflow_provider_cfqueues.api.administration import (
    create_consumer,
    create_queue,
    delete_queue,
    get_purge_status,
    get_queue,
    list_consumers,
    list_queues,
    purge,
    replace_consumer,
    update_queue,
    verify_token,
)
from airflow_provider_cfqueues.api.messages import (
    MAX_BYTES_PER_MESSAGE,
    MAX_BYTES_PER_SEND,
    MAX_LEASES_PER_ACK,
    MAX_MESSAGES_PER_PULL,
    MAX_MESSAGES_PER_SEND,
    MESSAGE_OVERHEAD_BYTES,
    ack,
    get_metrics,
    outgoing_payload,
    peek,
    pull,
    send,
)

__all__ = [
    "MAX_BYTES_PER_MESSAGE",
    "MAX_BYTES_PER_SEND",
    "MAX_LEASES_PER_ACK",
    "MAX_MESSAGES_PER_PULL",
    "MAX_MESSAGES_PER_SEND",
    "MESSAGE_OVERHEAD_BYTES",
    "ack",
    "create_consumer",
    "create_queue",
    "delete_queue",
    "get_metrics",
    "get_purge_status",
    "get_queue",
    "list_consumers",
    "list_queues",
    "outgoing_payload",
    "peek",
    "pull",
    "purge",
    "replace_consumer",
    "send",
    "update_queue",
    "verify_token",
]
