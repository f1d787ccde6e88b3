"""The trigger of ``QueuePurgeOperator``: it waits until a purge is done."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from airflow_provider_cfqueues.client.purging import Purge
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.triggers.sensing import SensingTrigger


class QueuePurgeTrigger(SensingTrigger):
    """Waits for a purge as ``hook.finish_purge`` does, and ends with ``{"purge": …, "status": …}`` or an error."""

    probe_class = Purge

    async def _poke_until_found(self, hook: CloudflareQueuesHook) -> dict[str, Any]:
        status = await hook.afinish_purge(self.probe, poll_interval=self.poke_interval, end=self.end)
        return {"purge": asdict(self.probe), "status": asdict(status)}
