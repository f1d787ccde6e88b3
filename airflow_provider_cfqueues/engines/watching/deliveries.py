"""One message on its way through the watchers, and what is told to the API once they are through with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from airflow_provider_cfqueues.engines.settlement import Happened, Kind, Settlement
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.models import Message, PullResult


class AdvanceOutcome(Protocol):
    """How the watchers that were there left an event: Airflow's ``AdvanceOutcome``, or what stands for it."""

    @property
    def acked(self) -> int:
        """Watchers that are through with it, whatever they made of it being stored."""

    @property
    def failed(self) -> int:
        """Watchers that did not get through, or whose event was not stored in time."""

    @property
    def rejected(self) -> int:
        """Watchers that refused it for good."""


@dataclass(kw_only=True, eq=False)
class Pull:
    """
    The messages of one pull, settled together once all are decided.

    :param result: what it gave.
    :param pulled_at: when.
    :param leases_end_at: when its leases end.
    :param undecided: how many of its messages the watchers are not through with.
    :param unsettled: how many of its leases the API was told nothing of.
    :param settlements: what is decided and not told yet.
    """

    result: PullResult
    pulled_at: datetime
    leases_end_at: datetime
    undecided: int = 0
    unsettled: int = 0
    settlements: list[Settlement] = field(default_factory=list)

    def is_open(self, now: datetime) -> bool:
        """
        Return whether some of its leases last and are not settled.

        :param now: the time.
        """
        return self.unsettled > 0 and self.leases_end_at > now


@dataclass(kw_only=True, eq=False)
class Delivery:
    """
    A message, shared by all watchers of its queue. What they did with it is counted here.

    Airflow says only that a watcher got past a message, not whether it wanted it, and it says so too of a watcher that
    was cancelled after its filter gave the event and before Airflow took it. So the filters keep count themselves.

    :param message: the message.
    :param pull: the pull that it came from.
    :param options: how the stream that it came from is run.
    :param judged: how many watchers looked at it.
    :param offered: how many made an event of it.
    :param taken: how many of these events Airflow took over.
    :param left_to_task: whether one of them leaves the settling to a DAG.
    :param refusals: why watchers refused it.
    """

    message: Message
    pull: Pull
    options: WatchOptions
    judged: int = 0
    offered: int = 0
    taken: int = 0
    left_to_task: bool = False
    refusals: list[str] = field(default_factory=list)

    def take(self, *, left_to_task: bool) -> None:
        """
        Note that Airflow took an event over.

        :param left_to_task: whether a DAG settles it.
        """
        self.taken += 1
        self.left_to_task = self.left_to_task or left_to_task

    def decide(self, outcome: AdvanceOutcome) -> Settlement | None:
        """
        Return what the API is to be told; None where that is left to a DAG.

        :param outcome: how the watchers left the message.
        """
        if self.left_to_task:
            return None
        if outcome.rejected or self.refusals:
            return self._settle(Kind.REJECTED, "; ".join(self.refusals) or "refused by a watcher")
        if outcome.failed or self.offered > self.taken or self.judged < max(1, outcome.acked):
            return self._settle(Kind.RETRIED, "Airflow did not confirm that its event is stored")
        if self.taken:
            return self._settle(Kind.ACKED)
        kind = {"retry": Kind.RETRIED, "dead_letter": Kind.REJECTED, "ack": Kind.ACKED}[self.options.unmatched]
        return self._settle(kind, "no watcher wants it")

    def _settle(self, kind: Kind, reason: str = "") -> Settlement:
        delay = self.options.delay_seconds if kind is Kind.RETRIED else None
        happened = Happened.HANDLED if kind is Kind.ACKED else Happened.NOT_STARTED
        return Settlement(message=self.message, happened=happened, kind=kind, delay_seconds=delay, reason=reason)
