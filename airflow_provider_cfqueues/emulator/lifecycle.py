"""What happens to a message between its arrival and its end, by itself or because a consumer gave it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cfqueues.emulator.store import listed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from airflow_provider_cfqueues.emulator.model import Queue
    from airflow_provider_cfqueues.emulator.registry import Registry
    from airflow_provider_cfqueues.emulator.store import Store

_EXHAUSTED = """
SELECT messages.number, messages.queue, messages.visible_ms, queues.id AS queue_id
FROM messages JOIN consumers ON consumers.queue = messages.queue JOIN queues ON queues.number = messages.queue
WHERE leased AND visible_ms <= ? AND visible_ms < expires_ms AND attempts > max_retries
ORDER BY visible_ms, messages.number
"""

_EXPIRED = """
SELECT queues.number, count(*) FROM queues CROSS JOIN messages
WHERE messages.queue = queues.number AND expires_ms <= ? GROUP BY queues.number
"""


class Lifecycle:
    """
    The moves of a message; every one runs inside the transaction of its caller.

    :param store: where the messages are.
    :param queues: knows their consumers and dead-letter queues.
    """

    def __init__(self, store: Store, queues: Registry) -> None:
        self.db = store.db
        self._queues = queues

    def catch_up(self, now: int) -> None:
        """
        Do what time alone has done since the last call, so that no timer has to run.

        Hence the order: a message that failed for the last time before it expired is dead-lettered.
        """
        for row in self.db.execute(_EXHAUSTED, (now,)).fetchall():
            self._bury(row["number"], self._queues.get(row["queue_id"]), row["visible_ms"])
        expired = self.db.execute(_EXPIRED, (now,)).fetchall()
        for queue, amount in expired:
            self.count(queue, "expired", amount)
            self.db.execute("DELETE FROM messages WHERE queue = ? AND expires_ms <= ?", (queue, now))
        self.db.execute("UPDATE messages SET leased = 0 WHERE leased AND visible_ms <= ?", (now,))

    def give_back(self, message: sqlite3.Row, queue: Queue, now: int, delay_seconds: float) -> None:
        """
        End a delivery that failed: the message waits for its next one, or this was the last it had.

        :param message: its row.
        :param queue: the queue it is in.
        :param now: when the delivery ended.
        :param delay_seconds: how long it may not be pulled.
        """
        if queue.consumer and message["attempts"] > queue.consumer.settings.max_retries:
            self._bury(message["number"], queue, now)
            return
        self.db.execute(
            "UPDATE messages SET leased = 0, visible_ms = ? WHERE number = ?",
            (now + round(delay_seconds * 1000), message["number"]),
        )

    def remove(self, messages: Collection[int], queue: int, counter: str) -> None:
        """End messages of a queue; ``counter`` says how they left."""
        self.db.execute(f"DELETE FROM messages WHERE number IN {listed(messages)}")  # noqa: S608 -- integers
        self.count(queue, counter, len(messages))

    def count(self, queue: int, counter: str, amount: int = 1) -> None:
        """Add to one of ``store.COUNTERS`` of a queue."""
        self.db.execute(
            f"UPDATE queues SET {counter} = {counter} + ? WHERE number = ?",  # noqa: S608 -- never from a request
            (amount, queue),
        )

    def _bury(self, message: int, queue: Queue, at: int) -> None:
        name = queue.consumer.dead_letter_queue if queue.consumer else ""
        if not name:
            self.remove([message], queue.number, "exhausted")
            return
        target = self._queues.ensure(name, jurisdiction=queue.jurisdiction)
        self.db.execute(
            "UPDATE messages SET queue = ?, leased = 0, attempts = 0, timestamp_ms = ?, expires_ms = ?,"
            " visible_ms = ? WHERE number = ?",
            (
                target.number,
                at,
                at + round(target.settings.message_retention_period * 1000),
                at + round(target.settings.delivery_delay * 1000),
                message,
            ),
        )
        self.count(queue.number, "dead_lettered")
        self.count(target.number, "received")
