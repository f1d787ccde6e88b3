"""The values the broker takes and gives, and the errors it raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

RETENTION_DEFAULT = 4 * 86_400


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """What a queue does with its messages; seconds."""

    delivery_delay: float = 0
    delivery_paused: bool = False
    message_retention_period: float = RETENTION_DEFAULT


@dataclass(frozen=True, kw_only=True)
class ConsumerSettings:
    """What an ``http_pull`` consumer applies where a request says nothing."""

    batch_size: int = 10
    max_retries: int = 3
    retry_delay: float = 0
    visibility_timeout_ms: int = 30_000


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """
    The ``http_pull`` consumer of a queue; ``dead_letter_queue`` is a queue NAME, or empty.

    With ``notification``, its settings as they were sent, it is a consumer of that kind: nothing can be pulled.
    """

    id: str
    queue_name: str
    created_ms: int
    dead_letter_queue: str = ""
    settings: ConsumerSettings = ConsumerSettings()
    notification: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue; ``number`` is its key in the store and inside leases."""

    number: int
    id: str
    name: str
    jurisdiction: str | None
    created_ms: int
    modified_ms: int
    purged_ms: int | None
    settings: QueueSettings
    consumer: Consumer | None


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """
    A message to send: the bytes of its body and how a pull shows them.

    ``delay_seconds`` None means the queue's own delay; 0 means none.
    """

    body: bytes
    content_type: str = "text"
    base64: bool = False
    metadata: dict[str, Any] | None = None
    delay_seconds: float | None = None


class Message(NamedTuple):
    """A message in a queue; ``ticket`` is its lease id or ref, by the call that returned it."""

    id: str
    body: bytes
    content_type: str
    base64: bool
    metadata: dict[str, Any]
    timestamp_ms: int
    visible_ms: int
    attempts: int
    state: str
    ticket: str = ""


@dataclass(frozen=True)
class Retry:
    """One lease to give back; ``delay_seconds`` None means the consumer's ``retry_delay``."""

    lease_id: str
    delay_seconds: float | None = None


@dataclass(frozen=True)
class Settlement:
    """What became of the leases of one call: how many were honoured, and why each other one was not."""

    acked: int = 0
    retried: int = 0
    warnings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Backlog of a queue: everything neither settled nor gone, leased and delayed messages included."""

    backlog_count: int
    backlog_bytes: int
    oldest_message_timestamp_ms: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """
    All there is to know of a queue.

    ``states`` says where its backlog is; ``totals`` says how many messages it ever received, and in which way
    those left that are not in the backlog.
    """

    queue: Queue
    metrics: Metrics
    states: dict[str, int]
    totals: dict[str, int]
    messages: list[Message]


class BrokerError(Exception):
    """Root of what the broker refuses."""


class QueueNotFound(BrokerError):
    """No queue has this id."""


class QueueExists(BrokerError):
    """Another queue has this name or id."""


class ConsumerNotFound(BrokerError):
    """The queue has no consumer with this id."""


class ConsumerExists(BrokerError):
    """The queue has a consumer already."""


class SubscriptionNotFound(BrokerError):
    """No event subscription has this id."""


class SubscriptionExists(BrokerError):
    """Another event subscription has this name."""


class SubscriptionOnSameResource(BrokerError):
    """The resource has an event subscription already."""


class PullNotEnabled(BrokerError):
    """The queue has no ``http_pull`` consumer."""


class DeliveryPaused(BrokerError):
    """Delivery of this queue is paused."""


class LeaseRefused(BrokerError):
    """A lease or ref changes nothing; its text says why. It fails the whole call only if ``lease-refused`` says so."""


class QuotaExceeded(BrokerError):
    """The operations of a day are used up."""


class StateFileError(BrokerError):
    """The state file cannot be used."""
