"""What a redrive is asked to do, and what became of the messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_cfqueues.matching import Match

DEFAULT_VISIBILITY_SECONDS = 600
"""Twice as long as Cloudflare refuses all calls after too many: a last delivery outlasts that."""
MAX_LISTED = 100


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


@dataclass(kw_only=True)
class RedriveReport:
    """
    Counts of a run.

    Every pulled message ends in exactly one of moved, renewed, returned, expired and unconfirmed. A message that was
    delivered again during the run is counted again.

    :param pulled: messages leased.
    :param moved: messages that the target accepted, and whose ack is confirmed.
    :param renewed: messages sent anew to their own queue and acked there, as this delivery may have been their last.
    :param returned: messages given back and confirmed so.
    :param expired: messages whose lease ended before they were sent; they are delivered again.
    :param unconfirmed: messages of which the API did not confirm what became of them; and those whose last delivery
        this may have been while no copy of them could be sent, which are left leased.
    :param unmatched: how many ``match`` did not want.
    :param unmovable: how many could not be moved unaltered, were refused, or failed in ``match``.
    :param listed: the first hundred of these, each with ``message_id`` and ``reason``.
    :param seconds: how long the run took.
    :param backlog: what the API said is waiting, where it did.
    """

    pulled: int = 0
    moved: int = 0
    renewed: int = 0
    returned: int = 0
    expired: int = 0
    unconfirmed: int = 0
    unmatched: int = 0
    unmovable: int = 0
    listed: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    backlog: int | None = None

    @property
    def rate(self) -> float:
        """Messages moved per second."""
        return self.moved / self.seconds if self.seconds else 0.0

    def refuse(self, message_id: str, reason: str) -> None:
        """
        Count a message that cannot be moved.

        :param message_id: ID of the message.
        :param reason: why.
        """
        self.unmovable += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append({"message_id": message_id, "reason": reason})

    def to_xcom(self) -> dict[str, Any]:
        """Return the report as plain JSON values; it has no body and no lease."""
        return {
            "pulled": self.pulled,
            "moved": self.moved,
            "renewed": self.renewed,
            "returned": self.returned,
            "expired": self.expired,
            "unconfirmed": self.unconfirmed,
            "unmatched": self.unmatched,
            "unmovable": self.unmovable,
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
            "not_moved": self.listed,
        }
