"""What happens to a message between its arrival and its end, by itself or because a consumer gave it back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from airflow_provider_cfqueues.emulator.limits import DailyOperations
from airflow_provider_cfqueues.emulator.model import Outgoing, Queue
from airflow_provider_cfqueues.emulator.registry import Registry
from airflow_provider_cfqueues.emulator.store import Store, listed

# json_extract, not ->>: that needs SQLite 3.38.
_EXHAUSTED = """
SELECT messages.number, messages.visible_ms, queues.id AS queue_id
FROM messages JOIN queues ON queues.number = messages.queue
WHERE leased AND visible_ms <= :now AND visible_ms < expires_ms AND consumer IS NOT NULL AND attempts >= :deliveries
  + CASE WHEN :at_pull THEN max_retries ELSE json_extract(consumer, '$.settings.max_retries') END
ORDER BY visible_ms, messages.number
"""

_ENDED = """
UPDATE messages SET leased = 0, visible_ms = visible_ms + CASE WHEN :wait THEN coalesce((
  SELECT CAST(round(json_extract(consumer, '$.settings.retry_delay') * 1000) AS INTEGER)
  FROM queues WHERE queues.number = messages.queue
), 0) ELSE 0 END
WHERE leased AND visible_ms <= :now
"""


class Lifecycle:
    """The moves of a message; every one runs inside the transaction of its caller."""

    def __init__(self, store: Store, queues: Registry, operations: DailyOperations, assume: Mapping[str, str]) -> None:
        self.db = store.db
        self._queues = queues
        self._operations = operations
        self._assume = assume
        self._deliveries = 1 if assume["attempts"] == "max-retries-plus-1" else 0
        self._decided_at_pull = assume["last-delivery"] == "when-it-is-pulled"

    def deliveries(self, max_retries: int) -> int:
        """Return after how many deliveries a message leaves its queue."""
        return max(1, self._deliveries + max_retries)

    def catch_up(self, queue: Queue, now: int) -> None:
        """
        Do what time alone has done to a queue, so that no timer has to run.

        Leases end in all queues, since the messages of one may be dead-lettered to another. First of all: a message
        that failed for the last time before it expired is dead-lettered, however late one looks.
        """
        known = {"now": now, "deliveries": self._deliveries, "at_pull": self._decided_at_pull}
        for row in self.db.execute(_EXHAUSTED, known).fetchall():
            self._bury(row["number"], self._queues.get(row["queue_id"]), row["visible_ms"])
        self.sweep(queue.number, "expired", "expires_ms <= ?", now)
        self.db.execute(_ENDED, {"now": now, "wait": self._assume["lease-end"] == "retry-delay"})

    def arrive(self, messages: Sequence[Outgoing], queue: Queue, now: int, delay_seconds: float) -> list[str]:
        """Put messages into a queue, with a delay for those that have none of their own, and return their ids."""
        expires = now + round(queue.settings.message_retention_period * 1000)
        ids = [self._queues.new_id() for _ in messages]
        delays = [delay_seconds if message.delay_seconds is None else message.delay_seconds for message in messages]
        self.db.executemany(
            "INSERT INTO messages (queue, id, body, content_type, base64, metadata, timestamp_ms,"
            " expires_ms, visible_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (queue.number, id_, *_columns(message), now, expires, now + round(delay * 1000))
                for id_, message, delay in zip(ids, messages, delays, strict=True)
            ],
        )
        sizes = [len(message.body) for message in messages]
        self.count(queue.number, "received", len(sizes), sum(sizes))
        self._operations.charge(sizes)
        return ids

    def give_back(self, message: sqlite3.Row, queue: Queue, now: int, delay_seconds: float) -> None:
        """End a delivery that failed: the message waits for its next one, or this was the last it had."""
        if queue.consumer:
            settings = queue.consumer.settings
            retries = message["max_retries"] if self._decided_at_pull else settings.max_retries
            if message["attempts"] >= self.deliveries(retries):
                self._bury(message["number"], queue, now)
                return
        self.db.execute(
            "UPDATE messages SET leased = 0, visible_ms = ? WHERE number = ?",
            (now + round(delay_seconds * 1000), message["number"]),
        )

    def remove(self, messages: Mapping[int, int], queue: int, counter: str) -> None:
        """
        End messages of a queue.

        :param messages: their numbers, and how many bytes their bodies have.
        :param counter: how they left.
        """
        self._operations.charge(messages.values())
        self.db.execute("DELETE FROM messages WHERE number IN (SELECT value FROM json_each(?))", (listed(messages),))
        self.count(queue, counter, len(messages), -sum(messages.values()))

    def sweep(self, queue: int, counter: str, which: str, value: object) -> None:
        """
        End all messages of a queue that a condition names; no operations are counted for them.

        :param counter: how they left.
        :param which: the condition, with one parameter.
        :param value: of the parameter.
        """
        swept = f"FROM messages WHERE queue = ? AND ({which})"
        found = self.db.execute(f"SELECT count(*), coalesce(sum(length(body)), 0) {swept}", (queue, value))
        amount, size = found.fetchone()
        if amount:
            self.db.execute(f"DELETE {swept}", (queue, value))
            self.count(queue, counter, amount, -size)

    def count(self, queue: int, counter: str, amount: int = 1, size: int = 0) -> None:
        """Add to one of ``store.COUNTERS`` of a queue; its backlog has grown by ``size`` bytes."""
        self.db.execute(
            f"UPDATE queues SET {counter} = {counter} + ?, backlog_bytes = backlog_bytes + ? WHERE number = ?",  # noqa: S608 -- never from a request
            (amount, size, queue),
        )

    def _bury(self, message: int, queue: Queue, at: int) -> None:
        name = queue.consumer.dead_letter_queue if queue.consumer else ""
        [size] = self.db.execute("SELECT length(body) FROM messages WHERE number = ?", (message,)).fetchone()
        if not name:
            self.remove({message: size}, queue.number, "exhausted")
            return
        # The price list reckons a read and a write for it.
        self._operations.charge([size, size])
        target = self._queues.ensure(name, jurisdiction=queue.jurisdiction)
        changed: dict[str, object] = {
            "queue": target.number,
            "leased": 0,
            "expires_ms": at + round(target.settings.message_retention_period * 1000),
            "visible_ms": at + round(target.settings.delivery_delay * 1000),
        }
        if self._assume["dead-letter-id"] == "new":
            changed["id"] = self._queues.new_id()
        if self._assume["dead-letter-timestamp"] == "new":
            changed["timestamp_ms"] = at
        if self._assume["dead-letter-attempts"] == "restart":
            changed["attempts"] = 0
        columns = ", ".join(f"{column} = ?" for column in changed)
        move = f"UPDATE messages SET {columns} WHERE number = ?"  # noqa: S608 - the names above
        self.db.execute(move, (*changed.values(), message))
        self.count(queue.number, "dead_lettered", 1, -size)
        self.count(target.number, "received", 1, size)


def _columns(message: Outgoing) -> tuple[bytes, str, bool, str | None]:
    metadata = None if message.metadata is None else json.dumps(message.metadata)
    return message.body, message.content_type, message.base64, metadata
