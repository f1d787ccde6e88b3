"""
Empty a queue into a file: pull, write, sync, and only then ack.

Whatever fails before a batch is synced gives the whole batch back, so a line can come twice in the file; none is acked
that is not in it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_cfqueues.models import Lease, Message

if TYPE_CHECKING:
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
    from airflow_provider_cfqueues.models import PullResult

BATCH = 100


class Sink:
    """
    Where messages are written, one JSON object a line.

    :param file: the open file.
    :param is_file: it was named; stdout was not.
    """

    def __init__(self, file: TextIO, *, is_file: bool) -> None:
        self.is_file = is_file
        self._file = file
        self._syncs = stat.S_ISREG(os.fstat(file.fileno()).st_mode)

    def write(self, message: Message) -> None:
        """
        Write a message without its lease, which nobody can use after it.

        :param message: the message.
        """
        line = {key: value for key, value in message.to_xcom().items() if not key.startswith("lease")}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def sync(self) -> None:
        """Return once what was written will not be lost with this process, and in a file not with this machine."""
        self._file.flush()
        if self._syncs:
            os.fsync(self._file.fileno())


@contextmanager
def open_sink(path: str, stdout: TextIO) -> Iterator[Sink]:
    """
    Open what to write to; a file is appended to.

    :param path: the file; ``-`` is stdout.
    :param stdout: stdout.
    """
    if path == "-":
        yield Sink(stdout, is_file=False)
        return
    with open(path, "a", encoding="utf-8") as file:
        yield Sink(file, is_file=True)


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
        self.written = self.acked = self.given_back = self.unconfirmed = 0

    def run(self, max_messages: int | None, *, stop: Event, advance: Callable[[int], None]) -> None:
        """
        Go on until the queue gives nothing, the limit is reached, or it is told to stop.

        :param max_messages: at most so many; None = no limit.
        :param stop: is set to stop.
        :param advance: is told how many more are acked.
        :raises OSError: the messages could not be written; those of the batch are given back.
        :raises CloudflareQueuesError: a request failed for good.
        """
        while not stop.is_set():
            left = BATCH if max_messages is None else max_messages - self.written
            if left <= 0:
                return
            pulled = self._hook.pull(
                self._queue_id, max_messages=min(BATCH, left), visibility_timeout=self._visibility_timeout
            )
            if not pulled:
                return
            advance(self._move(pulled, stop))

    def _move(self, pulled: PullResult, stop: Event) -> int:
        written: list[Message] = []
        try:
            for message in pulled:
                if stop.is_set():
                    break
                self._sink.write(message)
                written.append(message)
            self._sink.sync()
        except OSError:
            self._settle([], list(pulled))
            raise
        self.written += len(written)
        return self._settle(written, list(pulled[len(written) :]))

    def _settle(self, done: list[Message], rest: list[Message]) -> int:
        back = [Lease(lease_id=message.lease_id, delay_seconds=0) for message in rest]
        result = self._hook.ack(self._queue_id, acks=done, retries=back)
        unconfirmed = set(result.unconfirmed)
        acked = sum(message.lease_id not in unconfirmed for message in done)
        self.acked += acked
        self.given_back += sum(message.lease_id not in unconfirmed for message in rest)
        self.unconfirmed += len(unconfirmed)
        return acked

    def facts(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "queue_id": self._queue_id,
            "written": self.written,
            "acked": self.acked,
            "given_back": self.given_back,
            "unconfirmed": self.unconfirmed,
        }

    def summary(self, queue: str, path: str) -> str:
        """
        Return what was done, in a line.

        :param queue: the queue, as it was given.
        :param path: the file, as it was given.
        """
        target = "stdout" if path == "-" else path
        parts = [f"Wrote {self.written:,} messages of {queue} to {target}, acked {self.acked:,}"]
        if self.given_back:
            parts.append(f"gave {self.given_back:,} back")
        if self.written > self.acked:
            parts.append(f"{self.written - self.acked:,} are written but not known to be acked: they may come again")
        return ", ".join(parts)
