"""
Process a queue inside one task: pull ahead, handle, settle by outcome, until there is nothing left to do.

A message that was pulled is *open* until its outcome was sent and answered. Whatever ends the engine, every open
message is either settled by its outcome or given back. What it cannot give back (a killed process, an API that is away)
comes again when its lease ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from airflow_provider_cfqueues.engines.processing.ending import SETTLE_SECONDS, Ending
from airflow_provider_cfqueues.engines.processing.failures import FailureLog
from airflow_provider_cfqueues.engines.processing.handling import Handling
from airflow_provider_cfqueues.engines.processing.holding import Holding
from airflow_provider_cfqueues.engines.processing.journal import Journal
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.processing.pulling import Puller
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.processing.runner import Runner
from airflow_provider_cfqueues.engines.processing.settler import Settler
from airflow_provider_cfqueues.engines.processing.window import Window
from airflow_provider_cfqueues.engines.queue import MessageQueue
from airflow_provider_cfqueues.engines.settlement import (
    Handled,
    Happened,
    Kind,
    Settlement,
    Situation,
    choose_settlement,
)
from airflow_provider_cfqueues.engines.settlement_log import log_settlements
from airflow_provider_cfqueues.engines.waiting import Condition, Idling, utc_now
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.models import Message, PullResult
from airflow_provider_cfqueues.texts import counted, to_reason

MAX_ERROR = 5_000
"""Characters of an error in the log: one that lists a hundred leases is shown whole."""


class Engine:
    """
    Processes a queue once.

    :param queue: the queue.
    :param handler: gets a message, or a list of them, and decides its outcome.
    :param options: how.
    :param now: tells the time that leases are compared with.
    :param log: where failing messages go.
    :param journal: knows what was handled before, and is told what is handled now.
    :param runner: where handlers run.
    """

    def __init__(
        self,
        queue: MessageQueue,
        handler: Callable[[Any], Any],
        options: Options,
        *,
        now: Callable[[], datetime] = utc_now,
        log: Any = None,
        journal: Journal | None = None,
        runner: Runner | None = None,
    ) -> None:
        self.report = Report()
        self.error: Exception | None = None
        self._queue = queue
        self._options = options
        self._now = now
        self._log = log or logging.getLogger(__name__)
        self._situation = Situation(
            consumer=options.consumer, can_dead_letter=queue.can_dead_letter, is_dry_run=options.dry_run
        )
        self.failures = FailureLog(self._log, self._situation, queue.dead_letter_name)
        self._journal = journal
        self._runner = runner or Runner(options.concurrency)
        self._runner.on_error = self._on_error
        self._handling = Handling(
            handler,
            batch_size=options.batch_size,
            max_attempts=options.max_attempts,
            runner=self._runner,
            now=now,
            ends_task=options.ends_task,
            delay=options.delay,
            log=self._log,
        )
        self._holding = Holding()
        self._ending = Ending(options.grace)
        self._window = Window(options)
        self._idling = Idling(options.idle_timeout, options.poll_interval)
        self._condition = Condition()
        self._waiting_workers = 0
        self._busy_seconds = 0.0
        self._began = 0.0
        self._dry_ids: set[str] = set()
        self._pulls_no_more = False
        self._pulling_ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._puller = Puller(
            queue, self._window, self._idling, self._condition, on_pulled=self._take_in, on_error=self._on_error
        )
        self._settler = Settler(
            queue,
            self._situation,
            interval=options.settle_interval,
            report=self.report,
            on_settled=self._on_settled,
            on_error=self._on_error,
            now=now,
            rest=lambda seconds: self._condition.rest(seconds, lambda: self._ending.is_killed),
            log=self._log,
            on_confirmed=None if journal is None else self._forget,
        )

    @property
    def killed(self) -> bool:
        """Whether the task was killed while it ran."""
        return self._ending.is_killed

    @property
    def stopping(self) -> bool:
        """Whether nothing more is pulled or begun."""
        return self._ending.is_stopping

    @property
    def ends_by(self) -> float | None:
        """When the run is over at the latest, by ``time.monotonic``; None as long as it is not killed."""
        return self._ending.by

    def count_unsettled(self) -> int:
        """Return how many messages are handled and not settled yet."""
        return len(self._settler.open_messages())

    def count_unhandled(self) -> int:
        """Return how many messages are pulled whose handler has not come to its end."""
        return len(self._holding)

    def stop(self, *, killed: bool = False) -> None:
        """
        Pull and begin nothing more; safe from any thread and from a signal handler.

        :param killed: running handlers get ``grace`` seconds, not as long as they need, and the end a second more.
        """
        self._ending.stop(killed=killed)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._condition.notify)

    async def run(self) -> Report:
        """
        Process until the queue is idle, a limit is reached, something fails for good, or ``stop`` is called.

        :return: what became of the messages; ``error`` has what failed for good, if anything did.
        """
        self._loop = asyncio.get_running_loop()
        self._began = began = self._clock()
        if self._options.max_duration is not None:
            self._loop.call_later(self._options.max_duration, self._pull_no_more)
        self._await_earlier_leases()
        pulling = self._loop.create_task(self._puller.run(lambda: self.stopping or self._pulls_no_more))
        workers = [self._loop.create_task(self._work()) for _ in range(self._options.concurrency)]
        try:
            await self._until_done(pulling)
            self._pulling_ended = True
            self._condition.notify()
            await self._until_done(*workers)
            ends = await _cancel(pulling, *self._puller.requests, *workers)
            self._give_back(self._leave_running())
            self._give_back(self._holding.give_up_waiting())
            self._window.reopen(len(self._holding.held))
            for settlement in self._holding.give_up_held():
                self._settler.stage(settlement)
            self._settler.flush()
            await self._until_done(*self._settler.requests, beyond_grace=SETTLE_SECONDS)
            await self._settler.give_up()
            self._ending.is_over = True
        finally:
            self.failures.tell()
            await self._runner.end(self._ending.clean_up_seconds)
            self.report.seconds = self._clock() - began
        for end in ends:
            if isinstance(end, Exception):
                raise end
        return self.report

    async def _until_done(self, *tasks: asyncio.Task[None], beyond_grace: float = 0) -> None:
        """Wait for tasks; if the run is killed, only until the grace and ``beyond_grace`` are over."""
        for task in tasks:
            task.add_done_callback(lambda _: self._condition.notify())
        while not all(task.done() for task in tasks):
            if self._ending.notice(now := self._clock()):
                waiting = len(self._holding.waiting)
                self._log.warning(
                    "The task is killed: it gives back %s, and handlers get %g s (grace) for %s",
                    counted(waiting, "waiting message"),
                    self._options.grace,
                    counted(len(self._holding) - waiting, "message"),
                )
                self._give_back(self._holding.give_up_waiting())
                self._settler.flush()  # now, as the API may need the time
            left = self._ending.seconds_left(now, beyond_grace)
            if left is not None and left <= 0:
                return
            await self._condition.wait(timeout=left)

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    def _give_back(self, messages: Iterable[Message]) -> None:
        now = self._now()
        settlements = [
            choose_settlement(
                message,
                Happened.NOT_STARTED,
                self._situation,
                reason="the run ended before its turn",
                delay_seconds=0,
                is_over=message.lease_expires_at is not None and message.lease_expires_at <= now,
            )
            for message in messages
        ]
        log_settlements(self._log, self._queue.name, settlements)
        for settlement in settlements:
            self._settler.stage(settlement)

    def _leave_running(self) -> list[Message]:
        """Give up handlers that outlast the grace; return their messages."""
        messages = list(self._holding.give_up_running())
        if messages:
            places = self._runner.places()
            self._log.warning(
                "Handlers did not end within %g s (grace), and are left behind%s. Not done: %s",
                self._options.grace,
                f" ({places})" if places else "",
                ", ".join(message.id for message in messages),
            )
        return messages

    def name_what_is_open(self) -> None:
        """Name and count what is not settled. That is nothing, unless the run was given up before its end."""
        if self._ending.is_over:
            return
        messages = [*self._holding.all(), *self._settler.open_messages()]
        self.report.fates[Kind.UNCONFIRMED] += len(messages)
        self.report.in_doubt += len(messages)
        why = "the run ended before the API was told of it"
        self.report.unconfirmed.note(self._log, self._queue.name, [(message, why) for message in messages])

    # -- pulling ----------------------------------------------------------------------------------------------------

    def _pull_no_more(self) -> None:
        """Handle what is pulled, but pull nothing more: giving a message back would cost a delivery."""
        self._pulls_no_more = True
        self._condition.notify()

    def _take_in(self, pulled: PullResult, size: int) -> None:
        if pulled.backlog is not None:
            self.report.backlog = pulled.backlog.backlog_count
        self.report.pulled += len(pulled)
        self.report.attempts.update(message.attempts or 0 for message in pulled)
        self._window.take_in(list(pulled))
        if self._options.dry_run:
            self._end_at_repeats(pulled)
        self._window.adapt(
            starving=len(pulled) == size and self._waiting_workers > 0,
            seconds_per_message=self._pace,
        )
        self._holding.waiting.extend(message for message in pulled if not self._ack_again(message))
        self._idling.answered(len(pulled), self._clock())

    def _await_earlier_leases(self) -> None:
        """Put off the end by ``idle_timeout`` while messages that an earlier try handled may still be leased."""
        if self._journal is not None:
            away = self._options.visibility_timeout + (self._situation.known.retry_delay or 0)
            seconds = self._journal.seconds_away(away)
            self._idling.not_before(self._clock() + seconds if seconds else 0)

    def _end_at_repeats(self, pulled: PullResult) -> None:
        """End a dry run that outlasts its leases: its messages would come again until no delivery is left."""
        ids = {message.id for message in pulled}
        if repeated := ids & self._dry_ids:
            self._log.info("Message %s came again: the dry run is longer than its leases, and ends", min(repeated))
            self._pull_no_more()
        self._dry_ids |= ids

    def _ack_again(self, message: Message) -> bool:
        """Ack a message that was handled under an earlier lease; return whether it was."""
        if self._journal is None or message not in self._journal:
            return False
        self._journal.note(message)
        self._window.handled(message)
        self._settler.stage(Settlement(message=message, happened=Happened.HANDLED, kind=Kind.ACKED_FROM_JOURNAL))
        return True

    @property
    def _pace(self) -> float | None:
        """Seconds that a handler took for a message so far."""
        return self._busy_seconds / self.report.handled if self.report.handled else None

    # -- handling ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while messages := await self._next_messages():
                began = self._clock()
                await self._handling.run(messages, lambda: self.stopping, self._settle)
                self._busy_seconds += self._clock() - began
                self._holding.put_back(messages)
                if self._handling.error is not None:
                    self._on_error(self._handling.error)
                self._condition.notify()
        except BaseException:
            self._ending.is_stopping = True  # a worker that is gone must not leave the others to pull for it
            self._condition.notify()
            raise

    async def _next_messages(self) -> list[Message]:
        """Return messages whose turn it is, none where there will not be any."""
        while not self.stopping:
            if waiting := len(self._holding.waiting):
                takes = self._handling.takes
                share = -(-waiting // self._options.concurrency)
                return self._holding.take(takes if self._options.batch_size else min(takes, share))
            if self._pulling_ended:
                break
            self._waiting_workers += 1
            try:
                await self._condition.wait()
            finally:
                self._waiting_workers -= 1
        return []

    # -- settling ---------------------------------------------------------------------------------------------------

    def _settle(self, handled: Handled) -> None:
        message = handled.message
        settlement = choose_settlement(
            message,
            handled.happened,
            self._situation,
            reason=handled.reason,
            delay_seconds=0 if self._options.dry_run else handled.delay_seconds,
            is_over=handled.is_over,
        )
        if not handled.is_over:
            self.report.add(handled, self._options)
            self.report.active_seconds = self._clock() - self._began
            if self._journal is not None:
                (self._journal.note if settlement.kind is Kind.ACKED else self._journal.forget)(message)
        if settlement.reason or settlement.note:
            self.failures.note(handled, settlement)
        self._window.handled(message)
        self._holding.done(message)
        if self._options.dry_run:
            self._holding.held.append(settlement)
            self._window.close(1)  # it waits for the end, not for the window
        else:
            self._settler.stage(settlement)

    def _on_settled(self, count: int, is_confirmed: bool) -> None:
        if is_confirmed:
            self.report.active_seconds = self._clock() - self._began
        self._window.close(count)
        self._condition.notify()

    def _forget(self, message: Message) -> None:
        if self._journal is not None:
            self._journal.forget(message)
            self._await_earlier_leases()

    def _on_error(self, error: BaseException) -> None:
        if not isinstance(error, Exception):  # of a task that a handler left behind: no verdict on a message
            error = RuntimeError(f"An error was raised outside the handlers: {to_reason(error)}")
        if isinstance(error, CloudflareQueuesError):
            error.progress = None  # of one request; the run names what is open itself
        if self.error is None:
            self.error = error
            self._log.error("Processing stops: %s", to_reason(error, MAX_ERROR))
        self._ending.is_stopping = True
        self._condition.notify()


async def _cancel(*tasks: asyncio.Task[None]) -> list[BaseException | None]:
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)
