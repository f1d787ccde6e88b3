"""What asset events and DAG runs hold, as the metadata database has it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Event(NamedTuple):
    """A message in an asset event, as the metadata database has it, and of which asset the event is."""

    asset: str
    message_id: str
    body: Any
    attempts: int


class Run(NamedTuple):
    """
    A DAG run, as the metadata database has it.

    :param run_id: its ID.
    :param messages: those in the events that it consumed.
    """

    run_id: str
    messages: tuple[Event, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """What tells its messages apart, by :func:`key_of`."""
        return tuple(key_of(message.body) for message in self.messages)


def read_messages(asset: str, extra: Any) -> list[Event]:
    """
    Return the messages in an asset event.

    :param asset: the name of its asset.
    :param extra: what the database holds of it: JSON, read or not.
    """
    held = json.loads(extra) if isinstance(extra, str) else extra or {}
    messages = held.get("payload", {}).get("messages", ())
    return [Event(asset, message["id"], message.get("body"), message["attempts"]) for message in messages]


def key_of(body: Any) -> str:
    """Return what tells a message from others."""
    return json.dumps(body, sort_keys=True)
