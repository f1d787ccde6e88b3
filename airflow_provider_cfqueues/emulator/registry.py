"""Queues and their consumers: everything but the messages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import lru_cache
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

_SELECT = f"SELECT {', '.join(field.name for field in fields(Queue))} FROM queues"  # noqa: S608 -- our own names


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
        rows = self._store.db.execute(f"{_SELECT} ORDER BY number")
        return [_queue(row) for row in rows]

    def get(self, queue_id: str) -> Queue:
        """Return the queue with this id."""
        row = self._store.db.execute(f"{_SELECT} WHERE id = ?", (queue_id,)).fetchone()
        if row is None:
            raise QueueNotFound(queue_id)
        return _queue(row)

    def find(self, name: str) -> Queue | None:
        """Return the queue with this name, if there is one."""
        row = self._store.db.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
        return None if row is None else _queue(row)

    def create(
        self,
        name: str,
        *,
        queue_id: str | None = None,
        settings: QueueSettings = QueueSettings(),  # noqa: B008 -- frozen
        jurisdiction: str | None = None,
        consumer: Consumer | None = None,
    ) -> Queue:
        """
        Make a queue.

        :param queue_id: its id; made up where it is not given.
        :param jurisdiction: where the real one would keep its data.
        :param consumer: of a queue that was there before.
        """
        queue_id = queue_id or self.new_id()
        now = self._clock.now_ms()
        try:
            self._store.db.execute(
                "INSERT INTO queues (id, name, jurisdiction, created_ms, modified_ms, settings, consumer)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (queue_id, name, jurisdiction, now, now, _json(settings), consumer and _json(consumer)),
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
                    "UPDATE queues SET name = ?, modified_ms = ?, settings = ? WHERE number = ?",
                    (name, now, _json(settings), queue.number),
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

    def add_consumer(self, queue_id: str, **given: Any) -> Consumer:
        """
        Let a queue be pulled, or give it a consumer that sends notifications.

        :param given: ``dead_letter_queue``, made now if it is missing, ``settings`` and ``notification`` of a consumer.
        """
        queue = self.get(queue_id)
        if queue.consumer is not None:
            raise ConsumerExists(queue.name)
        consumer = Consumer(id=self.new_id(), queue_name=queue.name, created_ms=self._clock.now_ms(), **given)
        return self._write_consumer(queue, consumer)

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
        self.consumer(queue_id, consumer_id)
        self._store.db.execute("UPDATE queues SET consumer = NULL WHERE id = ?", (queue_id,))

    def _write_consumer(self, queue: Queue, consumer: Consumer) -> Consumer:
        if consumer.dead_letter_queue:
            self.ensure(consumer.dead_letter_queue, jurisdiction=queue.jurisdiction)
        self._store.db.execute("UPDATE queues SET consumer = ? WHERE number = ?", (_json(consumer), queue.number))
        return consumer


def _json(value: Consumer | QueueSettings) -> str:
    return json.dumps(asdict(value))


def _queue(row: sqlite3.Row) -> Queue:
    consumer = _consumer(row["consumer"], row["name"]) if row["consumer"] else None
    return Queue(**{**row, "settings": QueueSettings(**json.loads(row["settings"])), "consumer": consumer})


@lru_cache
def _consumer(text: str, queue_name: str) -> Consumer:
    known = json.loads(text)
    # The queue may have another name by now.
    return Consumer(**{**known, "queue_name": queue_name, "settings": ConsumerSettings(**known["settings"])})
