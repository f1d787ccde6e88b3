"""The trigger of ``QueuePurgeOperator``: it waits until a purge is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import PurgeStatus


def is_done(status: PurgeStatus, started_before: str | None) -> bool:
    """
    Return whether this purge is done, not one before it.

    :param status: what the API says of the last purge.
    :param started_before: when the one before it began, as the API wrote it.
    """
    return status.completed and (status.started_at is None or status.started_at != started_before)


class QueuePurgeTrigger(BaseTrigger):
    """
    Asks for the status of a purge, and ends with what ``QueuePurgeOperator`` returns, or with ``{"error": …}``.

    An error is data here, so that the task can raise it as what it is.

    :param queue_id: ID of the queue.
    :param backlog_count: how many messages waited before, for the event.
    :param cloudflare_conn_id: the Airflow connection.
    :param started_before: when the purge before this one began, as the API wrote it.
    :param poll_interval: seconds between two looks.
    :param end: when to give up, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        queue_id: str,
        backlog_count: int,
        cloudflare_conn_id: str,
        started_before: str | None,
        poll_interval: float,
        end: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.queue_id = queue_id
        self.backlog_count = backlog_count
        self.cloudflare_conn_id = cloudflare_conn_id
        self.started_before = started_before
        self.poll_interval = poll_interval
        self.end = end

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        names = ("queue_id", "backlog_count", "cloudflare_conn_id", "started_before", "poll_interval", "end")
        return f"{__name__}.QueuePurgeTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        hook = CloudflareQueuesHook(self.cloudflare_conn_id)
        try:
            event = await self._wait(hook)
        except CloudflareQueuesError as error:
            event = {"error": error.to_dict()}
        finally:
            await hook.aclose()
        yield TriggerEvent(event)

    async def _wait(self, hook: CloudflareQueuesHook) -> dict[str, Any]:
        while True:
            status = await hook.aget_purge_status(self.queue_id)
            completed = is_done(status, self.started_before)
            if completed or time.time() >= self.end:
                return {
                    "queue_id": self.queue_id,
                    "backlog_count": self.backlog_count,
                    "started_at": status.started_at,
                    "completed": completed,
                }
            await asyncio.sleep(self.poll_interval)
