"""The watched queue, over one client per connection."""

from __future__ import annotations

import asyncio

from airflow_provider_cfqueues.engines.queue import HookQueue, find_dead_letter_queue
from airflow_provider_cfqueues.engines.settlement import Situation
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook


class _SharedHook:
    """A hook, and so an HTTP client, for all streams of an event loop that use the same connection."""

    def __init__(self, conn_id: str) -> None:
        self.hook = CloudflareQueuesHook(conn_id)
        self._users = 0

    @classmethod
    def take(cls, conn_id: str) -> _SharedHook:
        shared = _HOOKS.setdefault((conn_id, asyncio.get_running_loop()), cls(conn_id))
        shared._users += 1
        return shared

    async def give_back(self, *, renew: bool) -> None:
        """Close the client if no stream uses it any more. ``renew``: the next user gets another hook."""
        self._users -= 1
        key = (self.hook.cloudflare_conn_id, asyncio.get_running_loop())
        if (renew or not self._users) and _HOOKS.get(key) is self:
            del _HOOKS[key]
        if not self._users:
            await self.hook.aclose()


_HOOKS: dict[tuple[str, asyncio.AbstractEventLoop], _SharedHook] = {}


class HookSource:
    """
    A queue behind an Airflow connection.

    :param options: which queue, and how it is watched.
    """

    def __init__(self, options: WatchOptions) -> None:
        self._options = options
        self._shared: _SharedHook | None = None
        self._warned_of: set[str] = set()

    async def open(self) -> HookQueue:
        """
        Read the connection and look the queue up. Each call does so again: what is wrong may be fixed by now.

        :raises CloudflareQueuesError: the connection or the queue cannot be used.
        """
        options = self._options
        await self.aclose(renew=True)
        self._shared = _SharedHook.take(options.cloudflare_conn_id)
        hook = self._shared.hook
        queue_id = options.queue_id or await hook.aget_queue_id(str(options.queue_name))
        hook.warned_of |= self._warned_of  # what an earlier try has said is not said again
        consumer = await hook.aget_pull_consumer(queue_id)
        self._warned_of.add(queue_id)
        found = await hook.arun(find_dead_letter_queue(hook, queue_id, consumer, options.dead_letter_queue))
        situation = Situation(consumer=consumer, dead_letter_queue_id=found, unmatched=options.unmatched)
        return HookQueue(hook, queue_id, visibility_timeout=options.visibility_timeout, situation=situation)

    async def aclose(self, *, renew: bool = False) -> None:
        """
        Let go of the connection.

        :param renew: let its next user read it again.
        """
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.give_back(renew=renew)
