"""
Process a queue inside one task: pull ahead, handle, settle by outcome, until there is nothing left to do.

A message that was pulled is *open* until its outcome was sent and answered. Whatever ends the engine, every open
message is either settled by its outcome or given back. If it cannot be given back (the process was killed, or the API
does not answer), it is delivered again when its lease ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from airflow_provider_cfqueues.engines.processing.failures import FailureLog
from airflow_provider_cfqueues.engines.processing.handling import Handling
from airflow_provider_cfqueues.engines.processing.journal import Journal, ack_again
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.processing.pulling import Puller
from airflow_provider_cfqueues.engines.processing.report import Handled, Report
from airflow_provider_cfqueues.engines.processing.runner import Runner
from airflow_provider_cfqueues.engines.processing.settler import Settler
from airflow_provider_cfqueues.engines.processing.state import RunState
from airflow_provider_cfqueues.engines.processing.workers import Workers
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Case, Happened, Kind, Settlement, choose_settlement
from airflow_provider_cfqueues.engines.settlement_log import log_settlements
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.engines.waiting import utc_now
from airflow_provider_cfqueues.models import Message, PullResult
from airflow_provider_cfqueues.texts import counted

END_SECONDS = 1
"""Seconds after the grace in which a killed run ends, whatever handlers and API do."""
SETTLE_SECONDS = 0.7
"""Seconds after the grace in which requests are waited for; the rest of the second is for what follows."""
CLEAN_UP_SECONDS = 1
"""How long tasks that handlers left behind may clean up if the run is not killed."""


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
        queue: HookQueue,
        handler: Callable[[Any], Any],
        options: Options,
        *,
        now: Callable[[], datetime] = utc_now,
        log: Any = None,
        journal: Journal | None = None,
        runner: Runner | None = None,
    ) -> None:
        self._log = log or logging.getLogger(__name__)
        self.state = RunState(queue, options, now, self._log)
        self.report = self.state.report
        self.failures = FailureLog(self.state)
        self._options = options
        self.journal = journal
        self._runner = runner or Runner(options.concurrency)
        self._runner.on_error = self.state.fail
        self._handling = Handling(handler, self._runner, self.state)
        self._workers = Workers(self.state, self._handling, self._settle)
        self._puller = Puller(self.state, self._take_in)
        self._window = self._puller.window
        self._settler = Settler(self.state, self._on_settled)
        self._began = 0.0
        self._is_hurrying = self._is_over = False

    def count_unsettled(self) -> int:
        """Return how many settlements the API was sent, and did not confirm yet."""
        return sum(map(len, self._settler.requests.values()))

    def count_unhandled(self) -> int:
        """Return how many messages are pulled whose handler has not come to its end."""
        return len(self._workers.messages)

    def stop(self, *, killed: bool = False) -> None:
        """
        Pull and begin nothing more; safe from any thread and from a signal handler.

        :param killed: running handlers get ``grace`` seconds, not as long as they need, and the end a second more.
        """
        self.state.stop(killed=killed)

    def ends_by(self) -> float | None:
        """Return when a run that is killed is over at the latest, by ``time.monotonic``."""
        killed_at = self.state.killed_at
        return None if killed_at is None else killed_at + self._options.grace + END_SECONDS

    async def run(self) -> Report:
        """
        Process until the queue is idle, a limit is reached, something fails for good, or ``stop`` is called.

        :return: what became of the messages; ``state.error`` has what failed for good, if anything did.
        """
        loop = asyncio.get_running_loop()
        self.state.begin()
        self._began = self.state.clock()
        if self._options.max_duration is not None:
            loop.call_later(self._options.max_duration, self._puller.pull_no_more)
        self._await_earlier_leases()
        pulling = loop.create_task(self._puller.run())
        workers = self._workers.start()
        try:
            await self._until_done(pulling)
            self._workers.end_when_idle()
            await self._until_done(*workers)
            ends = await _cancel(pulling, *self._puller.requests, *workers)
            self._give_back(self._leave_running(), "the run ended before its handler did")
            self._give_back_waiting()
            self._settler.flush()
            await self._until_done(*self._settler.requests, beyond_grace=SETTLE_SECONDS)
            await self._settler.give_up()
            self._is_over = True
        finally:
            self.failures.tell()
            await self._runner.end(0 if self.state.is_killed else CLEAN_UP_SECONDS)
            self.report.seconds = self.state.clock() - self._began
        for end in ends:
            if isinstance(end, Exception):
                raise end
        return self.report

    async def _until_done(self, *tasks: asyncio.Task[None], beyond_grace: float = 0) -> None:
        """Wait for tasks; if the run is killed, only until the grace and ``beyond_grace`` are over."""
        for task in tasks:
            task.add_done_callback(lambda _: self.state.notify())
        while not all(task.done() for task in tasks):
            if self.state.is_killed and not self._is_hurrying:
                self._is_hurrying = True
                waiting = len(self._workers.waiting)
                self._log.warning(
                    "The task must stop: it gives back %s that no handler has begun, and handlers get %g s (grace) to "
                    "finish %s",
                    counted(waiting, "message"),
                    self._options.grace,
                    counted(self.count_unhandled() - waiting, "message"),
                )
                self._settler.flush()  # now, as the API may need the time
            if self.state.is_stopping:  # at once: the leases may end before the handlers that still run do
                self._give_back_waiting()
            left = self.state.seconds_left(beyond_grace)
            if left is not None and left <= 0:
                return
            await self.state.wait(timeout=left)

    def _give_back_waiting(self) -> None:
        if self._workers.waiting:
            self._give_back(self._workers.give_up_waiting(), "the run ended before a handler took it")
            self._settler.flush()

    def _give_back(self, messages: Iterable[Message], reason: str) -> None:
        now = self.state.now()
        cases = [
            Case(
                message=message,
                happened=Happened.NOT_STARTED,
                reason=reason,
                delay_seconds=0,
                is_over=message.lease_expires_at is not None and message.lease_expires_at <= now,
            )
            for message in messages
        ]
        settlements = [choose_settlement(case, self.state.situation) for case in cases]
        log_settlements(self._log, self.state.queue.name, settlements)
        for settlement in settlements:
            self._stage(settlement)

    def _leave_running(self) -> list[Message]:
        """Give up handlers that outlast the grace; return their messages."""
        messages = self._workers.give_up_running()
        if messages:
            places = self._runner.places()
            self._log.warning(
                "Handlers did not end within %g s (grace)%s. The task ends without them. Messages not done: %s",
                self._options.grace,
                f": {places}" if places else "",
                ", ".join(message.id for message in messages),
            )
        return messages

    def name_what_is_open(self) -> None:
        """Name and count what is not settled. That is nothing, unless the run was given up before its end."""
        if self._is_over:
            return
        messages = [*self._workers.messages, *self._settler.open_messages()]
        self.report.fates[Kind.UNCONFIRMED] += len(messages)
        self.report.in_doubt += len(messages)
        why = "the run ended first"
        self.report.unconfirmed.note(self._log, self.state.queue.name, [(message, why) for message in messages])

    def _take_in(self, pulled: PullResult, size: int) -> None:
        starving = len(pulled) == size and self._workers.are_idle
        self._window.adapt(starving=starving, seconds_per_message=self._workers.pace)
        self._workers.waiting.extend(message for message in pulled if not self._ack_again(message))

    def _await_earlier_leases(self) -> None:
        """Put off the end by ``idle_timeout`` while messages that an earlier try handled may still be leased."""
        if self.journal is not None:
            away = self._options.visibility_timeout + (self.state.situation.known.retry_delay or 0)
            seconds = self.journal.seconds_away(away)
            self._puller.idling.not_before(self.state.clock() + seconds if seconds else 0)

    def _ack_again(self, message: Message) -> bool:
        """Ack a message that was handled under an earlier lease; return whether it was."""
        if self.journal is None or message not in self.journal:
            return False
        self.journal.note(message)
        self._window.handled(message)
        self._settler.stage(ack_again(message))
        return True

    def _settle(self, handled: Handled) -> None:
        message = handled.message
        settlement = choose_settlement(handled, self.state.situation)
        if handled.happened is not Happened.NOT_STARTED:
            self.report.add(handled, self._options)
            self.report.activity.progressed(self.state.clock())
            if self.journal is not None:
                (self.journal.note if settlement.kind is Kind.ACKED else self.journal.forget)(message)
        if settlement.why:
            self.failures.note(handled, settlement)
        self._workers.done(message)
        self._window.handled(message)
        self._stage(settlement)

    def _stage(self, settlement: Settlement) -> None:
        if self._options.dry_run:
            self._window.close(1)  # it waits for the end of the run, and not for room
        self._settler.stage(settlement)

    def _on_settled(self, settling: Settling) -> None:
        confirmed = [one.message for one, is_confirmed in settling.settled if is_confirmed]
        if confirmed:
            self.report.activity.progressed(self.state.clock())
        if self.journal is not None:
            for message in confirmed:
                self.journal.forget(message)
            self._await_earlier_leases()
        if not self._options.dry_run:
            self._window.close(len(settling.settled) + len(settling.open))
        self.state.notify()


async def _cancel(*tasks: asyncio.Task[None]) -> list[BaseException | None]:
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)
