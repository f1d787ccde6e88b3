"""What the log says of settlements, and which messages the API did not confirm: a number alone finds no message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_cfqueues.engines.settlement import Happened, Kind, Settlement
from airflow_provider_cfqueues.exceptions import shorten_lease
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.texts import counted, to_reason

MAX_LISTED = 100


def log_settlements(log: Any, queue: str, settlements: Iterable[Settlement]) -> None:
    """Log what is remarkable about settlements of a queue: a line for all that have the same reason."""
    alike: dict[tuple[Kind, str], list[Message]] = {}
    for one in settlements:
        is_expected = one.case.happened in (Happened.NOT_STARTED, Happened.NOT_WANTED)
        if (one.note or not is_expected) and (text := one.why):
            alike.setdefault((one.kind, text), []).append(one.message)
    for (kind, text), messages in alike.items():
        is_left = kind is Kind.UNCONFIRMED
        ends = min((message.lease_expires_at for message in messages if message.lease_expires_at), default=None)
        fate = f"left leased{f' until {ends:%H:%M:%S} UTC' if ends else ''}" if is_left else kind.value
        name = _name(messages, MAX_LISTED if is_left or "DELETES" in text else 1)
        (log.error if is_left else log.warning)("Queue %s: %s %s: %s", queue, name, fate, text)


def _name(messages: list[Message], most: int) -> str:
    """Return messages as the beginning of a sentence, with some of their IDs."""
    if len(messages) == 1:
        return f"Message {messages[0].id} (delivery {messages[0].attempts}) is"
    more = "such as " if len(messages) > most else ""
    return f"{len(messages)} messages ({more}{', '.join(message.id for message in messages[:most])}) are"


@dataclass
class Unconfirmed:
    """
    The messages of a run whose settlement the API did not confirm.

    :param count: how many they are.
    :param message_ids: the IDs of the first hundred.
    :param leased_until: when the last of their leases ends, if that is known.
    """

    count: int = 0
    message_ids: list[str] = field(default_factory=list)
    leased_until: datetime | None = None

    def note(self, log: Any, queue: str, messages: Iterable[tuple[Message, str | None]]) -> None:
        """
        Name messages in the log, a line for all that have the same reason, and keep their IDs.

        :param messages: the messages, each with why; None = the log says that already.
        """
        alike: dict[str, list[Message]] = {}
        for message, why in messages:
            self.count += 1
            self.leased_until = _latest(self.leased_until, message.lease_expires_at)
            if len(self.message_ids) < MAX_LISTED:
                self.message_ids.append(message.id)
            if why is not None:
                alike.setdefault(to_reason(why), []).append(message)
        for why, unnamed in alike.items():
            for start in range(0, len(unnamed), MAX_LISTED):
                _log(log, queue, unnamed[start : start + MAX_LISTED], why)

    @property
    def rest(self) -> int:
        """How many more there are than those that are listed."""
        return self.count - len(self.message_ids)

    @property
    def when(self) -> str:
        """Until when no other run can pull them, in a sentence; empty if that is not known."""
        if (until := self.leased_until) is None:
            return ""
        return f"What is not confirmed is leased until {until:%H:%M:%S} UTC: a run before then does not pull it"

    @property
    def named(self) -> str:
        """Which they are, in a sentence; empty if there are none."""
        more = f" and {self.rest} more" if self.rest else ""
        return f"Not confirmed: {', '.join(self.message_ids)}{more}." if self.count else ""

    def to_xcom(self) -> dict[str, Any]:
        """Return them as plain JSON values."""
        return {"unconfirmed_ids": list(self.message_ids), "unconfirmed_more": self.rest}


def _log(log: Any, queue: str, messages: list[Message], why: str) -> None:
    ends = _latest(*(message.lease_expires_at for message in messages))
    is_one = len(messages) == 1
    log.warning(
        "Queue %s: the API did not confirm the ack or retry of %s%s. %s%s. That is harmless if the work is safe "
        "to repeat. %s: %s",
        queue,
        counted(len(messages), "message"),
        f" ({why.rstrip('.')})" if why else "",
        "If it is not settled, it is delivered again when its lease ends"
        if is_one
        else "If they are not settled, they are delivered again when their leases end",
        f", by {ends:%H:%M:%S} UTC" if ends else "",
        "Message" if is_one else "Messages",
        ", ".join(f"{message.id} (lease {shorten_lease(message.lease_id)})" for message in messages),
    )


def _latest(*times: datetime | None) -> datetime | None:
    return max((time for time in times if time), default=None)
