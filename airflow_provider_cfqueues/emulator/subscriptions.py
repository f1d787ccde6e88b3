"""Event subscriptions: kept and shown as published; the emulator has no events to send."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from airflow_provider_cfqueues.emulator import wire
from airflow_provider_cfqueues.emulator.clock import Clock
from airflow_provider_cfqueues.emulator.model import (
    SubscriptionExists,
    SubscriptionNotFound,
    SubscriptionOnSameResource,
)
from airflow_provider_cfqueues.emulator.registry import Registry
from airflow_provider_cfqueues.emulator.store import Store

_SELECT = """
SELECT subscriptions.*, queues.id AS queue_id
FROM subscriptions JOIN queues ON queues.number = subscriptions.queue
"""
ORDERS = {
    "created_at": "subscriptions.created_ms",
    "name": "subscriptions.name",
    "enabled": "enabled",
    "source": "source",
}


class Subscriptions:
    """The event subscriptions of the account, each as the API shows it."""

    def __init__(self, store: Store, queues: Registry, clock: Clock) -> None:
        self._db = store.db
        self._queues = queues
        self._clock = clock

    def list(self, queue_id: str | None, order: str, descending: bool) -> list[wire.JSON]:
        """
        Return subscriptions.

        :param queue_id: only those that send to it; all where it is None.
        :param order: one of ``ORDERS``.
        :param descending: the last one first.
        """
        direction = "DESC" if descending else "ASC"
        rows = self._db.execute(
            f"{_SELECT} WHERE ? IS NULL OR queues.id = ? ORDER BY {ORDERS[order]} {direction}, subscriptions.id",
            (queue_id, queue_id),
        )
        return [_shape(row) for row in rows]

    def get(self, subscription_id: str) -> wire.JSON:
        """Return the subscription with this id."""
        row = self._db.execute(f"{_SELECT} WHERE subscriptions.id = ?", (subscription_id,)).fetchone()
        if row is None:
            raise SubscriptionNotFound(subscription_id)
        return _shape(row)

    def create(self, *, source: wire.JSON, **given: Any) -> wire.JSON:
        """Make one of what ``update`` takes and the resource whose events it sends."""
        text = json.dumps(source, sort_keys=True)
        if self._db.execute("SELECT 1 FROM subscriptions WHERE source = ?", (text,)).fetchone():
            raise SubscriptionOnSameResource(source["type"])
        now = self._clock.now_ms()
        facts = {"id": self._queues.new_id(), "source": text, "created_ms": now, **self._columns(now, **given)}
        columns, values = ", ".join(facts), ", ".join(f":{column}" for column in facts)
        self._write(f"INSERT INTO subscriptions ({columns}) VALUES ({values})", facts)  # noqa: S608 -- our columns
        return self.get(facts["id"])

    def update(self, subscription_id: str, **given: Any) -> wire.JSON:
        """Overwrite ``name``, ``enabled``, ``events`` and ``queue_id`` of a subscription."""
        facts = self._columns(self._clock.now_ms(), **given)
        changes = ", ".join(f"{column} = :{column}" for column in facts)
        facts["id"] = subscription_id
        self._write(f"UPDATE subscriptions SET {changes} WHERE id = :id", facts)  # noqa: S608 -- our columns
        return self.get(subscription_id)

    def delete(self, subscription_id: str) -> wire.JSON:
        """Delete a subscription and return what it was."""
        was = self.get(subscription_id)
        self._db.execute("DELETE FROM subscriptions WHERE id = ?", (subscription_id,))
        return was

    def _columns(self, now: int, *, name: str, enabled: bool, events: Sequence[str], queue_id: str) -> dict[str, Any]:
        queue = self._queues.get(queue_id).number
        return {"name": name, "enabled": enabled, "events": json.dumps(events), "queue": queue, "modified_ms": now}

    def _write(self, statement: str, facts: dict[str, Any]) -> None:
        try:
            self._db.execute(statement, facts)
        except sqlite3.IntegrityError as error:
            raise SubscriptionExists(facts["name"]) from error


def _shape(row: sqlite3.Row) -> wire.JSON:
    return {
        "id": row["id"],
        "created_at": wire.timestamp(row["created_ms"]),
        "modified_at": wire.timestamp(row["modified_ms"]),
        "name": row["name"],
        "enabled": bool(row["enabled"]),
        "source": json.loads(row["source"]),
        "destination": {"type": "queues.queue", "queue_id": row["queue_id"]},
        "events": json.loads(row["events"]),
    }
