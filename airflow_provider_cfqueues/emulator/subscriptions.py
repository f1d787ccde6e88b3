"""Event subscriptions: kept and shown as published; the emulator has no events to send."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.emulator.model import (
    SubscriptionExists,
    SubscriptionNotFound,
    SubscriptionOnSameResource,
)

if TYPE_CHECKING:
    from airflow_provider_cfqueues.emulator.clock import Clock
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


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """Which events of a resource go to which queue; ``source`` is as it was sent."""

    id: str
    name: str
    enabled: bool
    source: dict[str, Any]
    events: list[str]
    queue_id: str
    created_ms: int
    modified_ms: int


class Subscriptions:
    """
    The event subscriptions of the account.

    :param store: where they are kept.
    :param queues: where events go.
    :param clock: says when they were made.
    """

    def __init__(self, store: Store, queues: Registry, clock: Clock) -> None:
        self._store = store
        self._queues = queues
        self._clock = clock

    def list(self, queue_id: str | None, order: str, descending: bool) -> list[Subscription]:
        """
        Return subscriptions.

        :param queue_id: only those that send to it; all where it is None.
        :param order: one of ``ORDERS``.
        :param descending: the last one first.
        """
        direction = "DESC" if descending else "ASC"
        rows = self._store.db.execute(
            f"{_SELECT} WHERE ? IS NULL OR queues.id = ? ORDER BY {ORDERS[order]} {direction}, subscriptions.id",
            (queue_id, queue_id),
        )
        return [_subscription(row) for row in rows]

    def get(self, subscription_id: str) -> Subscription:
        """Return the subscription with this id."""
        row = self._store.db.execute(f"{_SELECT} WHERE subscriptions.id = ?", (subscription_id,)).fetchone()
        if row is None:
            raise SubscriptionNotFound(subscription_id)
        return _subscription(row)

    def create(self, **given: Any) -> Subscription:
        """Make one of ``name``, ``enabled``, ``source``, ``events`` and ``queue_id``."""
        now = self._clock.now_ms()
        source = json.dumps(given["source"], sort_keys=True)
        if self._store.db.execute("SELECT 1 FROM subscriptions WHERE source = ?", (source,)).fetchone():
            raise SubscriptionOnSameResource(given["source"]["type"])
        subscription_id = self._queues.new_id()
        row = (subscription_id, *self._columns(given), source, now, now)
        self._write(
            given["name"],
            "INSERT INTO subscriptions (id, name, enabled, events, queue, source, created_ms, modified_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        return self.get(subscription_id)

    def update(self, subscription_id: str, **given: Any) -> Subscription:
        """
        Overwrite all but the source of a subscription.

        :param subscription_id: which one.
        :param given: ``name``, ``enabled``, ``events`` and ``queue_id``.
        """
        row = (*self._columns(given), self._clock.now_ms(), subscription_id)
        self._write(
            given["name"],
            "UPDATE subscriptions SET name = ?, enabled = ?, events = ?, queue = ?, modified_ms = ? WHERE id = ?",
            row,
        )
        return self.get(subscription_id)

    def delete(self, subscription_id: str) -> Subscription:
        """Delete a subscription and return what it was."""
        was = self.get(subscription_id)
        with self._store.transaction() as db:
            db.execute("DELETE FROM subscriptions WHERE id = ?", (subscription_id,))
        return was

    def _columns(self, given: dict[str, Any]) -> tuple[Any, ...]:
        queue = self._queues.get(given["queue_id"])
        return given["name"], given["enabled"], json.dumps(given["events"]), queue.number

    def _write(self, name: str, statement: str, row: tuple[Any, ...]) -> None:
        with self._store.transaction() as db:
            try:
                db.execute(statement, row)
            except sqlite3.IntegrityError as error:
                raise SubscriptionExists(name) from error


def _subscription(row: sqlite3.Row) -> Subscription:
    return Subscription(
        id=row["id"],
        name=row["name"],
        enabled=bool(row["enabled"]),
        source=json.loads(row["source"]),
        events=json.loads(row["events"]),
        queue_id=row["queue_id"],
        created_ms=row["created_ms"],
        modified_ms=row["modified_ms"],
    )
