"""What became of the messages of a ``drain``, for programs and for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_cfqueues.cli.formats import number
from airflow_provider_cfqueues.engines.settlement import Kind
from airflow_provider_cfqueues.exceptions import shorten_lease
from airflow_provider_cfqueues.texts import counted

MAX_LISTED = 100


@dataclass
class Drained:
    """
    Counts of a run, and the leases that are open.

    :param written: messages whose lines are safe.
    :param fates: how many messages ended how.
    :param held: the leases that are not known to be settled, with the IDs of their messages.
    :param texts: what the API said of some of these.
    :param backlog: how many messages are left, if the API said so.
    """

    queue_id: str
    visibility_timeout: float
    written: int = 0
    fates: Counter[Kind] = field(default_factory=Counter)
    held: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    backlog: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return what was done, as plain JSON values."""
        listed = [
            {
                "message_id": message_id,
                "lease": shorten_lease(lease_id),
                **({"text": self.texts[lease_id]} if lease_id in self.texts else {}),
            }
            for lease_id, message_id in self.held.copy().items()
        ]
        return {
            "queue_id": self.queue_id,
            "written": self.written,
            "acked": self.fates[Kind.ACKED],
            "given_back": self.fates[Kind.RETRIED],
            "renewed": self.fates[Kind.RENEWED],
            "unconfirmed": len(self.held),
            "not_confirmed": listed[:MAX_LISTED],
            "backlog_count": self.backlog,
        }

    def summary(self, queue: str, file: str) -> str:
        """Return what was done, for people."""
        acked, given_back, renewed = (number(self.fates[kind]) for kind in (Kind.ACKED, Kind.RETRIED, Kind.RENEWED))
        parts = [f"Wrote {counted(self.written, 'message')} of {queue} to {file}, acked {acked}"]
        if self.fates[Kind.RETRIED]:
            parts.append(f"gave {given_back} back, which used up one delivery of each")
        if self.fates[Kind.RENEWED]:
            parts.append(f"sent {renewed} to their queue again, because that may have been their last delivery")
        if self.backlog and not self.held:
            parts.append(f"its backlog is {number(self.backlog)}")
        lines = [", ".join(parts)]
        if self.held:
            lines.append(
                f"Not confirmed: {counted(len(self.held), 'lease')}. Messages that are not settled are delivered again "
                f"when their leases end, within {self.visibility_timeout:g} s, which uses up one delivery of each. "
                "The output may then have their lines twice"
            )
            lines += [
                f"  {item['message_id']} (lease {item['lease']})" + (f": {item['text']}" if "text" in item else "")
                for item in self.facts()["not_confirmed"]
            ]
            if len(self.held) > MAX_LISTED:
                lines.append(f"  and {number(len(self.held) - MAX_LISTED)} more")
        return "\n".join(lines)
