"""
The stream of a queue's messages: pull at an affordable pace, hand on in batches, settle, give back at the end.

A message that was pulled is either handed on to the watchers, or given back. One batch at a time is handed on: the next
one follows when the watchers are done with it and, if Airflow needs that, its runs exist. A message that was handed on
is settled as its :class:`~airflow_provider_cfqueues.engines.watching.deliveries.Delivery` decides. A message that
cannot be settled is delivered again when its lease ends, and the log says so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.engines.waiting import utc_now
from airflow_provider_cfqueues.engines.watching.deliveries import Batch, Delivery
from airflow_provider_cfqueues.engines.watching.events import ENVELOPE_BYTES, size_of
from airflow_provider_cfqueues.engines.watching.finishing import CLOSE_SECONDS, Finishing
from airflow_provider_cfqueues.engines.watching.options import MAX_MESSAGES_PER_EVENT, WatchOptions
from airflow_provider_cfqueues.engines.watching.pulling import Pulling
from airflow_provider_cfqueues.engines.watching.source import HookSource
from airflow_provider_cfqueues.engines.watching.spacing import Spacing
from airflow_provider_cfqueues.models import PullResult
from airflow_provider_cfqueues.texts import counted

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import AdvanceOutcome

LOOK_AGAIN_SECONDS = 10
"""Seconds between two looks at the leases of messages that wait or are being settled."""
GATHER_SECONDS = 3
"""How long full pulls are gathered for one batch."""
COHORT_SECONDS = 10
"""
How long the first pull waits for further watchers, if a message that no watcher wants would not be delivered again.
After a restart, a triggerer starts the watchers one by one.
"""


class QueueStream:
    """
    The messages of a queue, for its watchers.

    :param options: how the queue is watched.
    :param source: where it is.
    :param now: tells the time that leases are compared with.
    :param missing: tells why a watcher of the queue cannot start; empty where all can.
    """

    def __init__(
        self,
        options: WatchOptions,
        source: HookSource,
        *,
        log: Any,
        now: Callable[[], datetime] = utc_now,
        missing: Callable[[], str] = str,
    ) -> None:
        self._options = options
        self._source = source
        self._now = now
        self._missing = missing
        self._log = log
        self._pulling = Pulling(options, source, take_in=self._take_in, now=now, log=log)
        self._finishing = Finishing(options, self._pulling.open, now=now, log=log)
        self._waiting: deque[Delivery] = deque()
        self._pulled_at = now()
        self._backlog_count: int | None = None
        self._typical_size = 1
        self._batch: Batch | None = None
        self._left_to_tasks: list[Delivery] = []
        self._in_doubt: dict[Any, Spacing] = {}  # the last such event of each watcher

    # -- handing on -------------------------------------------------------------------------------------------------

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield batches without end, each after the last is resolved. A failure is logged once and slows it down."""
        try:
            if self._options.unmatched in ("ack", "dead_letter"):
                await asyncio.sleep(COHORT_SECONDS)
            while True:
                self._batch = batch = await self._next_batch()
                yield batch
                await self._wait_for(batch.resolved.wait())
                await self._wait_for(self._keep_apart(batch))
        finally:
            self._finishing.begin_closing()

    async def _wait_for(self, waiting: Coroutine[Any, Any, Any]) -> None:
        """Wait for something, and meanwhile give back messages that have waited for too long."""
        task = asyncio.ensure_future(waiting)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK_AGAIN_SECONDS if self._waiting else None)
                self._give_back_stale()
        finally:
            task.cancel()

    async def _next_batch(self) -> Batch:
        time = asyncio.get_running_loop().time
        gathered_by = time() + GATHER_SECONDS
        while True:
            cut_by = min((spacing.due_at for spacing in self._in_doubt.values() if spacing.is_open), default=inf)
            if not self._waiting:
                gathered_by = time() + GATHER_SECONDS
            elif self._pulling.has_more and self._room() > 0:
                cut_by = min(cut_by, gathered_by)
            else:
                return self._cut()
            wake_at = self._pulling.next_at if self._room() > 0 else time() + self._seconds_until_room()
            if time() >= cut_by and (self._waiting or time() < wake_at):
                return self._cut()
            await asyncio.sleep(max(0.0, min(wake_at, cut_by) - time()))
            if time() >= wake_at and self._room() > 0:
                await self._pulling.pull(self._room())

    def _room(self) -> int:
        """Return how many messages may be added to those that wait."""
        now = self._now()
        self._left_to_tasks = [one for one in self._left_to_tasks if one.lease_ends_at > now]
        size = ENVELOPE_BYTES + sum(delivery.size for delivery in self._waiting)
        if self._waiting and size + self._typical_size > self._options.max_event_bytes:
            return 0
        return min(
            self._options.max_in_flight - len(self._left_to_tasks) - self._finishing.in_flight - len(self._waiting),
            MAX_MESSAGES_PER_EVENT - len(self._waiting),
            max(1, (self._options.max_event_bytes - size) // self._typical_size),
        )

    def _seconds_until_room(self) -> float:
        """Return when to look again: as the first lease left to a task ends, or while messages are being settled."""
        seconds = [(one.lease_ends_at - self._now()).total_seconds() for one in self._left_to_tasks]
        return min(seconds if not self._finishing.in_flight else [*seconds, LOOK_AGAIN_SECONDS])

    def _cut(self) -> Batch:
        """Return as many waiting messages as fit into an event; none for the empty event that follows a last one."""
        # Watchers close those that are due; only one without messages may be put off.
        left = [one for one in self._in_doubt.values() if one.is_open and not (one.has_messages and one.is_due())]
        self._in_doubt = {one.watcher: one for one in left}
        deliveries: list[Delivery] = []
        size = ENVELOPE_BYTES
        while self._waiting and len(deliveries) < MAX_MESSAGES_PER_EVENT:
            size += self._waiting[0].size
            if deliveries and size > self._options.max_event_bytes:
                break
            deliveries.append(self._waiting.popleft())
        pulled_at, backlog_count = self._pulled_at, self._backlog_count
        return Batch(deliveries=deliveries, options=self._options, pulled_at=pulled_at, backlog_count=backlog_count)

    async def _keep_apart(self, batch: Batch) -> None:
        """Wait until the run of each watcher's last event exists, so that the next event starts another one."""
        self._in_doubt |= {spacing.watcher: spacing for spacing in batch.in_doubt}
        guesses = [spacing.seconds for spacing in batch.spacings if spacing.runs is None or batch.has_failed]
        await asyncio.sleep(max(guesses, default=0))
        await batch.creation()

    def _take_in(self, result: PullResult, pulled_at: datetime) -> None:
        if not self._waiting:
            self._pulled_at = pulled_at
        self._backlog_count = result.backlog.backlog_count if result.backlog else None
        if not result:
            return
        ends_at = pulled_at + timedelta(seconds=self._options.visibility_timeout)
        new = [Delivery(message=message, lease_ends_at=ends_at, size=size_of(message)) for message in result]
        self._typical_size = max(1, sum(delivery.size for delivery in new) // len(new))
        self._waiting.extend(new)

    # -- settling ---------------------------------------------------------------------------------------------------

    def resolve(self, batch: Batch, outcome: AdvanceOutcome) -> None:
        """Settle the messages of a batch that the watchers are done with, in the background."""
        batch.is_decided = True
        batch.has_failed = bool(outcome.failed)
        for spacing in batch.spacings:
            spacing.decide(is_stored=not outcome.failed)
        missing = self._missing()
        decided = [delivery.decide(outcome, missing, self._options.delay_seconds) for delivery in batch.deliveries]
        self._left_to_tasks += [delivery for delivery in batch.deliveries if delivery.left_to_task]
        self._finishing.finish(batch, [case for case in decided if case is not None])
        if not self._options.delay_seconds and not any(delivery.offered for delivery in batch.deliveries):
            # The next pull would give the same messages: without a wait, they go round as fast as the API answers.
            wake_at = asyncio.get_running_loop().time() + self._options.poll_interval
            self._pulling.next_at = max(self._pulling.next_at, wake_at)

    def _give_back_stale(self) -> None:
        """Give back messages that waited for half of their lease or more: storing and settling need the rest."""
        latest = self._now() + timedelta(seconds=self._options.needed_lease)
        stale = [delivery for delivery in self._waiting if delivery.lease_ends_at < latest]
        if not stale:
            return
        self._log.warning(
            "Giving back %s of queue %s: Airflow took too long to create the runs of earlier messages",
            counted(len(stale), "message"),
            self._options.queue,
        )
        self._waiting = deque(delivery for delivery in self._waiting if delivery not in stale)
        self._finishing.give_back(stale, self._options.delay_seconds)

    # -- ending -----------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """
        Settle what is decided, give back everything else, and close the connection, within seconds.

        An event with messages that are given back may be stored all the same; nothing would ack them any more. Messages
        that are left to a DAG stay leased for it. Airflow may cancel a watcher again while it stops; that must not
        interrupt the requests that give messages back.
        """
        closing = asyncio.create_task(self._close())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait({closing})
            raise

    async def _close(self) -> None:
        self._finishing.begin_closing()
        try:
            await self._pulling.finish(CLOSE_SECONDS)
            self._finishing.begin_closing()
            if self._waiting:
                self._finishing.give_back(self._waiting, 0)
                self._waiting.clear()
            self._give_back_undecided()
            await self._finishing.aclose()
        finally:
            for runs in self._batch.expected_runs if self._batch else ():
                runs.give_up()
            await self._source.aclose()

    def _give_back_undecided(self) -> None:
        """Give back the messages whose event Airflow has not confirmed: it drops what is outstanding as it ends."""
        if self._batch is None or self._batch.is_decided or self._options.settle == "task":
            return
        undecided = [delivery for delivery in self._batch.deliveries if not delivery.left_to_task]
        if not undecided:
            return
        self._log.warning(
            "Giving back %s of queue %s, because the watcher stops before Airflow confirmed that the event is stored",
            counted(len(undecided), "message"),
            self._options.queue,
        )
        self._finishing.give_back(undecided, self._options.delay_seconds)
