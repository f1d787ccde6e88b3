"""
What a sensor waits for: a probe, asked at each poke, by a worker or by the triggerer.

A probe asks in a flow, which ``hook.run`` and ``hook.arun`` drive, so each decision is made in one place for both.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.engines.queue import find_dead_letter_queue
from airflow_provider_cfqueues.engines.settlement import Case, Happened, Situation, check_unmatched, choose_settlement
from airflow_provider_cfqueues.engines.settlement_log import Unconfirmed, log_settlements
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, MatchFailedError
from airflow_provider_cfqueues.matching import AnyMessage, Match, Matcher
from airflow_provider_cfqueues.texts import counted

if TYPE_CHECKING:
    from airflow_provider_cfqueues.client.flow import Flow
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
    from airflow_provider_cfqueues.models import Message, PeekedMessage, PullResult, QueueMetrics

PEEKED_AT_ONCE = 100
"""The most that the API shows of a queue."""
REASONS = {
    Happened.NOT_WANTED: "the sensor does not want it",
    Happened.NOT_STARTED: "the sensor could not hand it over",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probe(ABC):
    """Asks a queue whether what a sensor waits for is there. Its fields are plain values: a trigger stores them."""

    queue_id: str

    @abstractmethod
    def ask(self, hook: CloudflareQueuesHook) -> Flow[Any]:
        """Return what was found, or None: not yet."""

    def to_xcom(self, found: Any) -> Any:
        """Return what was found as plain JSON values."""
        return found

    def give_back(self, hook: CloudflareQueuesHook, found: Any) -> Flow[None]:
        """Undo a find that cannot be handed over."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class MessageProbe(Probe):
    """
    Looks for messages that match, and leases them.

    With a ``match``, it peeks before it leases anything: a delivery in vain would cost each message one of its
    ``max_retries``. What is leased along with a message that matches is settled by the one rule.

    The fields are arguments of :class:`~airflow_provider_cfqueues.sensors.queues.QueueMessageSensor`, checked.
    """

    queue_id: str
    lease: bool
    max_messages: int
    visibility_timeout: float | None
    match: Match
    unmatched: str | None
    unmatched_delay_seconds: int
    dead_letter_queue: str | None

    @cached_property
    def matcher(self) -> Matcher:
        """The loaded ``match``."""
        return Matcher(self.match)

    def ask(self, hook: CloudflareQueuesHook) -> Flow[Sequence[AnyMessage] | None]:
        """
        Return the messages that match, or None.

        :raises LossyMatchError: Cloudflare would delete what ``match`` does not want; nothing was leased.
        :raises MatchFailedError: ``match`` failed for a message; nothing stays leased.
        """
        if not self.lease:
            return (yield from self._look(hook)) or None
        if (yield from self._is_worth_a_pull(hook)):
            return (yield from self._pull(hook)) or None
        return None

    def to_xcom(self, found: Sequence[AnyMessage]) -> list[dict[str, Any]]:
        """Return the messages as plain JSON values."""
        return [message.to_xcom() for message in found]

    def give_back(self, hook: CloudflareQueuesHook, found: Sequence[Message]) -> Flow[None]:
        """Give leased messages back, to be delivered at once."""
        if self.lease:
            yield from self._settle(hook, [_case(message, Happened.NOT_STARTED, 0) for message in found])

    def _look(self, hook: CloudflareQueuesHook) -> Flow[Sequence[AnyMessage]]:
        size = PEEKED_AT_ONCE if self.match else min(self.max_messages, PEEKED_AT_ONCE)
        peeked: list[PeekedMessage] = yield from hook.peek_flow(self.queue_id, size)
        return [message for message in peeked if self.matcher.wants(message)][: self.max_messages]

    def _is_worth_a_pull(self, hook: CloudflareQueuesHook) -> Flow[bool]:
        """Peek first. If that fails, or shows only the head of a long queue without a match, a pull has to decide."""
        matcher = self.matcher  # what cannot be loaded must fail before anything is leased
        if self.match is None:
            return True
        situation = yield from self._find_situation(hook)
        cost = check_unmatched(situation, self.queue_id)
        hook.log_once("match", f"Queue {hook.name_of(self.queue_id)}: {cost}")
        try:
            peeked: list[PeekedMessage] = yield from hook.peek_flow(self.queue_id, PEEKED_AT_ONCE)
        except CloudflareQueuesError as error:
            log.info("Could not peek at the queue, so the sensor pulls to see if messages match: %s", error)
            return True
        return any(matcher.wants(message) for message in peeked) or len(peeked) == PEEKED_AT_ONCE

    def _pull(self, hook: CloudflareQueuesHook) -> Flow[Sequence[Message]]:
        pulled: PullResult = yield from hook.pull_flow(self.queue_id, self.max_messages, self.visibility_timeout)
        wanted: list[Message] = []
        others: list[Case] = []
        failed = None
        for message in pulled:
            try:
                if self.matcher.wants(message):
                    wanted.append(message)
                else:
                    others.append(_case(message, Happened.NOT_WANTED, self.unmatched_delay_seconds))
            except MatchFailedError as error:
                failed = failed or error
                others.append(_case(message, Happened.NOT_STARTED, self.unmatched_delay_seconds))
        if failed is not None:
            others += [_case(message, Happened.NOT_STARTED, 0) for message in wanted]
        yield from self._settle(hook, others)
        if failed is not None:
            raise failed
        return wanted

    def _find_situation(self, hook: CloudflareQueuesHook) -> Flow[Situation]:
        consumer = yield from hook.get_pull_consumer_flow(self.queue_id, required=True)
        found = None
        if self.dead_letter_queue is not None or self.unmatched == "dead_letter":
            found = yield from find_dead_letter_queue(hook, self.queue_id, consumer, self.dead_letter_queue)
        return Situation(consumer=consumer, dead_letter_queue_id=found, unmatched=self.unmatched)

    def _settle(self, hook: CloudflareQueuesHook, cases: list[Case]) -> Flow[None]:
        """Settle what is not handed over. If that fails, the leases end by themselves, and what was found is kept."""
        if not cases:
            return
        queue = hook.name_of(self.queue_id)
        try:
            situation = yield from self._find_situation(hook)
            settlements = [choose_settlement(case, situation) for case in cases]
            log_settlements(log, queue, settlements)
            settling = Settling(settlements, situation)
            try:
                yield from settling.send(self.queue_id)
            finally:
                log_settlements(log, queue, settling.changed)
                Unconfirmed().note(log, queue, settling.unconfirmed("no ack or retry got an answer"))
        except CloudflareQueuesError as error:
            log.warning("Could not give back %s before the leases end: %s", counted(len(cases), "message"), error)


def _case(message: Message, happened: Happened, delay_seconds: int) -> Case:
    return Case(message=message, happened=happened, reason=REASONS[happened], delay_seconds=delay_seconds)


@dataclass(frozen=True, kw_only=True)
class BacklogProbe(Probe):
    """
    Looks at the metrics of a queue; it is satisfied as soon as one of its conditions holds.

    The fields are arguments of :class:`~airflow_provider_cfqueues.sensors.queues.QueueBacklogSensor`, checked.
    """

    queue_id: str
    at_least: float | None
    at_most: float | None
    older_than: float | None

    def ask(self, hook: CloudflareQueuesHook) -> Flow[dict[str, Any] | None]:
        """Return the metrics when a condition holds, or None."""
        metrics: QueueMetrics = yield from hook.get_metrics_flow(self.queue_id)
        oldest = metrics.oldest_message_timestamp
        age = None if oldest is None else (datetime.now(timezone.utc) - oldest).total_seconds()
        log.info(
            "Backlog: %s, the oldest %s",
            counted(metrics.backlog_count, "message"),
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
