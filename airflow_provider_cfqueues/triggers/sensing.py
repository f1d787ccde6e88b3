"""The triggers of deferrable sensors: they poke until something is found, then end with one event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_cfqueues.engines import probing
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

SECONDS_TO_GIVE_BACK = 10
"""How long a cancelled trigger waits for a pull that is under way, so that its leases can be given back."""


class SensingTrigger(BaseTrigger):
    """
    Asks a probe at intervals, and ends with ``{"found": …}``, ``{"error": …}`` or ``{"timed_out": True}``.

    An error travels in the event as data, and the task raises it unchanged. ``traffic`` is for the task's lineage.

    Leases are held from the pull until the event is stored. If the triggerer dies in between, they end by themselves.
    If it is stopped, or the task is cleared, the messages are given back.

    :param cloudflare_conn_id: the Airflow connection.
    :param poke_interval: seconds between two pokes.
    :param max_poke_interval: the interval doubles after each poke up to so many seconds.
    :param end: when to give up, in seconds since the epoch.
    :param silent_fail: whether a failed poke is logged only.
    :param queue_name: the queue's name, if it was given by name; for texts.
    :param probe: the arguments of the probe, or of what else is waited for.
    """

    probe_class: ClassVar[type[Any]]

    def __init__(
        self,
        *,
        cloudflare_conn_id: str,
        poke_interval: float,
        max_poke_interval: float,
        end: float,
        silent_fail: bool = False,
        queue_name: str | None = None,
        **probe: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cloudflare_conn_id = cloudflare_conn_id
        self.poke_interval = poke_interval
        self.max_poke_interval = max_poke_interval
        self.end = end
        self.silent_fail = silent_fail
        self.queue_name = queue_name
        self.probe = self.probe_class(**probe)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        own = ("cloudflare_conn_id", "poke_interval", "max_poke_interval", "end", "silent_fail", "queue_name")
        arguments = {name: getattr(self, name) for name in own}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments | asdict(self.probe)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event. Nothing is awaited between the pull and it: a stop there would leave messages leased."""
        hook = CloudflareQueuesHook(self.cloudflare_conn_id)
        hook.note_name(self.probe.queue_id, self.queue_name)
        try:
            try:
                event = await self._poke_until_found(hook)
            except CloudflareQueuesError as error:
                event = {"error": error.to_dict()}
            yield TriggerEvent({**event, "traffic": hook.traffic.to_list()})
        finally:
            await hook.aclose()

    async def _poke_until_found(self, hook: CloudflareQueuesHook) -> dict[str, Any]:
        interval = self.poke_interval
        while True:
            await asyncio.sleep(max(0, min(interval, self.end - time.time())))
            try:
                found = await self._ask(hook)
            except CloudflareQueuesError as error:
                if not self.silent_fail:
                    raise
                self.log.error("Sensor poke failed: %s", error)  # noqa: TRY400 - the text says what is needed
            else:
                if found is not None:
                    return {"found": self.probe.to_xcom(found)}
            if time.time() >= self.end:
                return {"timed_out": True}
            interval = min(2 * interval, self.max_poke_interval)

    async def _ask(self, hook: CloudflareQueuesHook) -> Any:
        asking = asyncio.ensure_future(hook.arun(self.probe.ask(hook)))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            with suppress(CloudflareQueuesError, TimeoutError, asyncio.TimeoutError):
                found = await asyncio.wait_for(asking, SECONDS_TO_GIVE_BACK)
                if found is not None:
                    await hook.arun(self.probe.give_back(hook, found))
            raise


class QueueMessagesTrigger(SensingTrigger):
    """Waits for messages, for :class:`~airflow_provider_cfqueues.sensors.queues.QueueMessageSensor`."""

    probe_class = probing.MessageProbe


class QueueBacklogTrigger(SensingTrigger):
    """Waits for a backlog, for :class:`~airflow_provider_cfqueues.sensors.queues.QueueBacklogSensor`."""

    probe_class = probing.BacklogProbe


TRIGGERS: dict[type[probing.Probe], type[SensingTrigger]] = {
    trigger.probe_class: trigger for trigger in (QueueMessagesTrigger, QueueBacklogTrigger)
}
