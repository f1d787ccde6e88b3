"""
The stream of a queue's messages: pull at an affordable pace, keep count of what is open, settle, give back at the end.

A message that was pulled is either handed on or given back. One that was handed on is settled only as its
:class:`~airflow_provider_cfqueues.engines.watching.deliveries.Delivery` decides. If the API cannot be told, the message
comes back when its lease ends, and the log says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_cfqueues.engines.settlement import Happened, Kind, Settlement
from airflow_provider_cfqueues.engines.watching.backoff import Backoff
from airflow_provider_cfqueues.engines.watching.deliveries import AdvanceOutcome, Delivery, Pull
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.engines.watching.settling import Settling
from airflow_provider_cfqueues.engines.watching.source import OpenQueue, Source
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, list_leases
from airflow_provider_cfqueues.models import PullResult

CLOSE_SECONDS = 5
"""How long an end waits for an answer: triggerers are killed soon after they are told to end."""
ADVANCE_SECONDS = 5
"""How long one pull's settling may hold up the others': Airflow settles one at a time."""
SETTLE_AGAIN_SECONDS = 5
"""Between two tries to settle, each of which is what a client makes of one call."""

GATHERING_SECONDS = 10
"""
How long the first pull waits for further watchers, where a message that none of them wants does not come again: after
a restart, a triggerer begins them one by one.
"""


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(timezone.utc)


class QueueStream:
    """
    Messages of a queue, for as long as somebody wants them.

    :param options: how the queue is watched.
    :param source: where it is.
    :param name: what the log calls it.
    :param now: tells the time that leases are compared with.
    """

    def __init__(
        self,
        options: WatchOptions,
        source: Source,
        *,
        name: str,
        now: Callable[[], datetime] = utc_now,
        log: Any = None,
    ) -> None:
        self._options = options
        self._source = source
        self._name = name
        self._now = now
        self._log = log or logging.getLogger(__name__)
        self._backoff = Backoff(options)
        self._queue: OpenQueue | None = None
        self._opening = asyncio.Lock()
        self._pulling: asyncio.Task[PullResult] | None = None
        self._not_handed_on: deque[Delivery] = deque()
        self._pulls: list[Pull] = []
        self._settling: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._close_by = 0.0
        self._trouble = ""

    # -- pulling ----------------------------------------------------------------------------------------------------

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield messages for ever; a failure is logged once and slows it down."""
        try:
            if self._options.unmatched != "retry":
                await asyncio.sleep(GATHERING_SECONDS)
            while True:
                asked_for = min(await self._room(), self._options.batch_size)
                try:
                    pull = await self._pull(asked_for)
                except Exception as error:  # noqa: BLE001 - a watcher that ends is begun again at once, in a hot loop
                    wait = self._after_failure(error)
                else:
                    wait = self._backoff.after_pull(len(pull.result), asked_for)
                while self._not_handed_on:
                    yield self._not_handed_on.popleft()
                await asyncio.sleep(wait)
        finally:
            self._begin_closing()

    async def _room(self) -> int:
        """Wait until messages may be pulled, and return how many."""
        while True:
            now = self._now()
            self._pulls = [pull for pull in self._pulls if pull.undecided or pull.is_open(now)]
            open_now = [pull for pull in self._pulls if pull.is_open(now)]
            room = min(
                self._options.max_in_flight - sum(pull.unsettled for pull in open_now),
                self._options.max_undecided - sum(pull.undecided for pull in self._pulls),
            )
            if room > 0:
                return room
            self._changed.clear()
            await self._change_or(min((pull.leases_end_at - now for pull in open_now), default=None))

    async def _change_or(self, time: timedelta | None) -> None:
        # No wait_for: before Python 3.12 it swallows a cancellation that comes with the change, and this never ends.
        timer = time and asyncio.get_running_loop().call_later(time.total_seconds(), self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if timer:
                timer.cancel()

    async def _pull(self, asked_for: int) -> Pull:
        queue = await self._open()
        pulled_at = self._now()
        # In a task of its own: where the stream is cancelled meanwhile, what comes is given back.
        self._pulling = asyncio.create_task(queue.calls.pull(asked_for))
        result = await asyncio.shield(self._pulling)
        self._pulling = None
        if self._trouble:
            self._log.info("Queue %s can be pulled from again", self._name)
            self._trouble = ""
        return self._take_in(result, pulled_at)

    async def _open(self) -> OpenQueue:
        async with self._opening:
            if self._queue is None:
                self._queue = await self._source.open()
            return self._queue

    def _take_in(self, result: PullResult, pulled_at: datetime) -> Pull:
        if result:
            self._log.info("Pulled %d messages of queue %s", len(result), self._name)
        pull = Pull(
            result=result,
            pulled_at=pulled_at,
            leases_end_at=pulled_at + timedelta(seconds=self._options.visibility_timeout),
            undecided=len(result),
            unsettled=len(result),
        )
        self._pulls.append(pull)
        self._not_handed_on.extend(Delivery(message=message, pull=pull, options=self._options) for message in result)
        return pull

    def _after_failure(self, error: Exception) -> float:
        """Say it once, let the connection be read anew where that may help, and return how long to wait."""
        self._pulling = None
        wait = self._backoff.after_failure(error)
        trouble = f"{type(error).__name__} {getattr(error, 'status', '')}"
        if trouble != self._trouble:
            self._trouble = trouble
            foreseen = isinstance(error, (CloudflareQueuesError, ValueError))
            self._log.error(
                "Queue %s cannot be pulled from. It is tried again, less and less often, and the next line about it "
                "comes when something changes: %s",
                self._name,
                error,
                exc_info=None if foreseen else error,
            )
        if not (isinstance(error, CloudflareQueuesError) and error.repeatable):
            self._queue = None
        return wait

    # -- settling ---------------------------------------------------------------------------------------------------

    async def settle(self, resolved: Sequence[tuple[Delivery, AdvanceOutcome]]) -> None:
        """
        Settle messages that the watchers are through with: in one request per pull, once all of it is decided.

        It repeats until their leases end, raises nothing for a failure of the API, and logs what it could not settle.
        What takes longer than a few seconds goes on by itself, and holds up nothing else.

        :param resolved: messages, each with how the watchers left it.
        """
        for delivery, outcome in resolved:
            pull = delivery.pull
            pull.undecided -= 1
            if (settlement := delivery.decide(outcome)) is not None:
                pull.settlements.append(settlement)
            self._changed.set()
            if not pull.undecided:
                settling = asyncio.create_task(self._settle(pull))
                self._settling.add(settling)
                settling.add_done_callback(self._settling.discard)
                await asyncio.wait({settling}, timeout=ADVANCE_SECONDS)

    async def _settle(self, pull: Pull) -> None:
        settlements, pull.settlements = pull.settlements, []
        if not settlements:
            return
        settling = Settling(
            settlements, delay_seconds=self._options.delay_seconds, queue_name=self._name, log=self._log
        )
        trouble = ""
        while (left := (pull.leases_end_at - self._now()).total_seconds()) > 0:
            try:
                await self._within(left, self._send(settling))
            except Exception as failed:  # noqa: BLE001 - raising it would end every watcher of the queue
                said, trouble = bool(trouble), str(failed) or "no answer in time"
                if not said:
                    self._log.warning("Settling messages of queue %s is tried again: %s", self._name, trouble)
            else:
                pull.unsettled -= len(settlements)
                self._changed.set()
                return
            if self._closing.is_set():
                break
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closing.wait(), SETTLE_AGAIN_SECONDS)
        self._log.error(
            "%d messages of queue %s could not be settled before their leases ended, and are delivered again: %s (%s)",
            len(settlements),
            self._name,
            list_leases(settling.lease_ids),
            trouble or "no time was left",
        )

    async def _send(self, settling: Settling) -> None:
        await settling.send(await self._open())

    async def _within(self, seconds: float, sending: Coroutine[Any, Any, None]) -> None:
        """Wait so long for a request, or a few seconds once the stream is being closed."""
        task = asyncio.ensure_future(sending)
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            if not self._closing.is_set():
                await asyncio.wait({task, closing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            left = self._close_by - asyncio.get_running_loop().time() if self._closing.is_set() else 0
            await asyncio.wait_for(task, max(left, 0.001))
        finally:
            closing.cancel()
            task.cancel()

    # -- ending -----------------------------------------------------------------------------------------------------

    def _begin_closing(self) -> None:
        self._closing.set()
        self._close_by = asyncio.get_running_loop().time() + CLOSE_SECONDS

    async def aclose(self) -> None:
        """
        Give back what nobody got to see, settle what is decided, and let go of the connection: within seconds.

        Messages that were handed on and are not decided are left alone: their events may be stored. A watcher may be
        cancelled again while it ends, which Airflow passes on: that must not cut off what gives messages back.
        """
        closing = asyncio.create_task(self._close())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait({closing})
            raise

    async def _close(self) -> None:
        self._begin_closing()
        try:
            await self._take_in_late()
            self._begin_closing()
            for delivery in self._not_handed_on:
                given_back = Settlement(
                    message=delivery.message, happened=Happened.NOT_STARTED, kind=Kind.RETRIED, delay_seconds=0
                )
                delivery.pull.settlements.append(given_back)
            self._not_handed_on.clear()
            # With the exceptions returned it waits for all of them even where it is cancelled itself.
            settling = (*self._settling, *(self._settle(pull) for pull in self._pulls))
            for end in await asyncio.gather(*settling, return_exceptions=True):
                if isinstance(end, Exception):
                    raise end
        finally:
            await self._source.aclose()

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
