"""The trigger of ``QueuePurgeOperator``: it waits until a purge is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_cfqueues.client.purging import Purge
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook


class QueuePurgeTrigger(BaseTrigger):
    """
    Waits for a purge as ``hook.finish_purge`` does, and ends with ``{"purge": …, "status": …}`` or ``{"error": …}``.

    An error travels in the event as data, and the task raises it unchanged.

    :param cloudflare_conn_id: the Airflow connection.
    :param poll_interval: seconds between two looks.
    :param end: when to give up, in seconds since the epoch.
    :param queue_name: the queue's name, if it was given by name; for texts.
    :param purge: the arguments of :class:`~airflow_provider_cfqueues.client.purging.Purge`.
    """

    def __init__(
        self,
        *,
        cloudflare_conn_id: str,
        poll_interval: float,
        end: float,
        queue_name: str | None = None,
        **purge: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cloudflare_conn_id = cloudflare_conn_id
        self.poll_interval = poll_interval
        self.end = end
        self.queue_name = queue_name
        self.purge = Purge(**purge)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        own = {name: getattr(self, name) for name in ("cloudflare_conn_id", "poll_interval", "end", "queue_name")}
        return f"{__name__}.QueuePurgeTrigger", own | asdict(self.purge)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        hook = CloudflareQueuesHook(self.cloudflare_conn_id)
        hook.note_name(self.purge.queue_id, self.queue_name)
        try:
            status = await hook.afinish_purge(self.purge, poll_interval=self.poll_interval, end=self.end)
            event = {"purge": asdict(self.purge), "status": asdict(status)}
        except CloudflareQueuesError as error:
            event = {"error": error.to_dict()}
        finally:
            await hook.aclose()
        yield TriggerEvent(event)
