"""Event subscriptions: kept and shown as published; the emulator has no events to send."""

from __future__ import annotations

import json
import sqlite3

from airflow_provider_cfqueues.emulator import wire
from airflow_provider_cfqueues.emulator.clock import Clock
from airflow_provider_cfqueues.emulator.model import (
    SubscriptionExists,
    SubscriptionNotFound,
    SubscriptionOnSameResource,
)
from airflow_provider_cfqueues.emulator.registry import Registry
from airflow_provider_cfqueues.emulator.store import Store


class Subscriptions:
    """The event subscriptions of the account, each as the API shows it."""

    def __init__(self, store: Store, queues: Registry, clock: Clock) -> None:
        self._db = store.db
        self._queues = queues
        self._clock = clock

    def all(self) -> list[wire.JSON]:
        """Return every subscription."""
        return [json.loads(row["shown"]) for row in self._db.execute("SELECT shown FROM subscriptions ORDER BY id")]

    def get(self, subscription_id: str) -> wire.JSON:
        """Return the subscription with this id."""
        row = self._db.execute("SELECT shown FROM subscriptions WHERE id = ?", (subscription_id,)).fetchone()
        if row is None:
            raise SubscriptionNotFound(subscription_id)
        subscription: wire.JSON = json.loads(row["shown"])
        return subscription

    def create(self, given: wire.JSON) -> wire.JSON:
        """Make one of what a caller may set, and of the ``source`` whose events it sends."""
        if any(given["source"] == other["source"] for other in self.all()):
            raise SubscriptionOnSameResource(given["source"]["type"])
        return self._write({"id": self._queues.new_id(), "created_at": wire.timestamp(self._clock.now_ms()), **given})

    def update(self, subscription_id: str, given: wire.JSON) -> wire.JSON:
        """Overwrite what a caller may set of a subscription."""
        return self._write({**self.get(subscription_id), **given})

    def delete(self, subscription_id: str) -> wire.JSON:
        """Delete a subscription and return what it was."""
        was = self.get(subscription_id)
        self._db.execute("DELETE FROM subscriptions WHERE id = ?", (subscription_id,))
        return was

    def _write(self, known: wire.JSON) -> wire.JSON:
        shown = {**known, "modified_at": wire.timestamp(self._clock.now_ms())}
        queue = self._queues.get(shown["destination"]["queue_id"]).number
        try:
            self._db.execute(
                "INSERT INTO subscriptions (id, name, queue, shown) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET name = excluded.name, queue = excluded.queue, shown = excluded.shown",
                (shown["id"], shown["name"], queue, json.dumps(shown)),
            )
        except sqlite3.IntegrityError as error:
            raise SubscriptionExists(shown["name"]) from error
        return shown
