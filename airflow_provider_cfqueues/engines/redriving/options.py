"""What a redrive is asked to do, and what became of the messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_cfqueues.engines.run import RunReport
from airflow_provider_cfqueues.engines.settlement import Kind
from airflow_provider_cfqueues.matching import Match
from airflow_provider_cfqueues.texts import counted, per_second

DEFAULT_VISIBILITY_SECONDS = 600
"""Twice as long as Cloudflare refuses all calls after too many: so a lease outlasts such a block."""
MAX_LISTED = 100
FATES = {
    "moved": Kind.ACKED,
    "renewed": Kind.RENEWED,
    "returned": Kind.RETRIED,
    "expired": Kind.EXPIRED,
    "unconfirmed": Kind.UNCONFIRMED,
}
"""What a report and the metrics call what became of a message."""


@dataclass(frozen=True, kw_only=True)
class RedriveOptions:
    """
    Which messages are moved, and how.

    :param match: which messages, as :mod:`~airflow_provider_cfqueues.matching` reads it; None = all.
    :param unwrap: send what ``QueueProcessOperator`` wrote about a rejected message as the message that it was.
    :param messages_per_second: move no more than that; None = as many as the API's limit allows.
    :param unmatched_delay_seconds: seconds until a message that is not moved can be delivered again.
    :param max_messages: end after so many messages were pulled; None = no limit.
    :param max_duration: pull nothing more after so many seconds, and move what was pulled; None = no limit.
    :param idle_timeout: end when the queue gave nothing for so many seconds.
    :param visibility_timeout: seconds that the leases last; None = 600.
    :param grace: seconds that what is under way gets when the run is killed.
    """

    match: Match = None
    unwrap: bool = True
    messages_per_second: float | None = None
    unmatched_delay_seconds: int = 300
    max_messages: int | None = None
    max_duration: float | None = None
    idle_timeout: float = 5
    visibility_timeout: float | None = None
    grace: float = 3

    def __post_init__(self) -> None:
        if self.messages_per_second is not None and self.messages_per_second <= 0:
            raise ValueError(f"messages_per_second must be above 0, not {self.messages_per_second:g}")


@dataclass(kw_only=True)
class RedriveReport(RunReport):
    """
    Counts of a run.

    A message that was delivered again during the run is counted again.

    :param sent_not_acked: how many of the unconfirmed ones the target has: a further redrive sends them again.
    :param in_doubt: messages to move, without unmovable ones, that are not confirmed or whose leases ended first.
    :param unmatched: how many ``match`` did not want.
    :param unmovable: how many could not be moved unaltered, were refused, or failed in ``match``.
    :param listed: the first hundred of these, each with ``message_id`` and ``reason``.
    """

    sent_not_acked: int = 0
    in_doubt: int = 0
    unmatched: int = 0
    unmovable: int = 0
    listed: list[dict[str, str]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many messages were to be moved, and are not known to be."""
        return self.unmovable + self.in_doubt

    @property
    def moved(self) -> int:
        """Messages that the target accepted, and whose ack is confirmed."""
        return self.fates[Kind.ACKED]

    @property
    def rate(self) -> float:
        """Messages moved per second, without the wait in an empty queue."""
        return self.moved / self.activity.seconds if self.activity.seconds else 0.0

    def refuse(self, message_id: str, reason: str) -> None:
        """
        Count a message that cannot be moved.

        :param message_id: ID of the message.
        :param reason: why.
        """
        self.unmovable += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append({"message_id": message_id, "reason": reason})

    def __str__(self) -> str:
        backlog = "unknown" if self.backlog is None else self.backlog
        return (
            f"Moved {counted(self.moved, 'message')} ({per_second(self.rate, 1)}), {self.unmatched} unmatched, "
            f"{self.unmovable} unmovable; backlog: {backlog}"
        )

    def to_xcom(self) -> dict[str, Any]:
        """Return the report as plain JSON values; it has no body and no lease."""
        return {
            "pulled": self.pulled,
            **{name: self.fates[kind] for name, kind in FATES.items()},
            **self.unconfirmed.to_xcom(),
            "sent_not_acked": self.sent_not_acked,
            "unmatched": self.unmatched,
            "unmovable": self.unmovable,
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 3),
            "not_moved": self.listed,
        }
