"""The watched queue, over one client per connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Situation
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Consumer


@dataclass(frozen=True, kw_only=True)
class OpenQueue:
    """
    A queue that can be pulled from.

    :param queue_id: its ID.
    :param calls: its calls.
    :param consumer: its pull consumer, where that could be looked at.
    """

    queue_id: str
    calls: HookQueue
    consumer: Consumer | None

    def situation(self, unmatched: str | None) -> Situation:
        """
        Return what the settlement of its messages depends on besides the message.

        :param unmatched: what becomes of messages that no watcher wants.
        """
        return Situation(consumer=self.consumer, can_dead_letter=self.calls.can_dead_letter, unmatched=unmatched)


class Source(Protocol):
    """What a stream asks of the outside world."""

    async def open(self) -> OpenQueue:
        """Read the connection and look the queue up. If this raises an error, a later try may work."""

    async def aclose(self) -> None:
        """Let go of the connection."""


@dataclass
class _SharedHook:
    hook: CloudflareQueuesHook
    users: int = 0


@dataclass
class _SharedHooks:
    """One hook, and so one HTTP client, per connection for all streams of an event loop."""

    by_connection: dict[tuple[str, asyncio.AbstractEventLoop], _SharedHook] = field(default_factory=dict)

    def take(self, conn_id: str) -> _SharedHook:
        key = (conn_id, asyncio.get_running_loop())
        shared = self.by_connection.setdefault(key, _SharedHook(CloudflareQueuesHook(conn_id)))
        shared.users += 1
        return shared

    async def give_back(self, shared: _SharedHook, *, renew: bool = False) -> None:
        """
        Close the client if no stream uses it any more.

        :param shared: what was taken.
        :param renew: let the next user of the connection read it again.
        """
        shared.users -= 1
        key = (shared.hook.cloudflare_conn_id, asyncio.get_running_loop())
        if (renew or not shared.users) and self.by_connection.get(key) is shared:
            del self.by_connection[key]
        if not shared.users:
            await shared.hook.aclose()


_HOOKS = _SharedHooks()


class HookSource:
    """
    A queue behind an Airflow connection.

    :param conn_id: the connection.
    :param queue_id: ID of the queue, or None.
    :param queue_name: its name, where the ID is to be looked up.
    :param options: how it is watched.
    """

    def __init__(self, conn_id: str, *, queue_id: str | None, queue_name: str | None, options: WatchOptions) -> None:
        self._conn_id = conn_id
        self._queue_id = queue_id
        self._queue_name = queue_name
        self._options = options
        self._shared: _SharedHook | None = None
        self._warned_of: set[str] = set()

    async def open(self) -> OpenQueue:
        """
        Read the connection and look the queue up. Each call reads it again: it may be fixed by now.

        :raises CloudflareQueuesError: the connection or the queue cannot be used.
        """
        await self._let_go(renew=True)
        self._shared = _HOOKS.take(self._conn_id)
        hook = self._shared.hook
        queue_id = self._queue_id or await hook.aget_queue_id(str(self._queue_name))
        hook.warned_of |= self._warned_of  # what an earlier try has said is not said again
        consumer = await hook.aget_pull_consumer(queue_id)
        self._warned_of.add(queue_id)
        dead_letter_queue = self._options.dead_letter_queue or (consumer and consumer.dead_letter_queue)
        what = (
            "dead_letter_queue" if self._options.dead_letter_queue else "the dead-letter queue of the queue's consumer"
        )
        calls = HookQueue(
            hook,
            queue_id,
            visibility_timeout=self._options.visibility_timeout,
            dead_letter_queue_id=await hook.aget_queue_id(dead_letter_queue, what=what) if dead_letter_queue else None,
        )
        return OpenQueue(queue_id=queue_id, calls=calls, consumer=consumer)

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._let_go()

    async def _let_go(self, *, renew: bool = False) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            await _HOOKS.give_back(shared, renew=renew)
