"""
The stream of a queue's messages: pull at an affordable pace, hand on in batches, settle, give back at the end.

A message that was pulled is either handed on to the watchers, or given back. One batch at a time is handed on: the next
one follows when the watchers are done with it and, if Airflow needs that, its runs exist. A message that was handed on
is settled as its :class:`~airflow_provider_cfqueues.engines.watching.deliveries.Delivery` decides. A message that
cannot be settled comes again when its lease ends, and the log says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_cfqueues.engines.unmatched import check_unmatched
from airflow_provider_cfqueues.engines.watching.backoff import Backoff
from airflow_provider_cfqueues.engines.watching.deliveries import AdvanceOutcome, Batch, Delivery
from airflow_provider_cfqueues.engines.watching.events import ENVELOPE_BYTES, size_of
from airflow_provider_cfqueues.engines.watching.finishing import CLOSE_SECONDS, Finishing
from airflow_provider_cfqueues.engines.watching.options import MAX_MESSAGES_PER_EVENT, WatchOptions
from airflow_provider_cfqueues.engines.watching.source import OpenQueue, Source
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.models import PullResult
from airflow_provider_cfqueues.texts import counted

LOOK_AGAIN_SECONDS = 10
"""Seconds between two looks at the leases of messages that wait or are being settled."""
GATHER_SECONDS = 3
"""How long full pulls are gathered for one batch."""
COHORT_SECONDS = 10
"""
How long the first pull waits for further watchers, if a message that no watcher wants would not come again. After a
restart, a triggerer starts the watchers one by one.
"""


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(timezone.utc)


class QueueStream:
    """
    The messages of a queue, for its watchers.

    :param options: how the queue is watched.
    :param source: where it is.
    :param name: what the log calls it.
    :param now: tells the time that leases are compared with.
    :param missing: tells why a watcher of the queue cannot start; empty where all can.
    """

    def __init__(
        self,
        options: WatchOptions,
        source: Source,
        *,
        name: str,
        now: Callable[[], datetime] = utc_now,
        missing: Callable[[], str] = str,
        log: Any = None,
    ) -> None:
        self._options = options
        self._source = source
        self._name = name
        self._now = now
        self._missing = missing
        self._log = log or logging.getLogger(__name__)
        self._backoff = Backoff(options)
        self._queue: OpenQueue | None = None
        self._opening = asyncio.Lock()
        self._pulling: asyncio.Task[PullResult] | None = None
        self._pull_at = 0.0
        self._close_events_at = float("inf")
        self._has_more = False
        self._typical_size = 1
        self._pulled_at = now()
        self._backlog_count: int | None = None
        self._waiting: deque[Delivery] = deque()
        self._batch: Batch | None = None
        self._is_decided = True
        self._left_to_tasks: list[Delivery] = []
        self._finishing = Finishing(options, self._open, name=name, now=now, log=self._log)
        self._trouble = ""
        self._has_told_cost = False

    # -- handing on -------------------------------------------------------------------------------------------------

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield batches without end, each after the last is resolved. A failure is logged once and slows it down."""
        try:
            if self._options.unmatched in ("ack", "dead_letter"):
                await asyncio.sleep(COHORT_SECONDS)
            while True:
                self._batch = batch = await self._next_batch()
                self._is_decided = False
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
            if not self._waiting:
                gathered_by = time() + GATHER_SECONDS
                if time() >= self._close_events_at:
                    return self._cut()
            elif not self._has_more or self._room() <= 0 or time() >= gathered_by:
                return self._cut()
            wake_at = self._pull_at if self._room() > 0 else time() + self._seconds_until_room()
            await asyncio.sleep(max(0.0, min(wake_at, self._close_events_at) - time()))
            if time() >= wake_at and self._room() > 0:
                await self._pull_more()

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
        if asyncio.get_running_loop().time() >= self._close_events_at:
            self._close_events_at = float("inf")
        deliveries: list[Delivery] = []
        size = ENVELOPE_BYTES
        while self._waiting and len(deliveries) < MAX_MESSAGES_PER_EVENT:
            size += self._waiting[0].size
            if deliveries and size > self._options.max_event_bytes:
                break
            deliveries.append(self._waiting.popleft())
        return Batch(
            deliveries=deliveries,
            options=self._options,
            pulled_at=self._pulled_at,
            backlog_count=self._backlog_count,
        )

    async def _keep_apart(self, batch: Batch) -> None:
        """Wait until the run of each watcher's last event exists, so that the next event starts another one."""
        closings = [spacing.closing_seconds for spacing in batch.spacings if spacing.closing_seconds is not None]
        if closings:
            self._close_events_at = asyncio.get_running_loop().time() + max(closings)
        guesses = [spacing.seconds for spacing in batch.spacings if spacing.runs is None or batch.has_failed]
        await asyncio.sleep(max(guesses, default=0))
        await batch.creation()

    # -- pulling ----------------------------------------------------------------------------------------------------

    async def _pull_more(self) -> None:
        time = asyncio.get_running_loop().time
        asked_for = min(self._room(), self._options.batch_size)
        try:
            result = await self._pull(asked_for)
        except Exception as error:  # noqa: BLE001 - a watcher that ends is begun again at once, in a hot loop
            wait, self._has_more = self._after_failure(error), False
        else:
            wait = self._backoff.after_pull(len(result), asked_for)
            self._has_more = not wait
        self._pull_at = time() + wait

    async def _pull(self, asked_for: int) -> PullResult:
        queue = await self._open()
        pulled_at = self._now()
        # In a separate task: if the stream is cancelled meanwhile, the messages that come are given back.
        self._pulling = asyncio.create_task(queue.calls.pull(asked_for))
        result = await asyncio.shield(self._pulling)
        self._pulling = None
        if self._trouble:
            self._log.info("Queue %s can be pulled from again", self._name)
            self._trouble = ""
        self._take_in(result, pulled_at)
        return result

    async def _open(self) -> OpenQueue:
        async with self._opening:
            if self._queue is None:
                queue = await self._source.open()
                if self._options.has_match:
                    cost = check_unmatched(queue.situation(self._options.unmatched), queue.queue_id)
                    if not self._has_told_cost:
                        self._log.info("Queue %s: %s", self._name, cost)
                        self._has_told_cost = True
                self._queue = queue
            return self._queue

    def _take_in(self, result: PullResult, pulled_at: datetime) -> None:
        if not self._waiting:
            self._pulled_at = pulled_at
        self._backlog_count = result.backlog.backlog_count if result.backlog else None
        if not result:
            return
        self._log.info("Pulled %s of queue %s", counted(len(result), "message"), self._name)
        ends_at = pulled_at + timedelta(seconds=self._options.visibility_timeout)
        new = [Delivery(message=message, lease_ends_at=ends_at, size=size_of(message)) for message in result]
        self._typical_size = max(1, sum(delivery.size for delivery in new) // len(new))
        self._waiting.extend(new)

    def _after_failure(self, error: Exception) -> float:
        """Log it once, read the connection again if that may help, and return how long to wait."""
        self._pulling = None
        wait = self._backoff.after_failure(error)
        trouble = f"{type(error).__name__} {getattr(error, 'status', '')}"
        if trouble != self._trouble:
            self._trouble = trouble
            foreseen = isinstance(error, (CloudflareQueuesError, ValueError))
            self._log.error(
                "Queue %s cannot be pulled from. The watcher tries again, less and less often, and logs again when "
                "the kind of failure changes: %s",
                self._name,
                error,
                exc_info=None if foreseen else error,
            )
        if not (isinstance(error, CloudflareQueuesError) and error.repeatable):
            self._queue = None
        return wait

    # -- settling ---------------------------------------------------------------------------------------------------

    def resolve(self, batch: Batch, outcome: AdvanceOutcome) -> None:
        """
        Settle the messages of a batch that the watchers are done with, in the background.

        :param batch: the batch.
        :param outcome: how the watchers left it.
        """
        self._is_decided = True
        batch.has_failed = bool(outcome.failed)
        missing = self._missing()
        decided = [delivery.decide(outcome, self._options, missing) for delivery in batch.deliveries]
        self._left_to_tasks += [delivery for delivery in batch.deliveries if delivery.left_to_task]
        self._finishing.finish(batch, [verdict for verdict in decided if verdict is not None])
        if not self._options.delay_seconds and not any(delivery.offered for delivery in batch.deliveries):
            # The next pull would give the same messages: without a wait, they go round as fast as the API answers.
            self._pull_at = max(self._pull_at, asyncio.get_running_loop().time() + self._options.poll_interval)

    def _give_back_stale(self) -> None:
        """Give back messages that waited for half of their lease: storing and settling need the other half."""
        latest = self._now() + timedelta(seconds=self._options.visibility_timeout / 2)
        stale = [delivery for delivery in self._waiting if delivery.lease_ends_at < latest]
        if not stale:
            return
        self._log.warning(
            "Giving back %s of queue %s: the runs of earlier messages took too long to create",
            counted(len(stale), "message"),
            self._name,
        )
        self._waiting = deque(delivery for delivery in self._waiting if delivery not in stale)
        verdicts = [delivery.give_back(self._options.delay_seconds) for delivery in stale]
        self._finishing.settle(verdicts, min(one.lease_ends_at for one in stale))

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
            await self._take_in_late()
            self._finishing.begin_closing()
            if self._waiting:
                unseen = [delivery.give_back(0) for delivery in self._waiting]
                self._finishing.settle(unseen, min(one.lease_ends_at for one in self._waiting))
                self._waiting.clear()
            self._give_back_undecided()
            await self._finishing.aclose()
        finally:
            for runs in self._batch.expected_runs if self._batch else ():
                runs.give_up()
            await self._source.aclose()

    def _give_back_undecided(self) -> None:
        """Give back the messages whose event Airflow has not confirmed: it drops what is outstanding as it ends."""
        batch = None if self._is_decided or self._options.settle == "task" else self._batch
        undecided = [delivery for delivery in batch.deliveries if not delivery.left_to_task] if batch else []
        if not undecided:
            return
        self._log.warning(
            "In an event that is not known to be stored as the watcher stops, so it is delivered again: %s of queue %s",
            counted(len(undecided), "message"),
            self._name,
        )
        verdicts = [delivery.give_back(self._options.delay_seconds) for delivery in undecided]
        self._finishing.settle(verdicts, min(one.lease_ends_at for one in undecided))

    async def _take_in_late(self) -> None:
        """Wait for the answer of a pull that is under way."""
        pulling, self._pulling = self._pulling, None
        if pulling is None:
            return
        pulled_at = self._now()
        try:
            self._take_in(await asyncio.wait_for(pulling, CLOSE_SECONDS), pulled_at)
        except Exception as error:  # noqa: BLE001 - nobody is left to take it
            self._log.warning(
                "Queue %s: the last pull got no answer; what it leased comes back when the leases end: %s",
                self._name,
                str(error) or type(error).__name__,
            )
