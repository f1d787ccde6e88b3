"""
The model of Cloudflare Queues: what a consumer and a producer can see, without HTTP.

Every call is one transaction that first catches up with the clock. Given the same clock, the same ``random``
and the same calls, the broker gives the same answers, ids and leases included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

from airflow_provider_cfqueues.emulator import assumptions, views
from airflow_provider_cfqueues.emulator.clock import Clock
from airflow_provider_cfqueues.emulator.leases import Leases
from airflow_provider_cfqueues.emulator.lifecycle import Lifecycle
from airflow_provider_cfqueues.emulator.limits import DailyOperations
from airflow_provider_cfqueues.emulator.model import (
    DeliveryPaused,
    Message,
    Metrics,
    Outgoing,
    PullNotEnabled,
    Queue,
    Report,
    Retry,
    Settlement,
)
from airflow_provider_cfqueues.emulator.registry import Registry
from airflow_provider_cfqueues.emulator.store import Store, listed
from airflow_provider_cfqueues.emulator.subscriptions import Subscriptions
from airflow_provider_cfqueues.emulator.tickets import Kind, Sealer, Ticket

PEEK_SIZE = 5


class Broker:
    """
    Queues, consumers and messages of one account; not thread-safe.

    :param path: the SQLite file that keeps them.
    :param clock: the only time there is.
    :param random: the only source of ids.
    :param assume: what Cloudflare is assumed to do where it is not known, see ``assumptions``.
    :param daily_operations: how many operations on messages a day allows; None for no limit.
    """

    def __init__(
        self,
        path: str = ":memory:",
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        assume: Mapping[str, str] | None = None,
        daily_operations: int | None = None,
    ) -> None:
        self.assume = assumptions.choose(assume or {})
        self.clock = clock or Clock()
        self.operations = DailyOperations(daily_operations, self.clock)
        self.random = random or Random()  # noqa: S311 -- ids, not secrets
        self.store = Store(path)
        self.queues = Registry(self.store, self.clock, self.random, self.assume)
        self.subscriptions = Subscriptions(self.store, self.queues, self.clock)
        if self.store.get("secret") is None:
            self.store.put("secret", self.random.randbytes(32))
        self._sealer = Sealer(self.store.get("secret"))
        self._lifecycle = Lifecycle(self.store, self.queues, self.operations, self.assume)

    def send(self, queue_id: str, messages: Sequence[Outgoing], delay_seconds: float | None = None) -> list[str]:
        """
        Put messages into a queue and return their ids.

        :param queue_id: which queue.
        :param messages: what to send.
        :param delay_seconds: for messages without a delay of their own; the queue's delay where it is None.
        """
        with self._at(queue_id) as (queue, now):
            self.operations.check()
            default = queue.settings.delivery_delay if delay_seconds is None else delay_seconds
            return self._lifecycle.arrive(messages, queue, now, default)

    def pull(
        self, queue_id: str, batch_size: int | None = None, visibility_timeout_ms: int | None = None
    ) -> list[Message]:
        """
        Lease the messages that have waited longest.

        :param queue_id: which queue.
        :param batch_size: at most so many; the consumer's setting where it is None.
        :param visibility_timeout_ms: how long; the consumer's setting where it is None.
        """
        with self._at(queue_id) as (queue, now):
            if queue.consumer is None or queue.consumer.notification is not None:
                raise PullNotEnabled(queue.name)
            if queue.settings.delivery_paused:
                raise DeliveryPaused(queue.name)
            self.operations.check()
            settings = queue.consumer.settings
            ends_ms = now + (settings.visibility_timeout_ms if visibility_timeout_ms is None else visibility_timeout_ms)
            default = settings.batch_size if self.assume["batch-size"] == "consumer" else 5
            rows = self._ready(queue, now, default if batch_size is None else batch_size)
            self.store.db.execute(
                "UPDATE messages SET leased = 1, lease = lease + 1, attempts = attempts + 1, visible_ms = ?,"
                " max_retries = ? WHERE number IN (SELECT value FROM json_each(?))",
                (ends_ms, settings.max_retries, listed(row[views.NUMBER] for row in rows)),
            )
            self._lifecycle.count(queue.number, "delivered", len(rows))
            leases = self._sealer.seal(
                [Ticket("lease", queue.number, row[views.NUMBER], row[views.LEASE] + 1, ends_ms) for row in rows]
            )
            pairs = zip(rows, leases, strict=True)
            messages = [views.message(row, "leased", lease, ends_ms=ends_ms) for row, lease in pairs]
            self.operations.charge([len(message.body) for message in messages], least=1)
            return messages

    def settle(self, queue_id: str, acks: Sequence[str] = (), retries: Sequence[Retry] = ()) -> Settlement:
        """
        Acknowledge and give back; in that order, so the second use of a lease in one call is refused.

        :param queue_id: the queue the leases were pulled from.
        :param acks: leases of messages that are done.
        :param retries: leases of messages to deliver again.
        """
        with self._at(queue_id) as (queue, now):
            default = queue.consumer.settings.retry_delay if queue.consumer else 0
            if queue.consumer is None and self.assume["settling-needs-no-consumer"] == "refused":
                raise PullNotEnabled(queue.name)
            self.operations.check()
            given = self._leases(queue, [*acks, *(retry.lease_id for retry in retries)])

            def retry(one: Retry) -> int:
                delay = default if one.delay_seconds is None else one.delay_seconds
                return given.each([one.lease_id], given.retry, now, delay)

            if self.assume["first-use-wins"] == "acks-first":
                acked, retried = given.each(acks, given.ack), sum(map(retry, retries))
            else:
                retried, acked = sum(map(retry, retries)), given.each(acks, given.ack)
            given.finish("acked")
            return Settlement(acked, retried, given.warnings)

    def extend(
        self, queue_id: str, leases: Sequence[str], visibility_timeout_ms: int | None = None
    ) -> tuple[dict[str, str], dict[str, str]]:
        """
        Let leases end later; return the new id of each and why each other one was refused.

        :param queue_id: the queue they were pulled from.
        :param leases: the leases.
        :param visibility_timeout_ms: counted from now; the consumer's setting where it is None.
        """
        with self._at(queue_id) as (queue, now):
            if queue.consumer is None:
                raise PullNotEnabled(queue.name)
            default = queue.consumer.settings.visibility_timeout_ms
            lease_ms = default if visibility_timeout_ms is None else visibility_timeout_ms
            given = self._leases(queue, leases)
            renewed: dict[str, str] = {}

            def extend(lease: str) -> None:
                renewed[lease] = given.extend(lease, now + lease_ms)

            given.each(leases, extend)
            return renewed, given.warnings

    def peek(self, queue_id: str, batch_size: int | None = None, kind: Kind = "ref") -> list[Message]:
        """
        Show messages that a pull would give, and leave them there.

        :param queue_id: which queue.
        :param batch_size: at most so many.
        :param kind: what names them: a ``ref`` or the lease of a ``preview``.
        """
        with self._at(queue_id) as (queue, now):
            leased_too = self.assume["peek"] == "leased-too"
            rows = self._ready(queue, now, PEEK_SIZE if batch_size is None else batch_size, leased_too)
            tickets = self._sealer.seal([Ticket(kind, queue.number, row[views.NUMBER]) for row in rows])
            return [views.message(row, "ready", ticket) for row, ticket in zip(rows, tickets, strict=True)]

    def remove(self, queue_id: str, tickets: Sequence[str], kind: Kind = "ref") -> dict[str, str]:
        """
        Delete messages that were peeked or previewed; return why each other one was refused.

        :param queue_id: which queue.
        :param tickets: what the peek or preview named them.
        :param kind: which of the two.
        """
        with self._at(queue_id) as (queue, _):
            given = self._leases(queue, tickets)
            given.each(tickets, given.purge, kind)
            given.finish("purged")
            return given.warnings

    def purge(self, queue_id: str) -> Queue:
        """Delete all messages of a queue, leased and delayed ones included."""
        with self._at(queue_id) as (queue, now):
            self._lifecycle.sweep(queue.number, "purged", "NOT leased OR ?", self.assume["purge"] == "leased-too")
            self.store.db.execute("UPDATE queues SET purged_ms = ? WHERE number = ?", (now, queue.number))
            return self.queues.get(queue_id)

    def metrics(self, queue_id: str) -> Metrics:
        """Return the backlog of a queue."""
        with self._at(queue_id) as (queue, now):
            found = views.metrics(self.store.db, queue)
            if self.assume["metrics"] == "all":
                return found
            delayed = views.report(self.store.db, queue, now, 0).states["delayed"]
            return replace(found, backlog_count=found.backlog_count - delayed)

    def report(self, queue_id: str, limit: int = 1000) -> Report:
        """Return all there is to know of a queue, with its ``limit`` oldest messages."""
        with self._at(queue_id) as (queue, now):
            return views.report(self.store.db, queue, now, limit)

    def deliveries(self, queue: Queue) -> int:
        """Return after how many deliveries a message leaves a queue; 0 where it cannot be pulled."""
        return self._lifecycle.deliveries(queue.consumer.settings.max_retries) if queue.consumer else 0

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def _leases(self, queue: Queue, tickets: Iterable[str]) -> Leases:
        return Leases(self._lifecycle, self._sealer, queue, tickets, self.assume)

    def _ready(self, queue: Queue, now: int, limit: int, leased_too: bool = False) -> list[tuple[Any, ...]]:
        by_age = self.assume["order"] == "sent-first"
        return views.ready(self.store.db, queue, now, limit, by_age=by_age, leased_too=leased_too)

    @contextmanager
    def _at(self, queue_id: str) -> Iterator[tuple[Queue, int]]:
        with self.store.transaction():
            queue, now = self.queues.get(queue_id), self.clock.now_ms()
            self._lifecycle.catch_up(queue, now)
            yield queue, now
