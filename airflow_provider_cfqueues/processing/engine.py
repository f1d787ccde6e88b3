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
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any, cast

from airflow_provider_cfqueues.api import MAX_MESSAGES_PER_PULL
from airflow_provider_cfqueues.arguments import parse_delay
from airflow_provider_cfqueues.delays import is_rule
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.models import Message, PullResult
from airflow_provider_cfqueues.outcomes import Reject, Retry
from airflow_provider_cfqueues.processing.handling import Handled, Handling
from airflow_provider_cfqueues.processing.options import Options
from airflow_provider_cfqueues.processing.report import Failure, Report
from airflow_provider_cfqueues.processing.settling import QueuePort, Settlement, Settler

MAX_WINDOW = 4_000
MAX_OPEN_BYTES = 64_000_000
LEASE_SHARE = 0.25
"""Messages are pulled ahead for at most this share of their lease, by the pace of the handlers so far."""
GROWTH = 4


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(timezone.utc)


class Engine:
    """
    Processes a queue once.

    :param port: the queue.
    :param handler: gets a message, or a list of them, and decides its outcome.
    :param options: how.
    :param now: tells the time that leases are compared with.
    :param log: where failing messages go.
    """

    def __init__(
        self,
        port: QueuePort,
        handler: Callable[[Any], Any],
        options: Options,
        *,
        now: Callable[[], datetime] = utc_now,
        log: Any = None,
    ) -> None:
        self.report = Report()
        self.error: Exception | None = None
        self._port = port
        self._options = options
        self._now = now
        self._log = log or logging.getLogger(__name__)
        self._executor = ThreadPoolExecutor(options.concurrency, "cloudflare-queue-handler")
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
        self._open = 0
        self._open_bytes = 0
        self._requested = 0
        self._window = self._first_window()
        self._waiting_workers = 0
        self._busy_seconds = 0.0
        self._stopping = False
        self._killed = False
        self._grace_ends: float | None = None
        self._pulling_ended = False
        self._idle_since: float | None = None
        self._next_poll = 0.0
        self._poll_wait = options.poll_interval
        self._pulls: set[asyncio.Task[None]] = set()
        self._waiters: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._settler = Settler(
            port,
            interval=options.settle_interval,
            report=self.report,
            on_settled=self._on_settled,
            on_error=self._on_error,
        )

    def _first_window(self) -> int:
        expected = self._options.expected_seconds_per_message
        smallest = self._options.concurrency * (self._options.batch_size or 1)
        return smallest if expected is None else max(smallest, min(MAX_WINDOW, int(self._ahead_by(expected))))

    def _ahead_by(self, seconds_per_message: float) -> float:
        pace = self._options.concurrency / max(seconds_per_message, 1e-6)
        return pace * self._options.visibility_timeout * LEASE_SHARE

    @property
    def killed(self) -> bool:
        """Whether the task was killed while it ran."""
        return self._killed

    def stop(self, *, killed: bool = False) -> None:
        """
        Pull and begin nothing more; safe from any thread and from a signal handler.

        :param killed: running handlers get ``grace`` seconds, not as long as they need.
        """
        self._stopping = True
        self._killed = self._killed or killed
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._notify)

    async def run(self) -> Report:
        """
        Process until the queue is idle, a limit is reached, something fails for good, or ``stop`` is called.

        :return: what became of the messages; ``error`` has what failed for good, if anything did.
        """
        self._loop = asyncio.get_running_loop()
        began = self._loop.time()
        pulling = self._loop.create_task(self._pull_until_done(began))
        workers = [self._loop.create_task(self._work()) for _ in range(self._options.concurrency)]
        try:
            await self._until_done(pulling)
            self._pulling_ended = True
            self._notify()
            await self._until_done(*workers)
            ends = await _cancel(pulling, *self._pulls, *workers)
            self._give_back([*self._running.values(), *self._buffer])
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
            await self._change(*tasks, timeout=None if self._grace_ends is None else self._grace_ends - now)

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def _change(self, *tasks: asyncio.Task[None], timeout: float | None = None) -> None:
        """Wait until a message came, was handled or settled, the engine is to stop, a task ended, or time is up."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)  # before the first await: nothing that happens from here on is missed
        await asyncio.wait({waiter, *tasks}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        self._waiters.discard(waiter)

    def _give_back(self, messages: list[Message]) -> None:
        for message in messages:
            self._settler.stage(Settlement(message=message, kind="retried", delay_seconds=0))
        self._buffer.clear()
        self._running.clear()

    # -- pulling ----------------------------------------------------------------------------------------------------

    async def _pull_until_done(self, began: float) -> None:
        ends_at = None if self._options.max_duration is None else began + self._options.max_duration
        while True:
            now = self._clock()
            if ends_at is not None and now >= ends_at:
                self._stopping = True
            if self._stopping or self._is_spent() or self._is_idle(now):
                if not self._pulls:
                    return
            else:
                for size in self._sizes(now):
                    self._requested += size
                    pull = asyncio.get_running_loop().create_task(self._pull(size))
                    self._pulls.add(pull)
                    pull.add_done_callback(self._pull_ended)
            await self._change(timeout=self._until_next(now, ends_at))

    def _pull_ended(self, pull: asyncio.Task[None]) -> None:
        self._pulls.discard(pull)
        self._notify()

    def _is_spent(self) -> bool:
        limit = self._options.max_messages
        return limit is not None and self.report.pulled + self._requested >= limit

    def _is_idle(self, now: float) -> bool:
        timeout = self._options.idle_timeout
        return timeout is not None and self._idle_since is not None and now - self._idle_since >= timeout

    def _until_next(self, now: float, ends_at: float | None) -> float | None:
        moments = [ends_at]
        if self._idle_since is not None and not self._stopping:
            moments.append(self._next_poll)
            if self._options.idle_timeout is not None:
                moments.append(self._idle_since + self._options.idle_timeout)
        later = [moment - now for moment in moments if moment is not None and moment > now]
        return min(later) if later else None

    def _sizes(self, now: float) -> list[int]:
        """Return the sizes of the pulls to begin now: none for less than half a window, one at a time while idle."""
        if self._idle_since is not None and (self._pulls or now < self._next_poll):
            return []
        room = self._window - self._open - self._requested
        if room < min(self._window / 2, MAX_MESSAGES_PER_PULL) or self._open_bytes > MAX_OPEN_BYTES:
            return []
        if self._options.max_messages is not None:
            room = min(room, self._options.max_messages - self.report.pulled - self._requested)
        sizes = [MAX_MESSAGES_PER_PULL] * (room // MAX_MESSAGES_PER_PULL) + [room % MAX_MESSAGES_PER_PULL]
        sizes = [size for size in sizes if size > 0]
        return sizes[:1] if self._idle_since is not None else sizes

    async def _pull(self, size: int) -> None:
        try:
            self._take_in(await self._port.pull(size), size)
        except CloudflareQueuesError as error:
            self._on_error(error)
        finally:
            self._requested -= size

    def _take_in(self, pulled: PullResult, size: int) -> None:
        if pulled.backlog is not None:
            self.report.backlog = pulled.backlog.backlog_count
        self.report.pulled += len(pulled)
        self._open += len(pulled)
        for message in pulled:
            self.report.attempts[message.attempts or 0] += 1
            self._open_bytes += _size(message)
        if len(pulled) == size and self._waiting_workers:
            self._window = min(MAX_WINDOW, self._window * GROWTH)
        if self.report.handled:
            pace = self._busy_seconds / self.report.handled
            self._window = max(self._first_window(), min(self._window, int(self._ahead_by(pace))))
        self._buffer.extend(pulled)
        if pulled:
            self._idle_since = None
            self._poll_wait = self._options.poll_interval
        else:
            now = self._clock()
            self._idle_since = now if self._idle_since is None else self._idle_since
            self._next_poll = now + self._poll_wait
            self._poll_wait = min(30.0, self._poll_wait * 2)

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
                self._notify()
        except BaseException:
            self._stopping = True  # a worker that is gone must not leave the others to pull for it
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
                await self._change()
            finally:
                self._waiting_workers -= 1
        return []

    # -- settling ---------------------------------------------------------------------------------------------------

    def _settle(self, handled: Handled) -> None:
        message = handled.message
        if handled.outcome is None:
            self._close(message)
            self.report.expired += 1
            self._on_settled(1)
            return
        self.report.handled += 1
        self._note_lease(handled)
        if handled.failed:
            self.report.add_failure(Failure(message.id, message.attempts, handled.reason))
        elif len(self.report.results) < self._options.keep_results:
            self.report.results.append(handled.result)
        settlement = self._settlement(handled)
        if handled.reason:
            self._log.warning(
                "Message %s (attempt %s) is %s: %s", message.id, message.attempts, settlement.kind, handled.reason
            )
        self._close(message)
        if self._options.dry_run:
            self._held.append(Settlement(message=message, kind="retried", delay_seconds=0))
            self._open -= 1  # it waits for the end, not for the window
        else:
            self._settler.stage(settlement)

    def _close(self, message: Message) -> None:
        self._open_bytes -= _size(message)
        del self._running[message.lease_id]

    def _note_lease(self, handled: Handled) -> None:
        if (expires := handled.message.lease_expires_at) is None:
            return
        left = (expires - handled.finished_at).total_seconds() / self._options.visibility_timeout
        self.report.closest = min(self.report.closest, left)
        self.report.late += left < 0

    def _settlement(self, handled: Handled) -> Settlement:
        """Decide what the API is told of a message."""
        message, outcome = handled.message, handled.outcome
        if isinstance(outcome, Reject) and self._port.can_dead_letter:
            return Settlement(message=message, kind="rejected", reason=handled.reason)
        if isinstance(outcome, (Reject, Retry)):
            asked = outcome.delay_seconds if isinstance(outcome, Retry) else None
            return Settlement(message=message, kind="retried", delay_seconds=self._delay(message, asked))
        return Settlement(message=message, kind="acked")

    def _delay(self, message: Message, asked: float | None) -> int | None:
        rule = self._options.delay
        if asked is None:
            asked = rule.seconds(message) if is_rule(rule) else cast("int | None", rule)
        try:
            return parse_delay(asked)
        except (TypeError, ValueError) as error:
            self._log.warning("Message %s waits the consumer's retry_delay: %s", message.id, error)
            return None

    def _on_settled(self, count: int) -> None:
        self._open -= count
        self._notify()

    def _on_error(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._log.error("Processing stops: %s", error)
        self._stopping = True
        self._notify()


async def _cancel(*tasks: asyncio.Task[None]) -> list[BaseException | None]:
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


def _size(message: Message) -> int:
    return len(message.raw_body) if isinstance(message.raw_body, str) else 1_000
