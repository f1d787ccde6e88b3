"""The calls about queues, consumers and tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from airflow_provider_cfqueues.api import parts
from airflow_provider_cfqueues.models import Consumer, Queue
from airflow_provider_cfqueues.protocol import Call, Envelope


def list_consumers(queue_id: str) -> Call[list[Consumer]]:
    """
    Read the consumers of a queue (``queues-list-consumers``).

    :param queue_id: ID of the queue.
    """
    return Call(
        name="read the consumers",
        method="GET",
        path=parts.queue_path(queue_id, "/consumers"),
        queue=queue_id,
        read=lambda envelope: [parts.read_consumer(item) for item in envelope.result or ()],
    )


def list_queues(page: int, name: str | None = None) -> Call[tuple[list[Queue], bool]]:
    """
    Read one page of the account's queues (``queues-list``), and whether there is a further one.

    The schema declares no query; Cloudflare's own wrangler sends ``page`` and ``name``, and so do we.

    :param page: 1 for the first.
    :param name: only the queue of this name, where the API heeds it.
    """

    def read(envelope: Envelope) -> tuple[list[Queue], bool]:
        queues = [parts.read_queue(item) for item in envelope.result or ()]
        return queues, bool(queues) and page < _pages(envelope.result_info)

    return Call(
        name="list the queues",
        method="GET",
        path="/accounts/{account_id}/queues",
        params=parts.without_none(page=page, name=name),
        read=read,
    )


def _pages(result_info: Mapping[str, Any]) -> int:
    total, size = parts.read_count(result_info.get("total_count")), parts.read_count(result_info.get("per_page"))
    return parts.read_count(result_info.get("total_pages")) or (math.ceil(total / size) if total and size else 1)


def verify_token(*, account_owned: bool) -> Call[str]:
    """
    Read the status of the API token: ``active``, ``disabled`` or ``expired``.

    :param account_owned: the token belongs to the account (prefix ``cfat_``), not to a user; each kind has an
        endpoint of its own and gets 401 on the other.
    """
    return Call(
        name="verify the API token",
        method="GET",
        path=("/accounts/{account_id}" if account_owned else "/user") + "/tokens/verify",
        read=lambda envelope: str(envelope.result["status"]),
    )
