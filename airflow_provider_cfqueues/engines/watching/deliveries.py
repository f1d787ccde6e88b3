"""Messages on their way through the watchers, and how they are settled after that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from airflow_provider_cfqueues.engines.settlement import Happened
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.engines.watching.spacing import ExpectedRuns, Spacing
from airflow_provider_cfqueues.models import Message


class AdvanceOutcome(Protocol):
    """What the watchers did with a batch: Airflow's ``AdvanceOutcome``, or an object with the same counts."""

    @property
    def acked(self) -> int:
        """Watchers that are done with it, and whose event is stored if they made one."""

    @property
    def failed(self) -> int:
        """Watchers that failed, or whose event was not stored in time."""

    @property
    def rejected(self) -> int:
        """Watchers that refused it for good."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """
    What happened to a message; the one rule decides what the API is told.

    :param message: the message.
    :param happened: what happened to it.
    :param reason: why it is not acked.
    :param delay_seconds: how long it waits if it is given back.
    """

    message: Message
    happened: Happened
    reason: str
    delay_seconds: int | None


@dataclass(kw_only=True, eq=False)
class Delivery:
    """
    A message, shared by all watchers of its queue. What they did with it is counted here.

    Airflow says only that a watcher is done with a batch, not which messages it wanted. It says so even if the watcher
    was cancelled after its filter made the event and before Airflow took it. So the filters keep count themselves.

    :param message: the message.
    :param lease_ends_at: when its lease ends.
    :param size: how many bytes it adds to an event.
    :param judged: how many watchers looked at it.
    :param offered: how many put it into an event.
    :param taken: how many of these events Airflow took over.
    :param left_to_task: whether one of them leaves the settling to a DAG.
    :param refusals: why watchers refused it.
    """

    message: Message
    lease_ends_at: datetime
    size: int
    judged: int = 0
    offered: int = 0
    taken: int = 0
    left_to_task: bool = False
    refusals: list[str] = field(default_factory=list)

    def give_back(self, delay_seconds: int | None) -> Verdict:
        """
        Return the verdict on a message that no watcher has seen.

        :param delay_seconds: how long it waits.
        """
        reason = "no watcher got to see it"
        return Verdict(message=self.message, happened=Happened.NOT_STARTED, reason=reason, delay_seconds=delay_seconds)

    def decide(self, outcome: AdvanceOutcome, options: WatchOptions, missing: str = "") -> Verdict | None:
        """
        Return what happened to a message; None where the settling is left to a DAG.

        :param outcome: how the watchers left the batch.
        :param options: how the queue is watched.
        :param missing: why a watcher of the queue is not there, which might have wanted the message.
        """
        if self.left_to_task:
            return None
        if self.refusals:
            return self._judge(Happened.REJECTED, options, "; ".join(self.refusals))
        was_seen_by_all = self.judged >= max(1, outcome.acked + outcome.failed + outcome.rejected)
        if not was_seen_by_all or self.offered > self.taken or (self.offered and outcome.failed):
            return self._judge(Happened.NOT_STARTED, options, "Airflow did not confirm that its event is stored")
        if self.taken:
            return self._judge(Happened.HANDLED, options, "")
        if missing:
            return self._judge(Happened.NOT_STARTED, options, missing)
        return self._judge(Happened.NOT_WANTED, options, "no watcher wants it")

    def _judge(self, happened: Happened, options: WatchOptions, reason: str) -> Verdict:
        return Verdict(message=self.message, happened=happened, reason=reason, delay_seconds=options.delay_seconds)


@dataclass(kw_only=True, eq=False)
class Batch:
    """
    The messages that go through the watchers together: each makes at most one event of it.

    :param deliveries: the messages; none, where it only closes earlier events.
    :param options: how the stream that it came from is run.
    :param pulled_at: when its first message was pulled.
    :param backlog_count: how many messages were left in the queue.
    :param spacings: what the watchers' events ask for before the next.
    :param has_failed: whether an event of it may not be stored, so that no run of it is to be waited for.
    :param resolved: set once the watchers are through with it, and its messages are settled or being settled.
    """

    deliveries: Sequence[Delivery]
    options: WatchOptions
    pulled_at: datetime
    backlog_count: int | None
    spacings: list[Spacing] = field(default_factory=list)
    has_failed: bool = False
    resolved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def leases_end_at(self) -> datetime:
        """When the first of its leases ends."""
        return min(delivery.lease_ends_at for delivery in self.deliveries)

    @property
    def expected_runs(self) -> list[ExpectedRuns]:
        """The runs that the watchers' events start, where they are known."""
        return [] if self.has_failed else [spacing.runs for spacing in self.spacings if spacing.runs is not None]

    async def creation(self) -> None:
        """Wait for the runs that the watchers' events start, where they are known."""
        for runs in self.expected_runs:
            await runs.creation()

    def take(self, deliveries: Sequence[Delivery], spacing: Spacing, *, left_to_task: bool) -> None:
        """
        Note that Airflow took a watcher's event over.

        :param deliveries: the messages in it.
        :param spacing: what is to pass before the next event.
        :param left_to_task: whether a DAG settles them.
        """
        self.spacings.append(spacing)
        for delivery in deliveries:
            delivery.taken += 1
            delivery.left_to_task = delivery.left_to_task or left_to_task
