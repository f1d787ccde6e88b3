"""
Empty a queue into a file: pull, write, sync, and only then ack.

One batch is leased at a time, and none after something went wrong. A line can come twice in the file; no message is
acked that is not in it.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

from airflow_provider_cfqueues.arguments import parse_count, parse_seconds, parse_visibility_timeout
from airflow_provider_cfqueues.cli.formats import number
from airflow_provider_cfqueues.cli.lookup import find_queue
from airflow_provider_cfqueues.cli.running import FAILED, INTERRUPTED, command, describe, told_to_stop
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.cli.sink import Sink, open_sink
from airflow_provider_cfqueues.engines.settlement import (
    Happened,
    Kind,
    Situation,
    choose_settlement,
)
from airflow_provider_cfqueues.engines.settlement_log import log_settlements
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.engines.waiting import Idling
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, shorten_lease
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Message, PullResult
from airflow_provider_cfqueues.texts import counted, to_reason

BATCH = 100
LOOKS = 5
"""An empty queue is looked at again after this part of the time that it may be empty, and after twice that."""
MAX_LISTED = 100


@command
def drain(arguments: Namespace, screen: Screen) -> int:
    """Pull messages into a file, and ack what is written."""
    limit = None if arguments.max is None else parse_count(arguments.max, "--max")
    idle_timeout = parse_seconds(arguments.idle_timeout, "--idle-timeout")
    parse_visibility_timeout(arguments.visibility_timeout)
    hook = CloudflareQueuesHook(arguments.conn_id)
    queue_id = find_queue(hook, arguments.queue)
    backlog = hook.get_metrics(queue_id).backlog_count
    total = backlog if limit is None else min(backlog, limit)
    with open_sink(arguments.output, screen.out, screen.note) as sink:
        to_stdout = arguments.output == "-"
        told = screen.on_stderr() if to_stdout else screen
        drained = Drain(hook, queue_id, sink, visibility_timeout=arguments.visibility_timeout)
        try:
            with (
                screen.progress(f"Draining {arguments.queue}", total, shown=not to_stdout) as advance,
                told_to_stop(screen) as stop,
            ):
                drained.run(limit, idle_timeout=idle_timeout, stop=stop, advance=advance)
        finally:
            told.result(drained.facts(), drained.summary(arguments.queue))
    if stop.is_set():
        return INTERRUPTED
    return FAILED if drained.held else 0


class Drain:
    """
    Empties a queue, and counts.

    :param hook: the hook.
    :param queue_id: ID of the queue.
    :param sink: where the messages go.
    :param visibility_timeout: seconds that the leases last.
    """

    def __init__(self, hook: CloudflareQueuesHook, queue_id: str, sink: Sink, *, visibility_timeout: float) -> None:
        self._hook = hook
        self._queue_id = queue_id
        self._sink = sink
        self._visibility_timeout = visibility_timeout
        self._backlog: int | None = None
        self.written = 0
        self.fates: Counter[Kind] = Counter()
        self.held: dict[str, str] = {}
        """The leases that are not known to be settled, with the IDs of their messages."""
        self._texts: dict[str, str] = {}

    def run(
        self, max_messages: int | None, *, idle_timeout: float, stop: Event, advance: Callable[[int], None]
    ) -> None:
        """
        Go on until the queue gives nothing any more, the limit is reached, or it is told to stop.

        :param max_messages: at most so many; None = no limit.
        :param idle_timeout: seconds that the queue gives nothing.
        :param stop: is set to stop.
        :param advance: is told how many more are acked.
        :raises OSError: a message could not be written; those that are written and synced are acked, the rest is given
            back.
        :raises CloudflareQueuesError: a request failed for good.
        """
        idling = Idling(idle_timeout, idle_timeout / LOOKS)
        while not stop.is_set():
            left = BATCH if max_messages is None else max_messages - self.written
            if left <= 0:
                return
            pulled = self._hook.pull(
                self._queue_id, max_messages=min(BATCH, left), visibility_timeout=self._visibility_timeout
            )
            now = time.monotonic()
            idling.answered(len(pulled), now)
            if pulled:
                advance(self._move(pulled))
                continue
            self._backlog = pulled.backlog.backlog_count if pulled.backlog else None
            if idling.is_over(now):
                return
            stop.wait(idling.seconds_left(now))

    def _move(self, pulled: PullResult) -> int:
        self.held |= {message.lease_id: message.id for message in pulled}
        written, failure = self._write(pulled)
        self.written += written
        try:
            acked = self._settle(pulled, written)
        except CloudflareQueuesError as error:
            if failure is None:
                raise
            raise OSError(f"{failure}. Then the leases could not be settled either: {describe(error)}") from error
        if failure is not None:
            raise failure
        return acked

    def _write(self, messages: Sequence[Message]) -> tuple[int, OSError | None]:
        """Return how many messages are on the disk, and what kept the others from it."""
        count, failure = 0, None
        try:
            while count < len(messages):
                self._sink.write(messages[count])
                count += 1
        except OSError as error:
            failure = error
        try:
            self._sink.sync()
        except OSError as error:
            return 0, failure or error
        return count, failure

    def _settle(self, pulled: PullResult, written: int) -> int:
        situation = Situation(consumer=pulled.consumer, can_dead_letter=False)
        settlements = [
            choose_settlement(
                message,
                Happened.HANDLED if position < written else Happened.NOT_STARTED,
                situation,
                reason="" if position < written else "it could not be written",
                delay_seconds=0,
            )
            for position, message in enumerate(pulled)
        ]
        log_settlements(self._hook.log, self._hook.name_of(self._queue_id), settlements)
        settling = Settling(settlements, situation)
        result = self._hook.run(settling.send(self._queue_id, None))
        self._texts |= {lease_id: to_reason(text) for lease_id, text in result.warnings.items()}
        log_settlements(self._hook.log, self._hook.name_of(self._queue_id), settling.changed)
        for settlement, confirmed in settling.settled:
            if confirmed:
                self.held.pop(settlement.message.lease_id, None)
        counts = settling.counts()
        self.fates += counts
        return counts[Kind.ACKED]

    def facts(self) -> dict[str, Any]:
        """Return what was done, as plain JSON values."""
        listed = [
            {
                "message_id": message_id,
                "lease": shorten_lease(lease_id),
                **({"text": self._texts[lease_id]} if lease_id in self._texts else {}),
            }
            for lease_id, message_id in self.held.items()
        ]
        return {
            "queue_id": self._queue_id,
            "written": self.written,
            "acked": self.fates[Kind.ACKED],
            "given_back": self.fates[Kind.RETRIED],
            "renewed": self.fates[Kind.RENEWED],
            "unconfirmed": len(self.held),
            "not_confirmed": listed[:MAX_LISTED],
            "backlog_count": self._backlog,
        }

    def summary(self, queue: str) -> str:
        """
        Return what was done, for people.

        :param queue: the queue, as it was given.
        """
        acked, given_back, renewed = (number(self.fates[kind]) for kind in (Kind.ACKED, Kind.RETRIED, Kind.RENEWED))
        parts = [f"Wrote {counted(self.written, 'message')} of {queue} to {self._sink.name}, acked {acked}"]
        if self.fates[Kind.RETRIED]:
            parts.append(f"gave {given_back} back, which used up one delivery of each")
        if self.fates[Kind.RENEWED]:
            parts.append(f"sent {renewed} to their queue again, because that may have been their last delivery")
        if self._backlog and not self.held:
            parts.append(f"its backlog is {number(self._backlog)}")
        lines = [", ".join(parts)]
        if self.held:
            lines.append(
                f"Not known to be settled: {counted(len(self.held), 'lease')}. Unless they are, their messages come "
                f"again when the leases end, within {self._visibility_timeout:g} s, and one delivery of each is used up"
            )
            lines += [
                f"  {item['message_id']} (lease {item['lease']})" + (f": {item['text']}" if "text" in item else "")
                for item in self.facts()["not_confirmed"]
            ]
            if len(self.held) > MAX_LISTED:
                lines.append(f"  and {number(len(self.held) - MAX_LISTED)} more")
        return "\n".join(lines)
