"""Messages on their way through the watchers, and how they are settled after that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_cfqueues.engines.settlement import Case, Happened
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.engines.watching.runs import ExpectedRuns
from airflow_provider_cfqueues.engines.watching.spacing import Spacing
from airflow_provider_cfqueues.models import Message

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import AdvanceOutcome


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

    def decide(self, outcome: AdvanceOutcome, missing: str = "", delay_seconds: int | None = None) -> Case | None:
        """
        Return what happened to a message; None where the settling is left to a DAG.

        :param outcome: how many watchers are done with the batch, failed, and refused it for good.
        :param missing: why a watcher of the queue is not there, which might have wanted the message.
        :param delay_seconds: how long it waits if it is given back.
        """
        if self.left_to_task:
            return None
        happened, reason = self._decide(outcome, missing)
        return Case(message=self.message, happened=happened, reason=reason, delay_seconds=delay_seconds)

    def _decide(self, outcome: AdvanceOutcome, missing: str) -> tuple[Happened, str]:
        if self.refusals:
            return Happened.REJECTED, "; ".join(self.refusals)
        was_seen_by_all = self.judged >= max(1, outcome.acked + outcome.failed + outcome.rejected)
        if not was_seen_by_all or self.offered > self.taken or (self.offered and outcome.failed):
            return Happened.NOT_STARTED, "Airflow did not confirm that its event is stored"
        if self.taken:
            return Happened.HANDLED, ""
        if missing:
            return Happened.NOT_STARTED, missing
        return Happened.NOT_WANTED, "no watcher wants it"


@dataclass(kw_only=True, eq=False)
class Batch:
    """
    The messages that go through the watchers together: each makes at most one event of it.

    :param deliveries: the messages; none, where it only closes earlier events.
    :param options: how the stream that it came from is run.
    :param pulled_at: when its first message was pulled.
    :param backlog_count: how many messages were left in the queue.
    :param spacings: what the watchers' events ask for before the next.
    :param is_decided: whether the watchers are through with it.
    :param has_failed: whether an event of it may not be stored, so that no run of it is to be waited for.
    :param resolved: set once its messages are settled or being settled.
    """

    deliveries: Sequence[Delivery]
    options: WatchOptions
    pulled_at: datetime
    backlog_count: int | None
    spacings: list[Spacing] = field(default_factory=list)
    is_decided: bool = False
    has_failed: bool = False
    resolved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def expected_runs(self) -> list[ExpectedRuns]:
        """The runs that the watchers' events start, where they are known."""
        return [] if self.has_failed else [spacing.runs for spacing in self.spacings if spacing.runs is not None]

    async def creation(self) -> None:
        """Wait for the runs that the watchers' events start, where they are known."""
        for runs in self.expected_runs:
            await runs.creation()

    @property
    def in_doubt(self) -> list[Spacing]:
        """The watchers' events that are in a run only once a further one is stored."""
        return [spacing for spacing in self.spacings if spacing.is_in_doubt]

    @property
    def acked_once_closed(self) -> list[Spacing]:
        """The events in doubt whose messages the stream acks. The messages of the others are acked by a DAG."""
        return [spacing for spacing in self.in_doubt if spacing.has_messages and not spacing.is_left_to_task]

    async def closing(self) -> None:
        """Wait until it is known of each event in doubt, whose messages the stream acks, whether it is in a run."""
        for spacing in self.acked_once_closed:
            await spacing.closing.wait()

    def take(self, deliveries: Sequence[Delivery], spacing: Spacing, *, left_to_task: bool) -> None:
        """
        Note that Airflow took a watcher's event over.

        :param deliveries: the messages in it.
        :param spacing: what is to pass before the next event.
        :param left_to_task: whether a DAG settles them.
        """
        spacing.is_left_to_task = left_to_task
        self.spacings.append(spacing)
        for delivery in deliveries:
            delivery.taken += 1
            delivery.left_to_task |= left_to_task
