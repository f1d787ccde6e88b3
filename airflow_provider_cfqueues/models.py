"""The values that callers give and get: parsed once, and frozen."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, overload

import msgspec

from airflow_provider_cfqueues.bodies import why_not_xcom
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    """
    A message without its lease.

    It is not a dataclass because a task makes thousands a second, and a frozen dataclass takes three times as long.
    """

    id: str
    body: Any = None
    attempts: int | None = None
    timestamp: datetime | None = None
    content_type: str | None = None
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)
    raw_body: Any = None
    body_error: str | None = None

    def __repr__(self) -> str:
        shown = (name for name in self.__struct_fields__ if name not in ("lease_id", "raw_body"))
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def to_xcom(self) -> dict[str, Any]:
        """Return the message as plain JSON values; :meth:`Message.to_xcom` says how."""
        return self.to_plain(why_not_xcom, "Airflow cannot store the body as an XCom")

    def to_plain(self, why_not: Callable[[Any], str | None], cannot: str) -> dict[str, Any]:
        """
        Return the message without its lease, as plain values that something can hold.

        :param why_not: says why it cannot hold a value, if it cannot.
        :param cannot: the beginning of ``body_error`` if it cannot hold the body.
        """
        body = base64.b64encode(self.body).decode() if isinstance(self.body, bytes) else self.body
        raw, error = self.raw_body, self.body_error
        if error is None and (reason := why_not(body)):
            body, error = None, f"{cannot}: {reason}"
        if error is not None and why_not(raw):
            raw = base64.b64encode(str(raw).encode("utf-8", "surrogatepass")).decode()
            error = f"{error} (raw_body is base64 of it)"
        metadata = dict(self.metadata)
        plain = {
            "id": self.id,
            "body": body,
            "attempts": self.attempts,
            "timestamp": self.timestamp and self.timestamp.isoformat(),
            "content_type": self.content_type,
            "metadata": {"unstorable": ascii(metadata)} if why_not(metadata) else metadata,
        }
        return plain if error is None else {**plain, "raw_body": raw, "body_error": error}


class Message(_Content, frozen=True, kw_only=True):
    """
    A pulled message and its lease. Its ``repr`` does not show the lease.

    :param id: the message's ID; the same at each delivery.
    :param lease_id: the lease of this delivery; what ``ack`` takes.
    :param body: the decoded body: ``str`` (text), ``bytes`` (bytes), or a JSON value. None if it could not be decoded;
        then ``body_error`` says why.
    :param attempts: how often it was delivered, this time included; None if the API did not say.
    :param timestamp: when it was sent (UTC).
    :param content_type: ``json``, ``text``, ``bytes`` or ``v8``, from ``metadata["CF-Content-Type"]``.
    :param metadata: everything that the API gave as metadata.
    :param lease_expires_at: the lease lasts at least until then (UTC, this machine's clock): counted from just before
        the pull was sent.
    :param raw_body: the body as it came over the wire.
    :param body_error: why the body could not be decoded, else None.
    """

    lease_id: str
    lease_expires_at: datetime | None = None

    def to_xcom(self) -> dict[str, Any]:
        """
        Return the message as plain JSON values.

        Times are ISO 8601 strings; a ``bytes`` body is base64. Only a message whose body could not be decoded, or that
        Airflow could not store, has the two further keys ``raw_body`` and ``body_error``; its ``body`` is None.
        """
        expires = self.lease_expires_at and self.lease_expires_at.isoformat()
        return {"id": self.id, "lease_id": self.lease_id, **super().to_xcom(), "lease_expires_at": expires}


class PeekedMessage(_Content, frozen=True, kw_only=True):
    """
    A message that was looked at, not leased. It cannot be settled, and others can still pull it.

    It has what :class:`Message` has, except the two fields of the lease. Looking does not count in ``attempts``.

    :param ref: the API's name for what was peeked; opaque.
    """

    ref: str | None = None


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """
    A lease to settle, with what is known about its message.

    :param lease_id: the lease ID.
    :param delay_seconds: for a retry: seconds until the message is delivered again; None = the consumer's
        ``retry_delay``.
    :param attempts: how often the message was delivered.
    :param lease_expires_at: when the lease ends.
    """

    lease_id: str
    delay_seconds: float | None = None
    attempts: int | None = None
    lease_expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AckResult:
    """
    What the API reported about settled leases, merged over all requests of one call.

    :param ack_count: how many acks it counted; None if it did not say.
    :param retry_count: how many retries it counted; None if it did not say.
    :param warnings: text by lease ID; warnings that came as a list are keyed ``#0``, ``#1``, …
    :param messages: the envelope's messages.
    :param confirmed_acks: acked leases that the API did not contradict.
    :param confirmed_retries: retried leases that the API did not contradict.
    :param unconfirmed: leases that may not be settled. A lease with a warning is one. If a count is missing messages
        that no warning explains, or is not a number, all leases of that request are.
    :param repeated: whether an earlier request got no answer. It may have settled what is not confirmed now.
    """

    ack_count: int | None = 0
    retry_count: int | None = 0
    warnings: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    confirmed_acks: int = field(default=0, compare=False)
    confirmed_retries: int = field(default=0, compare=False)
    unconfirmed: tuple[str, ...] = field(default=(), compare=False)
    repeated: bool = field(default=False, compare=False)

    @property
    def confirmed_count(self) -> int:
        """How many leases the API did not contradict."""
        return self.confirmed_acks + self.confirmed_retries

    def merge(self, other: AckResult) -> AckResult:
        """
        Return both results as one; a count that one of them lacks is None.

        :param other: the result of a later request of the same call.
        """
        both = [*self.warnings.items(), *other.warnings.items()]
        unkeyed = [text for key, text in both if key.startswith("#")]
        warnings = {key: text for key, text in both if not key.startswith("#")}
        warnings |= {f"#{position}": text for position, text in enumerate(unkeyed)}
        return AckResult(
            ack_count=_add(self.ack_count, other.ack_count),
            retry_count=_add(self.retry_count, other.retry_count),
            warnings=warnings,
            messages=self.messages + other.messages,
            confirmed_acks=self.confirmed_acks + other.confirmed_acks,
            confirmed_retries=self.confirmed_retries + other.confirmed_retries,
            unconfirmed=self.unconfirmed + other.unconfirmed,
            repeated=self.repeated or other.repeated,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueMetrics:
    """
    What is waiting in a queue. Cloudflare calls these numbers best effort.

    :param backlog_count: messages not yet settled.
    :param backlog_bytes: their size in bytes.
    :param oldest_message_timestamp: when the oldest was sent (UTC); None if unknown or the queue is empty.
    """

    backlog_count: int
    backlog_bytes: int | None = None
    oldest_message_timestamp: datetime | None = None


DEFAULT_MAX_RETRIES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Consumer:
    """
    The settings of a queue's consumer.

    :param type: ``http_pull`` or ``worker``.
    :param dead_letter_queue: name of its dead-letter queue; None = messages are deleted after ``max_retries``.
    :param max_retries: deliveries after which a message leaves the queue.
    :param visibility_timeout: seconds that a lease lasts unless the pull says otherwise.
    :param retry_delay: seconds before the next delivery, if a message was retried without a delay or its lease ended.
    :param batch_size: messages per pull unless the pull says otherwise.
    :param script_name: the Worker, of a ``worker`` consumer.
    :param created_on: when it was made (UTC).
    """

    type: str
    consumer_id: str | None = None
    dead_letter_queue: str | None = None
    max_retries: int | None = None
    visibility_timeout: float | None = None
    retry_delay: float | None = None
    batch_size: int | None = None
    script_name: str | None = None
    created_on: datetime | None = None

    def is_last_delivery(self, attempts: int | None) -> bool:
        """
        Return whether a message that was delivered ``attempts`` times may not be delivered again.

        Cloudflare's documentation contradicts itself: a message leaves the queue after ``max_retries`` deliveries (page
        on pull consumers) or after one more (page on prices). This counts the earlier one.

        :param attempts: how often it was delivered; None = not known.
        """
        return (attempts or 0) >= self.deliveries

    @property
    def deliveries(self) -> int:
        """How often a message is delivered at least: ``max_retries``, 3 unless set."""
        return DEFAULT_MAX_RETRIES if self.max_retries is None else self.max_retries

    @property
    def takes_away(self) -> str:
        """What Cloudflare does with a message after its last delivery, as the end of a sentence."""
        return f"moves it to {self.dead_letter_queue!r}" if self.dead_letter_queue else "DELETES it"


UNKNOWN_CONSUMER = Consumer(type="http_pull")
"""What is assumed of a consumer that cannot be read: no dead-letter queue, and a ``max_retries`` of 3."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsuredConsumer:
    """
    A pull consumer that was ensured, and what was done for that.

    :param consumer: the consumer.
    :param action: ``created``, ``updated`` or ``unchanged``.
    :param untried: why a new consumer was not tested with a pull; None if it was tested, or is not new.
    """

    consumer: Consumer
    action: str
    untried: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PurgeStatus:
    """
    How far the last purge of a queue is.

    :param completed: whether it is done.
    :param started_at: when it started, as the API writes it; None if the queue was never purged.
    :param error: why the last look failed, if it did.
    """

    completed: bool
    started_at: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """
    A queue of the account.

    :param queue_id: its ID.
    :param queue_name: its name, unique in the account.
    :param settings: as the API gives them (``delivery_delay``, ``delivery_paused``, ``message_retention_period``).
    :param consumers_total_count: how many consumers it has, if the API said.
    :param producers_total_count: how many producers it has, if the API said.
    :param created_on: when it was made (UTC), if the API said.
    """

    queue_id: str
    queue_name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    consumers_total_count: int | None = None
    producers_total_count: int | None = None
    created_on: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PullResult(Sequence[Message]):
    """
    The messages of a pull, usable as a sequence of them.

    :param messages: the messages, each with its lease.
    :param backlog: what the API said is waiting, from the last answer that said so.
    :param consumer: the queue's pull consumer, if it could be read.
    :param error: the failure of a later request of the same pull; the messages leased before it are here.
    :param without_lease: how many items of the answer had no lease ID, so that nothing can be done with them.
    :param remarks: what was odd in the answers, for the log.
    """

    messages: tuple[Message, ...] = ()
    backlog: QueueMetrics | None = None
    consumer: Consumer | None = None
    error: CloudflareQueuesError | None = None
    without_lease: int = 0
    remarks: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Message, ...]: ...
    def __getitem__(self, index: int | slice) -> Message | tuple[Message, ...]:
        return self.messages[index]


class OutgoingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """
    A message to send.

    :param body: ``str`` (text), or a JSON object or array.
    :param content_type: ``text`` or ``json``; None = by the type of the body.
    :param delay_seconds: seconds, 0 to 86,400, before it can be delivered; None = the queue's ``delivery_delay``.
    """

    body: Any
    content_type: str | None = None
    delay_seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SendResult:
    """
    What was sent.

    :param sent_count: messages that the API accepted.
    :param backlog: what is waiting in the queue now, if the API said.
    """

    sent_count: int = 0
    backlog: QueueMetrics | None = None


def _add(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right
