"""The asset events that Airflow stored, against the messages that were sent."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from harness.audit import account


class Event(NamedTuple):
    """An asset event, as the metadata database has it: of which asset, of which message."""

    asset: str
    message_id: str
    body: Any
    attempts: int


class Run(NamedTuple):
    """
    A DAG run, as the metadata database has it.

    :param run_id: its ID.
    :param keys: what tells apart the messages that it consumed, by :func:`key_of`.
    """

    run_id: str
    keys: tuple[str, ...]


def compare(events: Sequence[Event], expected: Mapping[str, Collection[Any]]) -> tuple[list[str], int]:
    """
    Return what is wrong with the events, and how many say again what an earlier one said.

    :param events: what Airflow stored.
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
