"""
What a sensor waits for: a probe, asked at each poke, by a worker or by the triggerer.

A probe asks in a generator: it yields the name of a call of the hook and its arguments, and is sent what the call
returned or raised. So each decision stands here once, for the sync and the async call.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, MatchFailedError
from airflow_provider_cfqueues.matching import AnyMessage, Match, Matcher
from airflow_provider_cfqueues.models import DEFAULT_MAX_RETRIES

if TYPE_CHECKING:
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
    from airflow_provider_cfqueues.models import Consumer, Message, PeekedMessage, PullResult, QueueMetrics

T = TypeVar("T")
Asking: TypeAlias = Generator[tuple[str, dict[str, Any]], Any, T]

PEEKED_AT_ONCE = 100
"""The most that the API shows of a queue."""

log = logging.getLogger(__name__)


class Probe(Protocol):
    """Asks a queue whether what a sensor waits for is there. A dataclass of plain values: a trigger stores it."""

    def ask(self) -> Asking[Any]:
        """Return what was found as plain JSON values, or None: not yet."""

    def give_back(self, found: Any) -> Asking[None]:
        """
        Undo a find that cannot be handed over.

        :param found: what ``ask`` returned.
        """


def run(hook: CloudflareQueuesHook, asking: Asking[T]) -> T:
    """
    Make the calls that a probe asks for.

    :param hook: makes them.
    :param asking: asks for them.
    """
    answer = error = None
    while True:
        try:
            call, arguments = asking.send(answer) if error is None else asking.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        answer = error = None
        try:
            answer = getattr(hook, call)(**arguments)
        except CloudflareQueuesError as failed:
            error = failed


async def arun(hook: CloudflareQueuesHook, asking: Asking[T]) -> T:
    """Async twin of :func:`run`."""
    answer = error = None
    while True:
        try:
            call, arguments = asking.send(answer) if error is None else asking.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        answer = error = None
        try:
            answer = await getattr(hook, f"a{call}")(**arguments)
        except CloudflareQueuesError as failed:
            error = failed


@dataclass(frozen=True, kw_only=True)
class MessageProbe:
    """
    Looks for messages that match, and leases them.

    With a ``match``, it peeks before it leases anything: a delivery in vain would cost each message one of its
    ``max_retries``. What is leased along with a message that matches is given back.

    :param queue_id: ID of the queue.
    :param lease: whether to lease the messages, or only to look at them.
    :param max_messages: how many at the most.
    :param visibility_timeout: seconds that the leases last; None = the consumer's setting.
    :param match: which messages are wanted.
    :param unmatched_delay_seconds: how long a message that is not wanted stays away.
    """

    queue_id: str
    lease: bool
    max_messages: int
    visibility_timeout: float | None
    match: Match
    unmatched_delay_seconds: int

    @cached_property
    def matcher(self) -> Matcher:
        """The loaded ``match``."""
        return Matcher(self.match)

    def ask(self) -> Asking[list[dict[str, Any]] | None]:
        """
        Return the messages that match as plain JSON values, or None.

        :raises MatchFailedError: ``match`` failed for a message; nothing stays leased.
        """
        if not self.lease:
            wanted = yield from self._look()
        elif (yield from self._is_worth_a_pull()):
            wanted = yield from self._pull()
        else:
            return None
        return [message.to_xcom() for message in wanted] or None

    def give_back(self, found: list[dict[str, Any]]) -> Asking[None]:
        """
        Give leased messages back, to be delivered at once.

        :param found: the messages.
        """
        yield from self._retry([(message["lease_id"], 0) for message in found if "lease_id" in message])

    def _look(self) -> Asking[Sequence[AnyMessage]]:
        size = PEEKED_AT_ONCE if self.match else min(self.max_messages, PEEKED_AT_ONCE)
        peeked: list[PeekedMessage] = yield "peek", {"queue_id": self.queue_id, "max_messages": size}
        return [message for message in peeked if self.matcher.wants(message)][: self.max_messages]

    def _is_worth_a_pull(self) -> Asking[bool]:
        """Peek first; where that fails, or shows the head of a long queue without a match, only a pull can tell."""
        matcher = self.matcher  # what cannot be loaded must fail before anything is leased
        if self.match is None:
            return True
        try:
            peeked: list[PeekedMessage] = yield "peek", {"queue_id": self.queue_id, "max_messages": PEEKED_AT_ONCE}
        except CloudflareQueuesError as error:
            log.info("The pull decides, since a peek was not possible: %s", error)
            return True
        return any(matcher.wants(message) for message in peeked) or len(peeked) == PEEKED_AT_ONCE

    def _pull(self) -> Asking[Sequence[AnyMessage]]:
        arguments = {"max_messages": self.max_messages, "visibility_timeout": self.visibility_timeout}
        pulled: PullResult = yield "pull", {"queue_id": self.queue_id, **arguments}
        wanted: list[Message] = []
        unwanted: list[Message] = []
        failed = None
        for message in pulled:
            try:
                (wanted if self.matcher.wants(message) else unwanted).append(message)
            except MatchFailedError as error:
                failed = failed or error
                unwanted.append(message)
        self._warn_of_last_deliveries(unwanted, pulled.consumer)
        returned = [(message.lease_id, self.unmatched_delay_seconds) for message in unwanted]
        if failed is not None:
            yield from self._retry(returned + [(message.lease_id, 0) for message in wanted])
            raise failed
        yield from self._retry(returned)
        return wanted

    def _retry(self, leases: list[tuple[str, int]]) -> Asking[None]:
        """Give leases back; where that fails, they end by themselves, and what was found is not lost over it."""
        if not leases:
            return
        try:
            yield "ack", {"queue_id": self.queue_id, "retries": leases}
        except CloudflareQueuesError as error:
            log.warning("%d messages come back only when their leases end: %s", len(leases), error)

    def _warn_of_last_deliveries(self, messages: list[Message], consumer: Consumer | None) -> None:
        if consumer is None:
            return
        last = [message.id for message in messages if consumer.is_last_delivery(message.attempts)]
        if last:
            log.warning(
                "Messages that no sensor wanted were delivered %d times (max_retries): Cloudflare %s them now, or after "
                "their next delivery. A queue whose messages are not all for one sensor needs a higher max_retries or a "
                "queue of its own: %s",
                DEFAULT_MAX_RETRIES if consumer.max_retries is None else consumer.max_retries,
                f"moves to {consumer.dead_letter_queue!r}" if consumer.dead_letter_queue else "DELETES",
                ", ".join(last),
            )


@dataclass(frozen=True, kw_only=True)
class BacklogProbe:
    """
    Looks at the metrics of a queue; it is satisfied as soon as one of its conditions holds.

    :param queue_id: ID of the queue.
    :param at_least: the backlog has at least so many messages.
    :param at_most: the backlog has at most so many messages.
    :param older_than: the oldest message was sent more than so many seconds ago.
    """

    queue_id: str
    at_least: float | None
    at_most: float | None
    older_than: float | None

    def ask(self) -> Asking[dict[str, Any] | None]:
        """Return the metrics when a condition holds, or None."""
        metrics: QueueMetrics = yield "get_metrics", {"queue_id": self.queue_id}
        oldest = metrics.oldest_message_timestamp
        age = None if oldest is None else (datetime.now(timezone.utc) - oldest).total_seconds()
        log.info(
            "Backlog: %d messages, the oldest %s",
            metrics.backlog_count,
            "unknown" if age is None else f"{age:.0f} s old",
        )
        if not (
            (self.at_least is not None and metrics.backlog_count >= self.at_least)
            or (self.at_most is not None and metrics.backlog_count <= self.at_most)
            or (self.older_than is not None and age is not None and age > self.older_than)
        ):
            return None
        return {
            "backlog_count": metrics.backlog_count,
            "backlog_bytes": metrics.backlog_bytes,
            "oldest_message_timestamp": oldest and oldest.isoformat(),
        }

    def give_back(self, found: dict[str, Any]) -> Asking[None]:
        """
        Do nothing: nothing was leased.

        :param found: the metrics.
        """
        yield from ()
