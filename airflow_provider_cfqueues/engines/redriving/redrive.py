"""
Move messages from one queue, commonly a dead-letter queue, to another: pull, send, and only then ack.

It moves one batch at a time: it pulls nothing that it may not send now, and nothing before the target has accepted the
last batch, because a message that is pulled and not moved has used up a delivery. It only acks the last batch while it
pulls the next one. Whatever ends the run, a message is acked only after a queue accepted its copy, and it is not given
back if Cloudflare might then delete it. If the answer to a send or an ack is lost, a message may be sent again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from airflow_provider_cfqueues.engines.copies import Sender
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.redriving.batch import Batch
from airflow_provider_cfqueues.engines.redriving.options import (
    DEFAULT_VISIBILITY_SECONDS,
    FATES,
    RedriveOptions,
    RedriveReport,
)
from airflow_provider_cfqueues.engines.redriving.pace import Pace
from airflow_provider_cfqueues.engines.run import Run
from airflow_provider_cfqueues.engines.settlement import Case, Happened, Kind, Settlement, Situation, choose_settlement
from airflow_provider_cfqueues.engines.settlement_log import log_settlements
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.engines.threads import DaemonThreads, run_beside
from airflow_provider_cfqueues.engines.waiting import Idling, utc_now
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.matching import Matcher
from airflow_provider_cfqueues.models import Consumer, Message
from airflow_provider_cfqueues.telemetry.metrics import count

if TYPE_CHECKING:
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

T = TypeVar("T")
OnMoved: TypeAlias = "Callable[[int, int | None], None]"
LOG_INTERVAL_SECONDS = 10
MAX_PAUSE_SECONDS = 0.5
"""How long a run that is told to stop may wait for its turn to send."""


class Redrive:
    """
    Moves messages once; it can be stopped, and a further run goes on where it ended.

    :param hook: the hook.
    :param source_id: ID of the queue to empty.
    :param target_id: ID of the queue that gets the messages.
    :param options: what is moved, and how.
    :param now: tells the time that leases are compared with.
    :param log: where progress and messages that are not moved go.
    :raises ValueError: source and target are the same, or ``match`` cannot be read.
    """

    def __init__(
        self,
        hook: CloudflareQueuesHook,
        source_id: str,
        target_id: str,
        options: RedriveOptions | None = None,
        *,
        now: Callable[[], datetime] = utc_now,
        log: Any = None,
    ) -> None:
        if source_id == target_id:
            raise ValueError(f"The messages of queue {hook.name_of(source_id)} cannot be moved to the same queue")
        self.report = RedriveReport()
        self._hook = hook
        self._target_id = target_id
        self._options = options or RedriveOptions()
        self._matcher = Matcher(self._options.match)
        lease_seconds = self._options.visibility_timeout or DEFAULT_VISIBILITY_SECONDS
        self._source = HookQueue(hook, source_id, visibility_timeout=lease_seconds)
        self._pace = Pace(self._options.messages_per_second)
        self._sender = Sender(wait=self._seconds_to_wait, on_request=self._note_request)
        self._renewer = Sender(on_request=self._note_request)  # no pace is worth a message
        self._idling = Idling(self._options.idle_timeout, poll_interval=1)
        self._threads = DaemonThreads(1, "cloudflare-queue-match")
        self.state = Run(
            "Redriving",
            self._source,
            self.report,
            now=now,
            log=log or logging.getLogger(__name__),
            grace=self._options.grace,
        )
        self._on_moved: OnMoved = lambda count, total: None

    def run(self, on_moved: OnMoved | None = None) -> dict[str, Any]:
        """
        Move messages until the queue is idle, a limit is reached, something fails for good, or ``stop`` is called.

        :param on_moved: is told, in another thread, how many more were moved, and how many there are in all, if known.
        :return: the counts, as :class:`~airflow_provider_cfqueues.engines.redriving.options.RedriveReport` has them.
        :raises CloudflareQueuesError: a request failed for good; what was moved until then is acked.
        """
        self._hook.get_queue(self._target_id)  # before a pull: a target that is not there costs no delivery
        self._on_moved = on_moved or self._on_moved
        look = self._hook.get_pull_consumer_flow(self._source.queue_id, required=True, is_dead_letter_queue=True)
        run_beside(self.move(self._hook.run(look)), self.stop)
        if self.state.error is not None:
            raise self.state.error
        return self.report.to_xcom()

    def stop(self, *, killed: bool = False) -> None:
        """
        Pull and send nothing more; what was sent is acked, the rest given back. Safe from a signal handler.

        :param killed: what is under way gets ``grace`` seconds, not as long as it needs.
        """
        self.state.stop(killed=killed)

    # -- the run ----------------------------------------------------------------------------------------------------

    async def move(self, consumer: Consumer | None) -> None:
        """
        Do what :meth:`run` does, in an event loop, and note what fails for good.

        :param consumer: the pull consumer of the source, if it could be read.
        """
        self._source.situation = Situation(consumer=consumer)
        self.state.begin()
        began = told = self.state.clock()
        self.report.activity.began(began)
        ends_at = math.inf if self._options.max_duration is None else began + self._options.max_duration
        settling: asyncio.Task[None] | None = None
        try:
            while size := await self._wait_for_turn(ends_at):
                pulled = await self._within_grace(self._source.pull(size))
                if pulled is not None:
                    if pulled and self._idling.is_idle:
                        self.report.activity.began(self.state.clock())
                    self._idling.answered(len(pulled), self.state.clock())
                if pulled:
                    self.report.pulled += len(pulled)
                    self.report.backlog = pulled.backlog.backlog_count if pulled.backlog else None
                    batch = Batch(pulled.messages, self.state.now)
                    try:
                        if settling is not None:
                            await settling
                        await self._within_grace(self._send(batch))
                    finally:
                        settling = asyncio.create_task(self._settle(batch))
                self.report.seconds = self.state.clock() - began
                if self.state.clock() >= told + LOG_INTERVAL_SECONDS:
                    told = self.state.clock()
                    self.state.log.info("%s", self.report)
        finally:
            if settling is not None:
                await settling
            self._threads.end(cancel=True)
            self.report.seconds = self.state.clock() - began
            await self._hook.aclose()

    async def _wait_for_turn(self, ends_at: float) -> int:
        """Wait until messages may be sent; return how many to pull for that, 0 at the end of the run."""
        limit = self._options.max_messages
        left = self._pace.batch_size if limit is None else min(self._pace.batch_size, limit - self.report.pulled)
        while not self.state.is_stopping and left > 0:
            now = self.state.clock()
            wait = self._pace.seconds_left(now)
            if self._idling.is_early(now):
                wait = max(wait, self._idling.seconds_left(now) or 0)
            if self._idling.is_over(now) or now + wait >= ends_at:
                break
            if not wait:
                return left
            await self.state.wait(timeout=wait)
        return 0

    async def _within_grace(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return what comes of it; None where it failed, or where the run was killed and the grace has passed."""
        task = asyncio.create_task(work)
        while not task.done():
            left = self.state.seconds_left()
            if left is not None and left <= 0:
                task.cancel()
                await asyncio.wait({task})
            else:
                await self.state.wait(task, timeout=left)
        if task.cancelled():
            return None
        try:
            return task.result()
        except CloudflareQueuesError as error:
            self.state.fail(error)
            return None

    # -- one batch --------------------------------------------------------------------------------------------------

    async def _send(self, batch: Batch) -> None:
        # In a thread, as a function in match may take its time; one that never returns is left behind at a kill.
        judge = partial(
            batch.judge, self._matcher, unwrap=self._options.unwrap, stopping=lambda: self.state.is_stopping
        )
        batch.verdicts = await asyncio.get_running_loop().run_in_executor(self._threads, judge)
        await self._hook.arun(
            self._sender.send(self._target_id, batch.chosen(), sent=batch.sent, refused=batch.refused)
        )

    def _seconds_to_wait(self) -> float | None:
        return None if self.state.is_stopping else min(self._pace.seconds_left(self.state.clock()), MAX_PAUSE_SECONDS)

    def _note_request(self, sent: int) -> None:
        self._pace.sent(sent, self.state.clock())

    async def _settle(self, batch: Batch) -> None:
        """Ack what was sent, and keep the rest from being lost. It is never cancelled."""
        staying = batch.staying()
        for message in batch.messages:
            if message.lease_id in staying:
                self._note(message, staying[message.lease_id])
        settlements = [self._choose(message, batch, staying) for message in batch.messages]
        log_settlements(self.state.log, self._source.name, settlements)
        settling = Settling(settlements, self._source.situation, sender=self._renewer)
        await self.state.settle(settling)
        counts = settling.counts()
        if counts[Kind.ACKED]:
            self.report.activity.progressed(self.state.clock())
        self.report.fates += counts
        backlog = self.report.backlog
        self._on_moved(counts[Kind.ACKED], None if backlog is None else self.report.moved + backlog)
        self.report.sent_not_acked += settling.count_unconfirmed(Happened.HANDLED)
        self.report.in_doubt += settling.count_unconfirmed(Happened.HANDLED, Happened.NOT_STARTED)
        self.report.in_doubt += sum(
            one.kind is Kind.EXPIRED and one.case.happened is Happened.NOT_STARTED for one in settlements
        )
        for name in ("moved", "renewed", "expired"):
            count(name, counts[FATES[name]], queue=self._source.queue_id)

    def _choose(self, message: Message, batch: Batch, staying: Mapping[str, Exception | None]) -> Settlement:
        happened, delay = Happened.NOT_STARTED, 0
        if message.lease_id in batch.sent:
            happened = Happened.HANDLED
        elif message.lease_id in staying:
            happened, delay = Happened.NOT_WANTED, self._options.unmatched_delay_seconds
        case = Case(message=message, happened=happened, delay_seconds=delay, is_over=batch.has_ended(message))
        return choose_settlement(case, self._source.situation)

    def _note(self, message: Message, error: Exception | None) -> None:
        if error is None:
            self.report.unmatched += 1
            count("unmatched", 1, queue=self._source.queue_id)
            return
        reason = getattr(error, "message", str(error))
        self.report.refuse(message.id, reason)
        count("unmovable", 1, queue=self._source.queue_id)
        self.state.log.warning("Message %s stays in queue %s: %s", message.id, self._source.name, reason)
