"""What DAG runs consumed, against the messages that were sent."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from harness.audit import account


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


def compare(events: Sequence[Event], expected: Mapping[str, Collection[Any]]) -> tuple[list[str], int]:
    """
    Return what is wrong with what runs consumed, and how many messages they consumed again.

    :param events: what they consumed.
    :param expected: the bodies of the messages by asset; no two are the same.
    """
    problems, again = [], 0
    for asset, bodies in expected.items():
        stored = (key_of(event.body) for event in events if event.asset == asset)
        found = account(map(key_of, bodies), stored)
        if found.lost:
            problems.append(f"{len(found.lost)} messages LOST for {asset}, such as {sorted(found.lost)[:3]}")
        if strange := sorted(found.strange):
            problems.append(f"{len(strange)} events of {asset} of no message, such as {strange[:3]}")
        again += sum(found.again.values())
    return problems, again


def key_of(body: Any) -> str:
    """Return what tells a message from others."""
    return json.dumps(body, sort_keys=True)
