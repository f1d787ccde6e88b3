"""
Empty a queue into a file: pull, write, sync, and only then ack.

Batches overlap, so that latency does not count: while one is written, others are pulled and acked. One thread writes
them, one after the other. Nothing is pulled after something went wrong. A line can come twice in the file; no message
is acked that is not in it.
"""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from collections.abc import Callable, Sequence

from airflow_provider_cfqueues.arguments import parse_count, parse_optional, parse_seconds, parse_visibility_timeout
from airflow_provider_cfqueues.cli.drained import Drained
from airflow_provider_cfqueues.cli.running import (
    FAILED,
    INTERRUPTED,
    command,
    count_backlog,
    describe,
    find_queue,
    told_to_stop,
)
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.cli.sink import Sink, open_sink
from airflow_provider_cfqueues.engines.course import Course
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Case, Happened, Kind, Situation, choose_settlement
from airflow_provider_cfqueues.engines.settlement_log import log_settlements
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.engines.threads import DaemonThreads, run_beside
from airflow_provider_cfqueues.engines.waiting import Idling
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.texts import to_reason

BATCH = 100
MAX_BATCHES = 20
MAX_BYTES = 32_000_000
"""Of the lines of all batches under way; decoded, their messages take about twice as much memory."""
LOOKS = 5
"""An empty queue is looked at again after this part of the time that it may be empty, and after twice that."""


@command
def drain(arguments: Namespace, hook: CloudflareQueuesHook, screen: Screen) -> int:
    """Pull messages into a file, and ack what is written."""
    limit = parse_optional(parse_count, arguments.max_messages, "max_messages")
    idle_timeout = parse_seconds(arguments.idle_timeout, "idle_timeout")
    parse_visibility_timeout(arguments.visibility_timeout)
    queue = HookQueue(hook, find_queue(hook, arguments.queue), visibility_timeout=arguments.visibility_timeout)
    with open_sink(arguments.output, screen.out, screen.note) as sink:
        to_stdout = arguments.output == "-"
        told = screen.on_stderr() if to_stdout else screen
        draining = Drain(queue, sink, idle_timeout=idle_timeout, max_messages=limit)
        try:
            with (
                screen.progress(f"Draining {arguments.queue}", limit=limit, shown=not to_stdout) as advance,
                told_to_stop(screen, draining.course.stop) as stop,
            ):
                draining.run(advance)
            draining.report.backlog = count_backlog(hook, queue.queue_id)
        except BrokenPipeError:
            screen.note(f"The reader of {sink.name} has ended, and may not have read all lines. Use a file instead")
            raise
        finally:
            told.result(draining.report.facts(), draining.report.summary(arguments.queue, sink.name))
    if stop.is_set():
        return INTERRUPTED
    return FAILED if draining.report.held else 0


class Drain:
    """
    Empties a queue, and counts.

    :param sink: where the messages go.
    :param idle_timeout: end when the queue gave nothing for so many seconds.
    :param max_messages: at most so many; None = no limit.
    """

    def __init__(self, queue: HookQueue, sink: Sink, *, idle_timeout: float, max_messages: int | None) -> None:
        self._queue = queue
        self._sink = sink
        self._max_messages = max_messages
        self._idling = Idling(idle_timeout, idle_timeout / LOOKS)
        self._writer = DaemonThreads(1, "cloudflare-queue-writer")
        self.course = Course()
        """If it is stopped, what is leased is written and acked; if it is killed, nothing is waited for."""
        self._batches: list[asyncio.Task[None]] = []
        self._width = 1
        self._asked_for = 0
        self._failure: OSError | None = None
        self._error: Exception | None = None
        self.report = Drained(queue.queue_id, queue.visibility_timeout)

    def run(self, advance: Callable[..., None]) -> None:
        """
        Go on until the queue gives nothing any more, the limit is reached, or it is told to stop.

        :param advance: is told how many more are acked, and how many there are in all.
        :raises OSError: a message could not be written; those that are written and synced are acked, the rest is given
            back.
        :raises CloudflareQueuesError: a request failed for good.
        """
        consumer = self._queue.hook.get_pull_consumer(self._queue.queue_id)
        self._queue.situation = Situation(consumer=consumer)
        run_beside(self._run(advance), self.course.stop, lambda: self.course.killed_at)
        if self._failure is not None and self._error is not None:
            raise OSError(f"{self._failure}. Then a request failed, too: {describe(self._error)}") from self._error
        if error := self._failure or self._error:
            raise error

    async def _run(self, advance: Callable[..., None]) -> None:
        self.course.begin()
        try:
            while size := await self._wait_for_turn():
                self._asked_for += size
                self._batches.append(asyncio.create_task(self._move(size, advance)))
            if self._batches:
                await asyncio.wait(self._batches)
        finally:
            self._writer.end()
            await self._queue.hook.aclose()

    async def _wait_for_turn(self) -> int:
        """Wait until another batch may be pulled; return how many messages, 0 at the end."""
        while not (self.course.is_stopping or self._failure or self._error):
            now = self.course.clock()
            self._batches = self._under_way()
            left = BATCH if self._max_messages is None else min(BATCH, self._max_messages - self._asked_for)
            if not self._batches and (left <= 0 or self._idling.is_over(now)):
                break
            if left > 0 and len(self._batches) < self._width and not self._idling.is_early(now):
                return left
            await self.course.wait(*self._batches, timeout=self._idling.seconds_left(now))
        return 0

    def _under_way(self) -> list[asyncio.Task[None]]:
        return [batch for batch in self._batches if not batch.done()]

    async def _move(self, size: int, advance: Callable[..., None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            pulled = await self._queue.pull(size)
            self._asked_for -= size - len(pulled)
            if pulled or len(self._under_way()) == 1:  # beside others, it may be that they got what there was
                self._idling.answered(len(pulled), loop.time())
            if not pulled:
                self._width = 1
                return
            self.report.held |= {message.lease_id: message.id for message in pulled}
            written, most = await loop.run_in_executor(self._writer, self._write, pulled.messages)
            self.report.written += written
            is_more_waiting = len(pulled) * 2 >= size
            self._width = max(1, min(self._width * 2 if is_more_waiting else self._width, most))
            self.course.notify()
            acked = await self._settle(pulled.messages, written)
            advance(acked, self.report.fates[Kind.ACKED] + pulled.backlog.backlog_count if pulled.backlog else None)
        except Exception as error:  # noqa: BLE001 - raised again once all that is leased is settled
            self._error = self._error or error

    def _write(self, messages: Sequence[Message]) -> tuple[int, int]:
        """
        Write messages, unless that failed before; return how many are on the disk, and how many batches may be open.

        If all batches are like this one, so many fit into memory and are written within half of a lease.
        """
        count = size = 0
        if self._failure is not None:
            return 0, 1
        began = time.monotonic()
        try:
            for message in messages:
                size += self._sink.write(message)
                count += 1
        except OSError as error:
            self._failure = error
        try:
            self._sink.sync()
        except OSError as error:
            self._failure = self._failure or error
            return 0, 1
        took = max(0.001, time.monotonic() - began)
        return count, min(MAX_BATCHES, MAX_BYTES // max(1, size), int(self._queue.visibility_timeout / 2 / took))

    async def _settle(self, messages: Sequence[Message], written: int) -> int:
        situation, log = self._queue.situation, self._queue.hook.log
        cases = [Case(message=message, happened=Happened.HANDLED) for message in messages[:written]]
        cases += [
            Case(message=message, happened=Happened.NOT_STARTED, reason="it could not be written", delay_seconds=0)
            for message in messages[written:]
        ]
        settlements = [choose_settlement(case, situation) for case in cases]
        log_settlements(log, self._queue.name, settlements)
        settling = Settling(settlements, situation)
        try:
            await self._queue.settle(settling)
        finally:
            log_settlements(log, self._queue.name, settling.changed)
            for settlement, confirmed in settling.settled:
                if confirmed:
                    self.report.held.pop(settlement.message.lease_id, None)
            self.report.texts |= {one.lease_id: to_reason(text) for one, text in settling.unconfirmed("") if text}
            counts = settling.counts()
            self.report.fates += counts
        return counts[Kind.ACKED]
