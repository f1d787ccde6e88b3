"""Queues and their consumers: everything but the messages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, replace
from random import Random
from typing import Any

from airflow_provider_cfqueues.emulator.clock import Clock
from airflow_provider_cfqueues.emulator.model import (
    Consumer,
    ConsumerExists,
    ConsumerNotFound,
    ConsumerSettings,
    Queue,
    QueueExists,
    QueueNotFound,
    QueueSettings,
)
from airflow_provider_cfqueues.emulator.store import Store

_SELECT = """
SELECT queues.*, consumers.id AS consumer_id, consumers.created_ms AS consumer_created_ms, dead_letter_queue,
       batch_size, max_retries, retry_delay, visibility_timeout_ms, notification
FROM queues LEFT JOIN consumers ON consumers.queue = queues.number
"""


class Registry:
    """The queues of the account."""

    def __init__(self, store: Store, clock: Clock, random: Random, assume: Mapping[str, str]) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._assume = assume

    def new_id(self) -> str:
        """Return 32 fresh hex characters."""
        return f"{self._random.getrandbits(128):032x}"

    def all(self) -> list[Queue]:
        """Return every queue, oldest first."""
        rows = self._store.db.execute(f"{_SELECT} ORDER BY queues.number")
        return [_queue(row) for row in rows]

    def get(self, queue_id: str) -> Queue:
        """Return the queue with this id."""
        row = self._store.db.execute(f"{_SELECT} WHERE queues.id = ?", (queue_id,)).fetchone()
        if row is None:
            raise QueueNotFound(queue_id)
        return _queue(row)

    def find(self, name: str) -> Queue | None:
        """Return the queue with this name, if there is one."""
        row = self._store.db.execute(f"{_SELECT} WHERE queues.name = ?", (name,)).fetchone()
        return None if row is None else _queue(row)

    def create(
        self,
        name: str,
        *,
        queue_id: str | None = None,
        settings: QueueSettings = QueueSettings(),  # noqa: B008 -- frozen
        jurisdiction: str | None = None,
    ) -> Queue:
        """
        Make a queue.

        :param queue_id: its id; made up where it is not given.
        :param jurisdiction: where the real one would keep its data.
        """
        queue_id = queue_id or self.new_id()
        now = self._clock.now_ms()
        try:
            self._store.db.execute(
                "INSERT INTO queues (id, name, jurisdiction, created_ms, modified_ms, delivery_delay,"
                " delivery_paused, message_retention_period) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (queue_id, name, jurisdiction, now, now, *asdict(settings).values()),
            )
        except sqlite3.IntegrityError as error:
            raise QueueExists(name) from error
        return self.get(queue_id)

    def ensure(self, name: str, *, jurisdiction: str | None = None) -> Queue:
        """Return the queue with this name, made now if it is missing."""
        return self.find(name) or self.create(name, jurisdiction=jurisdiction)

    def update(self, queue_id: str, *, name: str, settings: QueueSettings) -> Queue:
        """Overwrite name and settings of a queue; a new retention period holds for the messages it has already."""
        queue, now = self.get(queue_id), self._clock.now_ms()
        with self._store.transaction() as db:
            try:
                db.execute(
                    "UPDATE queues SET name = ?, modified_ms = ?, delivery_delay = ?, delivery_paused = ?,"
                    " message_retention_period = ? WHERE number = ?",
                    (name, now, *asdict(settings).values(), queue.number),
                )
            except sqlite3.IntegrityError as error:
                raise QueueExists(name) from error
            changed = settings.message_retention_period != queue.settings.message_retention_period
            if changed and self._assume["retention"] == "existing":
                db.execute(  # what has expired may still be there: nobody has looked since
                    "UPDATE messages SET expires_ms = timestamp_ms + ? WHERE queue = ? AND expires_ms > ?",
                    (round(settings.message_retention_period * 1000), queue.number, now),
                )
        return self.get(queue_id)

    def delete(self, queue_id: str) -> None:
        """Delete a queue with its consumer and its messages."""
        self._store.db.execute("DELETE FROM queues WHERE number = ?", (self.get(queue_id).number,))

    def consumer(self, queue_id: str, consumer_id: str) -> Consumer:
        """Return the consumer of a queue."""
        consumer = self.get(queue_id).consumer
        if consumer is None or consumer.id != consumer_id:
            raise ConsumerNotFound(consumer_id)
        return consumer

    def add_consumer(
        self,
        queue_id: str,
        *,
        dead_letter_queue: str = "",
        settings: ConsumerSettings = ConsumerSettings(),  # noqa: B008 -- frozen
        notification: dict[str, Any] | None = None,
    ) -> Consumer:
        """
        Let a queue be pulled, or give it a consumer that sends notifications.

        :param dead_letter_queue: name of the queue for messages that fail too often; made now if missing.
        :param settings: what holds where a request says nothing.
        :param notification: the settings of a consumer of that kind.
        """
        queue = self.get(queue_id)
        if queue.consumer is not None:
            raise ConsumerExists(queue.name)
        facts = Consumer(
            id=self.new_id(),
            queue_name=queue.name,
            created_ms=self._clock.now_ms(),
            dead_letter_queue=dead_letter_queue,
            settings=settings,
            notification=notification,
        )
        return self._write_consumer(queue, facts)

    def replace_consumer(self, queue_id: str, consumer_id: str, **given: Any) -> Consumer:
        """
        Overwrite the consumer of a queue, or add one to a queue that has none.

        :param consumer_id: which consumer; of no meaning where there is none.
        :param given: all that ``add_consumer`` takes.
        """
        queue = self.get(queue_id)
        if queue.consumer is None:
            return self.add_consumer(queue_id, **given)
        return self._write_consumer(queue, replace(self.consumer(queue_id, consumer_id), **given))

    def delete_consumer(self, queue_id: str, consumer_id: str) -> None:
        """Delete the consumer of a queue."""
        consumer = self.consumer(queue_id, consumer_id)
        self._store.db.execute("DELETE FROM consumers WHERE id = ?", (consumer.id,))

    def _write_consumer(self, queue: Queue, consumer: Consumer) -> Consumer:
        if consumer.dead_letter_queue:
            self.ensure(consumer.dead_letter_queue, jurisdiction=queue.jurisdiction)
        notification = None if consumer.notification is None else json.dumps(consumer.notification)
        facts = (consumer.id, queue.number, consumer.created_ms, consumer.dead_letter_queue)
        self._store.db.execute(
            "INSERT OR REPLACE INTO consumers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*facts, *asdict(consumer.settings).values(), notification),
        )
        return self.consumer(queue.id, consumer.id)


def _queue(row: sqlite3.Row) -> Queue:
    return Queue(
        number=row["number"],
        id=row["id"],
        name=row["name"],
        jurisdiction=row["jurisdiction"],
        created_ms=row["created_ms"],
        modified_ms=row["modified_ms"],
        purged_ms=row["purged_ms"],
        settings=QueueSettings(
            delivery_delay=row["delivery_delay"],
            delivery_paused=bool(row["delivery_paused"]),
            message_retention_period=row["message_retention_period"],
        ),
        consumer=None if row["consumer_id"] is None else _consumer(row),
    )


def _consumer(row: sqlite3.Row) -> Consumer:
    return Consumer(
        id=row["consumer_id"],
        queue_name=row["name"],
        created_ms=row["consumer_created_ms"],
        dead_letter_queue=row["dead_letter_queue"],
        settings=ConsumerSettings(
            batch_size=row["batch_size"],
            max_retries=row["max_retries"],
            retry_delay=row["retry_delay"],
            visibility_timeout_ms=row["visibility_timeout_ms"],
        ),
        notification=json.loads(row["notification"]) if row["notification"] else None,
    )
