"""Which events of the watchers of a triggerer may still wait for a run of a DAG."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from weakref import WeakKeyDictionary

from airflow_provider_cfqueues.engines.watching.spacing import Spacing


class Sent(NamedTuple):
    """
    An event whose run of a DAG may still come.

    :param at: when it was sent, by the loop's clock.
    :param before: how many runs the DAG had then.
    :param spacing: the event.
    """

    at: float
    before: int
    spacing: Spacing

    def is_owed(self, dag_id: str, count: int, *, is_active: bool) -> bool:
        """
        Return whether the DAG may owe a run to this event, or to one before it, however long ago that was.

        A run that was created before the event was stored was not for it. Another one comes soon, unless the DAG is at
        its ``max_active_runs``.
        """
        first_seen = self.spacing.runs.first_seen if self.spacing.runs else {}
        return count == self.before or (is_active and count == first_seen.get(dag_id))


_PENDING: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, list[Sent]]] = WeakKeyDictionary()
"""
For each DAG, the events whose runs may still come. The events of all watchers of a triggerer are in it, also of those
that have ended: several queues may feed one DAG.
"""


def find_pending(dag_id: str, count: int) -> list[Sent]:
    """Return the events whose runs may still come; none if the DAG has had a run for each of them."""
    events = _PENDING.setdefault(asyncio.get_running_loop(), {}).setdefault(dag_id, [])
    if events and count >= events[0].before + len(events):
        events.clear()
    return events


def note_event(spacing: Spacing, dag_id: str, count: int, *, is_active: bool, follows_unknown: bool) -> list[Spacing]:
    """
    Note that an event is sent now, and doubt it if a run of an earlier one may still come.

    The earlier one is in doubt as well, as long as Airflow has not confirmed it: it may be stored after this one.
    Return the earlier events if the DAG may be at its ``max_active_runs``: then their runs can come late.

    :param spacing: the event.
    :param dag_id: a DAG that it starts.
    :param count: how many runs the DAG has.
    :param is_active: whether it may be at its ``max_active_runs``.
    :param follows_unknown: whether there may be an earlier event that is not noted here.
    """
    now = asyncio.get_running_loop().time()
    events = find_pending(dag_id, count)
    events[:] = [
        sent
        for sent in events
        if now - sent.at < spacing.closing_seconds or sent.is_owed(dag_id, count, is_active=is_active)
    ]
    owed = [sent.spacing for sent in events if is_active]
    if follows_unknown:
        events.append(Sent(now, count, Spacing()))
    if find_pending(dag_id, count):
        for one in [spacing, *(sent.spacing for sent in events)]:
            one.doubt()
    events.append(Sent(now, count, spacing))
    return owed
