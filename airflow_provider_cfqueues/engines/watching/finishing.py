"""
Settle messages in the background, once the watchers are done with them and the runs of their event exist.

A message that cannot be settled is delivered again when its lease ends, and the log says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Case, Happened
from airflow_provider_cfqueues.engines.watching.batch_settling import BatchSettling
from airflow_provider_cfqueues.engines.watching.deliveries import Batch, Delivery
from airflow_provider_cfqueues.engines.watching.options import CONFIRM_SECONDS, SETTLE_SECONDS, WatchOptions
from airflow_provider_cfqueues.engines.watching.runs import LAST_RUN_SECONDS
from airflow_provider_cfqueues.exceptions import list_leases
from airflow_provider_cfqueues.texts import counted

CLOSE_SECONDS = 5
"""How long the watcher waits for an answer when it stops: a triggerer is killed soon after it is told to stop."""
HOLD_UP_SECONDS = 5
"""How long settling a batch may hold up the next one."""
REMOVAL_SECONDS = 1
"""
How long after Airflow confirms an event it may stop a watcher whose row was gone by then: it tells the triggerer's
runner both in one answer.
"""
SETTLE_AGAIN_SECONDS = 5
"""Seconds between two tries to settle. In each, the client repeats the call as it does any other."""


class Finishing:
    """
    The batches and messages of a stream that are being settled.

    :param options: how the queue is watched.
    :param open_queue: returns the queue.
    :param now: tells the time that leases are compared with.
    """

    def __init__(
        self,
        options: WatchOptions,
        open_queue: Callable[[], Awaitable[HookQueue]],
        *,
        now: Callable[[], datetime],
        log: Any,
    ) -> None:
        self._options = options
        self._open_queue = open_queue
        self._now = now
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling: set[BatchSettling] = set()
        self._held = 0
        self._closing = asyncio.Event()
        self._close_by = 0.0

    @property
    def in_flight(self) -> int:
        """How many messages are decided, but still leased."""
        return self._held + sum(len(settling.lease_ids) for settling in self._settling)

    def finish(self, batch: Batch, cases: Sequence[Case]) -> None:
        """
        Settle a batch, and say that it is resolved.

        It repeats until the leases end, raises nothing for a failure of the API, and logs what it could not settle.
        What takes longer than a few seconds does not hold up the next batch.
        """
        self._in_background(self._finish(batch, cases))

    def give_back(self, deliveries: Collection[Delivery], delay_seconds: int | None) -> None:
        """Give back messages that no watcher has seen. They wait for ``delay_seconds``."""
        happened, reason = Happened.NOT_STARTED, "it was not offered to a watcher"
        cases = [
            Case(message=one.message, happened=happened, reason=reason, delay_seconds=delay_seconds)
            for one in deliveries
        ]
        self._settle(cases, deliveries)

    def begin_closing(self) -> None:
        """From now on, give up whatever takes longer than a few seconds."""
        self._closing.set()
        self._close_by = asyncio.get_running_loop().time() + CLOSE_SECONDS

    async def aclose(self) -> None:
        """Wait for all that is being settled."""
        while self._tasks:
            # With the exceptions returned it waits for all of them even where it is cancelled itself.
            for end in await asyncio.gather(*self._tasks, return_exceptions=True):
                if isinstance(end, Exception):
                    raise end

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _finish(self, batch: Batch, cases: Sequence[Case]) -> None:
        try:
            if not (await self._confirm(batch) and await self._is_closed(batch, cases)):
                cases = self._give_back_acks(cases)
            if cases:
                settling = self._settle(cases, batch.deliveries)
                await asyncio.wait({settling}, timeout=HOLD_UP_SECONDS)
        finally:
            batch.resolved.set()

    async def _confirm(self, batch: Batch) -> bool:
        """Wait for the runs of an event for a while; return False where a watcher ends before they are there."""
        if not batch.expected_runs:
            return True
        created = asyncio.ensure_future(batch.creation())
        try:
            await self._wait_unless_closing(created, CONFIRM_SECONDS)
            if self._closing.is_set():
                await asyncio.wait({created}, timeout=LAST_RUN_SECONDS)
                self.begin_closing()
            is_abandoned = any(runs.is_abandoned for runs in batch.expected_runs)
            return not is_abandoned and (created.done() or not self._closing.is_set())
        finally:
            created.cancel()

    async def _is_closed(self, batch: Batch, cases: Sequence[Case]) -> bool:
        """Wait until a later event has taken along those in doubt; return False where none does while leases last."""
        if not any(one.happened is Happened.HANDLED for one in cases):
            return True
        if not batch.acked_once_closed:
            return all(spacing.runs for spacing in batch.spacings) or await self._is_stored(batch, cases)
        batch.resolved.set()  # the next event may be the one
        ends_at = min(one.lease_ends_at for one in batch.deliveries)
        closing = asyncio.ensure_future(batch.closing())
        self._held += len(cases)
        try:
            await self._wait_unless_closing(closing, (ends_at - self._now()).total_seconds() - SETTLE_SECONDS)
            return closing.done() and all(spacing.is_closed for spacing in batch.acked_once_closed)
        finally:
            self._held -= len(cases)
            closing.cancel()

    async def _is_stored(self, batch: Batch, cases: Sequence[Case]) -> bool:
        """Return whether a confirmed event is stored: not if Airflow stops its watcher because its row is gone."""
        batch.resolved.set()
        self._held += len(cases)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closing.wait(), REMOVAL_SECONDS)
        self._held -= len(cases)
        return not any(spacing.watcher.is_removed for spacing in batch.spacings)

    def _give_back_acks(self, cases: Sequence[Case]) -> list[Case]:
        """Nothing acks these messages any more: given back, they come sooner than after their leases."""
        handled = [one.message.lease_id for one in cases if one.happened is Happened.HANDLED]
        if handled:
            self._log.warning(
                "Giving back %s of queue %s, because no run is known to have the event: %s",
                counted(len(handled), "message"),
                self._options.queue,
                list_leases(handled),
            )
        changed = {"happened": Happened.NOT_STARTED, "reason": "it is not known to be in a run"}
        return [msgspec.structs.replace(one, **changed) if one.happened is Happened.HANDLED else one for one in cases]

    def _settle(self, cases: Sequence[Case], deliveries: Collection[Delivery]) -> asyncio.Task[None]:
        settling = BatchSettling(cases, self._options, log=self._log)
        self._settling.add(settling)
        task = self._in_background(self._settle_until(settling, min(one.lease_ends_at for one in deliveries)))
        task.add_done_callback(lambda _: self._settling.discard(settling))
        return task

    async def _settle_until(self, settling: BatchSettling, until: datetime) -> None:
        trouble = ""
        while (left := (until - self._now()).total_seconds()) > 0:
            try:
                await self._within(left, self._send(settling))
            except Exception as failed:  # noqa: BLE001 - raising it would end every watcher of the queue
                said, trouble = bool(trouble), str(failed) or "no answer in time"
                if not said:
                    self._log.warning("Trying again to settle messages of queue %s: %s", self._options.queue, trouble)
            else:
                return
            if self._closing.is_set():
                break
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closing.wait(), SETTLE_AGAIN_SECONDS)
        self._log.error(
            "Could not settle %s of queue %s before the leases ended. Cloudflare delivers each of them again, unless "
            "that was its last delivery: %s (%s)",
            counted(len(settling.lease_ids), "message"),
            self._options.queue,
            list_leases(settling.lease_ids),
            trouble or "no time was left",
        )

    async def _send(self, settling: BatchSettling) -> None:
        await settling.send(await self._open_queue())

    async def _within(self, seconds: float, sending: Coroutine[Any, Any, None]) -> None:
        """Wait so long for a request, or a few seconds once the stream is being closed."""
        task = asyncio.ensure_future(sending)
        try:
            await self._wait_unless_closing(task, seconds)
            left = self._close_by - asyncio.get_running_loop().time() if self._closing.is_set() else 0
            await asyncio.wait_for(task, max(left, 0.001))
        finally:
            task.cancel()

    async def _wait_unless_closing(self, task: asyncio.Future[Any], seconds: float) -> None:
        closing: asyncio.Future[Any] = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({task, closing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
