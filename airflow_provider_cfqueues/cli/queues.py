"""List the queues with their backlog."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from airflow_provider_cfqueues.cli.formats import age, number, plain
from airflow_provider_cfqueues.cli.running import command, find_queue, pick
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.exceptions import NotFoundError, PermissionDeniedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Queue

REQUESTS_AT_ONCE = 8


@command
def queues(arguments: Namespace, hook: CloudflareQueuesHook, screen: Screen) -> None:
    """List the queues with their backlog."""
    found = hook.list_queues()
    named = {queue.queue_id if (queue := pick(found, given)) else find_queue(hook, given) for given in arguments.queue}
    wanted = [queue for queue in found if not arguments.queue or queue.queue_id in named]
    with screen.progress("Reading metrics", len(wanted)) as advance:
        rows = asyncio.run(_backlogs(hook, wanted, advance))
    columns = {"queue": plain, "backlog": number, "bytes": number, "oldest": age, "consumers": plain, "state": plain}
    screen.table(rows, {**columns, "id": plain}, empty="The account has no queues")


async def _backlogs(
    hook: CloudflareQueuesHook, wanted: list[Queue], advance: Callable[[int], None]
) -> list[dict[str, Any]]:
    limit = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def row(queue: Queue) -> dict[str, Any]:
        async with limit:
            try:
                metrics = await hook.aget_metrics(queue.queue_id)
            except (PermissionDeniedError, NotFoundError):  # deleted since it was listed
                metrics = None
        advance(1)
        oldest = metrics and metrics.oldest_message_timestamp
        return {
            "queue": queue.queue_name,
            "backlog": metrics and metrics.backlog_count,
            "bytes": metrics and metrics.backlog_bytes,
            "oldest": oldest.isoformat() if oldest else None,
            "consumers": queue.consumers_total_count,
            "state": "paused" if queue.settings.get("delivery_paused") else "active",
            "id": queue.queue_id,
        }

    try:
        return await asyncio.gather(*map(row, wanted))
    finally:
        await hook.aclose()
