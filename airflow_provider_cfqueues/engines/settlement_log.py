"""What the log says of settlements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_provider_cfqueues.engines.settlement import Happened, Kind, Settlement
from airflow_provider_cfqueues.models import Message

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
        name = _name(messages, MAX_LISTED if "DELETES" in text else 1)
        (log.error if is_left else log.warning)("Queue %s: %s %s: %s", queue, name, fate, text)


def _name(messages: list[Message], most: int) -> str:
    """Return messages as the beginning of a sentence, with some of their IDs."""
    if len(messages) == 1:
        return f"Message {messages[0].id} (delivery {messages[0].attempts}) is"
    more = "such as " if len(messages) > most else ""
    return f"{len(messages)} messages ({more}{', '.join(message.id for message in messages[:most])}) are"
