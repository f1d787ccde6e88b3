"""
Process a queue inside one task: pull ahead, handle, settle by outcome, until there is nothing left to do.

The law of this module: a message that was pulled is *open* until its outcome was sent and answered, and whatever ends
the engine, every open message is either settled by its outcome or given back. What it cannot give back (a killed
process, an API that is away) comes back when its lease ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from airflow_provider_cfqueues.engines.processing.handling import Handling
from airflow_provider_cfqueues.engines.processing.journal import Journal
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.processing.pulling import Puller
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.processing.settler import Settler
from airflow_provider_cfqueues.engines.processing.window import Window
from airflow_provider_cfqueues.engines.queue import MessageQueue
from airflow_provider_cfqueues.engines.settlement import Handled, Settlement, choose_settlement
from airflow_provider_cfqueues.engines.threads import DaemonThreads
from airflow_provider_cfqueues.engines.waiting import Condition, Idling, utc_now
from airflow_provider_cfqueues.models import Message, PullResult
from airflow_provider_cfqueues.outcomes import Reject


class Engine:
    """
    Processes a queue once.

    :param queue: the queue.
    :param handler: gets a message, or a list of them, and decides its outcome.
    :param options: how.
    :param now: tells the time that leases are compared with.
    :param log: where failing messages go.
    :param journal: knows what was handled before, and is told what is handled now.
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
    ) -> None:
        self.report = Report()
        self.error: Exception | None = None
        self._queue = queue
        self._options = options
        self._log = log or logging.getLogger(__name__)
        self._journal = journal
        self._executor = DaemonThreads(options.concurrency, "cloudflare-queue-handler")
        self._handling = Handling(
            handler,
            batch_size=options.batch_size,
            max_attempts=options.max_attempts,
            executor=self._executor,
            now=now,
        )
        self._buffer: deque[Message] = deque()
        self._running: dict[str, Message] = {}
        self._held: list[Settlement] = []
        self._window = Window(options)
        self._idling = Idling(options.idle_timeout, options.poll_interval)
        self._condition = Condition()
        self._waiting_workers = 0
        self._busy_seconds = 0.0
        self._stopping = False
        self._killed = False
        self._grace_ends: float | None = None
        self._pulls_no_more = False
        self._pulling_ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._puller = Puller(
            queue, self._window, self._idling, self._condition, on_pulled=self._take_in, on_error=self._on_error
        )
        self._settler = Settler(
            queue,
            interval=options.settle_interval,
            report=self.report,
            on_settled=self._on_settled,
            on_error=self._on_error,
            leaves=self._leaves,
            on_confirmed=None if journal is None else journal.forget,
        )

    @property
    def killed(self) -> bool:
        """Whether the task was killed while it ran."""
        return self._killed

    @property
    def stopping(self) -> bool:
        """Whether nothing more is pulled or begun."""
        return self._stopping

    def count_unhandled(self) -> int:
        """Return how many messages are pulled whose handler has not come to its end."""
        return len(self._buffer) + len(self._running)

    def stop(self, *, killed: bool = False) -> None:
        """
        Pull and begin nothing more; safe from any thread and from a signal handler.

        :param killed: running handlers get ``grace`` seconds, not as long as they need.
        """
        self._stopping = True
        self._killed = self._killed or killed
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._condition.notify)

    async def run(self) -> Report:
        """
        Process until the queue is idle, a limit is reached, something fails for good, or ``stop`` is called.

        :return: what became of the messages; ``error`` has what failed for good, if anything did.
        """
        self._loop = asyncio.get_running_loop()
        began = self._loop.time()
        if self._options.max_duration is not None:
            self._loop.call_later(self._options.max_duration, self._pull_no_more)
        pulling = self._loop.create_task(self._puller.run(lambda: self._stopping or self._pulls_no_more))
        workers = [self._loop.create_task(self._work()) for _ in range(self._options.concurrency)]
        try:
            await self._until_done(pulling)
            self._pulling_ended = True
            self._condition.notify()
            await self._until_done(*workers)
            if any(worker.cancelled() for worker in workers):
                self._on_error(RuntimeError("A handler cancelled the task that it runs in"))
            ends = await _cancel(pulling, *self._puller.requests, *workers)
            self._give_back([*self._running.values(), *self._buffer])
            self._window.open += len(self._held)
            for settlement in self._held:
                self._settler.stage(settlement)
            await self._settler.drain()
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self.report.seconds = self._loop.time() - began
        for end in ends:
            if isinstance(end, Exception):
                raise end
        return self.report

    async def _until_done(self, *tasks: asyncio.Task[None]) -> None:
        """Wait for tasks as long as they need; once killed, until the grace has passed."""
        while not all(task.done() for task in tasks):
            now = self._clock()
            if self._killed and self._grace_ends is None:
                self._grace_ends = now + self._options.grace
            if self._grace_ends is not None and now >= self._grace_ends:
                return
            await self._condition.wait(*tasks, timeout=None if self._grace_ends is None else self._grace_ends - now)

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    def _give_back(self, messages: list[Message]) -> None:
        for message in messages:
            given_back = Settlement(message=message, kind="retried", delay_seconds=0)
            self._settler.stage(self._keep(given_back, "the run ended before its turn"))
        self._buffer.clear()
        self._running.clear()

    # -- pulling ----------------------------------------------------------------------------------------------------

    def _pull_no_more(self) -> None:
        """Handle what is pulled, and be done: to give a message back would cost it a delivery for nothing."""
        self._pulls_no_more = True
        self._condition.notify()

    def _take_in(self, pulled: PullResult, size: int) -> None:
        if pulled.backlog is not None:
            self.report.backlog = pulled.backlog.backlog_count
        self.report.pulled += len(pulled)
        self.report.attempts.update(message.attempts or 0 for message in pulled)
        self._window.take_in(list(pulled))
        self._window.adapt(
            starving=len(pulled) == size and self._waiting_workers > 0,
            seconds_per_message=self._busy_seconds / self.report.handled if self.report.handled else None,
        )
        self._buffer.extend(message for message in pulled if not self._ack_again(message))
        self._idling.answered(len(pulled), self._clock())

    def _ack_again(self, message: Message) -> bool:
        """Ack a message that was handled under an earlier lease; return whether it was."""
        if self._journal is None or message not in self._journal:
            return False
        self._journal.note(message)
        self._window.handled(message)
        self._settler.stage(Settlement(message=message, kind="acked_from_journal"))
        return True

    # -- handling ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while messages := await self._next_messages():
                began = self._clock()
                await self._handling.run(messages, lambda: self._stopping, self._settle)
                self._busy_seconds += self._clock() - began
                for message in reversed(messages):
                    if self._running.pop(message.lease_id, None):  # its turn did not come
                        self._buffer.appendleft(message)
                if self._handling.error is not None:
                    self._on_error(self._handling.error)
                self._condition.notify()
        except BaseException:
            self._stopping = True  # a worker that is gone must not leave the others to pull for it
            self._condition.notify()
            raise

    async def _next_messages(self) -> list[Message]:
        """Return messages whose turn it is, none where there will not be any."""
        while not self._stopping:
            if self._buffer:
                share = -(-len(self._buffer) // self._options.concurrency)
                takes = self._handling.takes if self._options.batch_size else min(self._handling.takes, share)
                messages = [self._buffer.popleft() for _ in range(min(takes, len(self._buffer)))]
                self._running.update({message.lease_id: message for message in messages})
                return messages
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
        if handled.outcome is None:
            self._close(message)
            late = self._keep(Settlement(message=message, kind="retried"), "its lease ended before its turn")
            if late.kind == "rejected":
                self._settler.stage(late)
                return
            self.report.expired += 1
            self._on_settled(1)
            return
        self.report.add(handled, self._options)
        settlement = choose_settlement(handled, self._options.delay, self._queue.can_dead_letter, self._log)
        settlement = self._keep(settlement, handled.reason)
        if handled.reason:
            lost_reject = isinstance(handled.outcome, Reject) and settlement.kind == "retried"
            why = " (rejected, but there is no dead-letter queue)" if lost_reject else ""
            self._log.warning(
                "Message %s (attempt %s) is %s: %s%s",
                message.id,
                message.attempts,
                settlement.kind,
                handled.reason,
                why,
            )
        self._close(message)
        if self._options.dry_run:
            self._held.append(Settlement(message=message, kind="retried", delay_seconds=0))
            self._window.open -= 1  # it waits for the end, not for the window
        else:
            self._settler.stage(settlement)
            if self._journal is not None:
                (self._journal.note if settlement.kind == "acked" else self._journal.forget)(message)

    def _keep(self, settlement: Settlement, reason: str) -> Settlement:
        """Return how a message outlives what may be its last delivery; say what becomes of it where it cannot."""
        consumer, message = self._options.consumer, settlement.message
        if settlement.kind != "retried" or consumer is None or not consumer.is_last_delivery(message.attempts):
            return settlement
        if consumer.dead_letter_queue is None and self._queue.can_dead_letter and not self._options.dry_run:
            return Settlement(message=message, kind="rejected", reason=f"delivered {message.attempts} times; {reason}")
        self.report.exhausted += 1
        self._log.warning(
            "Message %s was delivered %s times: Cloudflare %s now, or after its next delivery",
            message.id,
            message.attempts,
            consumer.takes_away,
        )
        return settlement

    def _leaves(self, message: Message) -> bool:
        """Whether giving back a message could delete it, now that no copy of it could be sent."""
        consumer = self._options.consumer
        if consumer is None or consumer.dead_letter_queue or not consumer.is_last_delivery(message.attempts):
            return False
        self.report.exhausted += 1
        ends = message.lease_expires_at
        self._log.error(
            "Message %s was delivered %s times, and the dead-letter queue did not accept its copy: Cloudflare DELETES "
            "it when its lease ends, at %s UTC. Before that, raise max_retries of the queue's consumer, or set a "
            "dead-letter queue there",
            message.id,
            message.attempts,
            f"{ends:%H:%M:%S}" if ends else "a time that is not known",
        )
        return True

    def _close(self, message: Message) -> None:
        self._window.handled(message)
        del self._running[message.lease_id]

    def _on_settled(self, count: int) -> None:
        self._window.open -= count
        self._condition.notify()

    def _on_error(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._log.error("Processing stops: %s", error)
        self._stopping = True
        self._condition.notify()


async def _cancel(*tasks: asyncio.Task[None]) -> list[BaseException | None]:
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)
