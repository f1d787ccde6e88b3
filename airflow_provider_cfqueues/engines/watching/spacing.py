"""
How far apart the events of a watcher must be for each to start a run.

In Airflow 3.0 to 3.3, a run gets the events up to the *first* one since the last run. An event that is stored between
that event and the scheduler's next pass waits for one more event (apache/airflow#54659, #70970). So a watcher sends its
next event only when the run of its last one exists: then each event is the first since the last run, and starts a run.
Messages that arrive meanwhile wait in the queue, and go into the next event together.

With ``dag_ids``, the watcher asks the triggerer's supervisor how many runs these DAGs have. Without ``dag_ids``, it
waits for as long as a scheduler commonly takes. An event is in doubt if that may have been too short, or if the run may
be that of another event: an event without messages follows, unless one with messages comes as late. The messages are
acked only once that closing event is stored. If a DAG makes no runs, or may be at its ``max_active_runs``, another one
follows after its next run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from airflow_provider_cfqueues._compat import HAS_LATE_EVENT_GAP
from airflow_provider_cfqueues._compat.events import count_dag_runs, skips_late_events
from airflow_provider_cfqueues.engines.watching.options import DOUBT, WatchOptions
from airflow_provider_cfqueues.engines.watching.runs import ACTIVE, ExpectedRuns


@dataclass(kw_only=True, eq=False)
class Spacing:
    """
    What must happen between an event and the next one of the stream.

    :param watcher: whose event it is.
    :param has_messages: whether it has messages; else it only takes others along.
    :param seconds: how long the scheduler may take to create its runs, where they are not known, or it is not stored.
    :param closing_seconds: after how many seconds a further event takes this one along, if it is in doubt.
    :param closes: the events in doubt that this one takes along.
    :param runs: the runs that the event starts, where their DAGs are known.
    :param is_in_doubt: whether it, or what it takes along, may be in no run of a DAG until a further event is stored.
    :param is_left_to_task: whether a DAG settles the event's messages.
    :param decided_at: when Airflow was through with the event, by the loop's clock.
    :param is_closed: whether an event that takes this one along is stored.
    :param closing: set once it is known whether there is one.
    """

    watcher: Any = None
    has_messages: bool = False
    seconds: float = 0
    closing_seconds: float = 0
    closes: Sequence[Spacing] = ()
    runs: ExpectedRuns | None = None
    is_in_doubt: bool = False
    is_left_to_task: bool = False
    decided_at: float = inf
    is_closed: bool = False
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_open(self) -> bool:
        """Whether the event is in doubt, and a further one may still take it along."""
        return self.is_in_doubt and not self.closing.is_set()

    @property
    def due_at(self) -> float:
        """When the scheduler has created the run that was due as the event was stored: a further one takes it along."""
        return self.decided_at + self.closing_seconds

    def is_due(self) -> bool:
        """Return whether a further event takes this one along."""
        return asyncio.get_running_loop().time() >= self.due_at

    def doubt(self) -> None:
        """Note that the event may be in no run. Once Airflow is through with it, nothing can be stored before it."""
        if self.has_messages and self.decided_at == inf:
            self.is_in_doubt = True

    def decide(self, *, is_stored: bool) -> None:
        """Note that Airflow is through with the event, and whether it took others along."""
        self.decided_at = asyncio.get_running_loop().time()
        for earlier in self.closes:
            earlier.close(is_closed=is_stored)
        self.closes = ()

    def close(self, *, is_closed: bool) -> None:
        """Note whether another event took this one along. The first word counts."""
        if self.is_open:
            self.is_closed = is_closed
            self.closing.set()


class _Sent(NamedTuple):
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


_PENDING: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, list[_Sent]]] = WeakKeyDictionary()
"""
For each DAG, the events whose runs may still come. The events of all watchers of a triggerer are in it, also of those
that have ended: several queues may feed one DAG.
"""


def _find_pending(dag_id: str, count: int) -> list[_Sent]:
    """Return the events whose runs may still come; none if the DAG has had a run for each of them."""
    events = _PENDING.setdefault(asyncio.get_running_loop(), {}).setdefault(dag_id, [])
    if events and count >= events[0].before + len(events):
        events.clear()
    return events


def _note_event(spacing: Spacing, dag_id: str, count: int, *, is_active: bool, follows_unknown: bool) -> list[Spacing]:
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
    events = _find_pending(dag_id, count)
    events[:] = [
        sent
        for sent in events
        if now - sent.at < spacing.closing_seconds or sent.is_owed(dag_id, count, is_active=is_active)
    ]
    owed = [sent.spacing for sent in events if is_active]
    if follows_unknown:
        events.append(_Sent(now, count, Spacing()))
    if _find_pending(dag_id, count):
        for sent in events:
            sent.spacing.doubt()
        spacing.doubt()
    events.append(_Sent(now, count, spacing))
    return owed


class Spacer:
    """
    Decides for each event of a watcher what must happen before the next.

    :param options: how it watches the queue.
    """

    def __init__(self, options: WatchOptions, *, log: Any) -> None:
        self._dag_ids = options.dag_ids
        self._run_seconds = options.run_seconds
        self._log = log
        # The asset manager alone is not enough on SQLite, which locks no rows; a triggerer cannot know the database.
        self._is_needed = HAS_LATE_EVENT_GAP if options.dag_ids else skips_late_events()
        self._silent: dict[str, int] = {}
        self._last: Spacing | None = None
        self._in_doubt: list[Spacing] = []
        self._started_at = inf
        self.is_removed = False
        """Whether Airflow has stopped the watcher because its row is gone."""

    def start(self) -> None:
        """Note that the watcher starts. Another triggerer may have made an event for it just before."""
        self._started_at = asyncio.get_running_loop().time()

    def stop(self) -> None:
        """Note that the watcher ends."""
        if self._last is not None and self._last.runs is not None:
            self._last.runs.leave()
        for spacing in self._open:
            spacing.close(is_closed=False)

    async def before_event(self, *, is_closing: bool = False) -> Spacing:
        """
        Return what must happen after an event that is made now; wait, if the watcher has just started.

        :param is_closing: whether the event has no messages, and only takes others along.
        """
        if not self._is_needed:
            return Spacing(watcher=self)
        await asyncio.sleep(max(0.0, self._started_at + self._run_seconds - asyncio.get_running_loop().time()))
        spacing = Spacing(
            watcher=self,
            has_messages=not is_closing,
            seconds=self._run_seconds,
            closing_seconds=DOUBT * self._run_seconds,
        )
        owed = await self._expect_runs(spacing)
        due = [earlier for earlier in self._open if earlier.is_due()]
        if any(earlier in owed for earlier in due):
            # Its run may be owed to an event before those that it is to take along: another one follows.
            spacing.is_in_doubt = True
        else:
            spacing.closes = due
        return spacing

    async def _expect_runs(self, spacing: Spacing) -> list[Spacing]:
        """
        Note which runs an event made now starts, where they are known, and whether it may be in none.

        Return the earlier events whose runs may come late.
        """
        last, unsure, owed = self._last, [], []
        last_at = self._started_at if last is None else last.decided_at
        is_soon = asyncio.get_running_loop().time() - last_at < spacing.closing_seconds
        if self._dag_ids is None:
            if is_soon:
                spacing.doubt()
            return []
        try:
            before = {dag_id: await count_dag_runs(dag_id) for dag_id in self._dag_ids}
            active = await self._find_active(before, spacing.closing_seconds)
            if last is None or last.runs is None:
                # A DAG without runs is new: no other triggerer sent an event for it.
                known = [dag_id for dag_id, count in before.items() if count or last is not None]
                unsure = [dag_id for dag_id in known if is_soon or await count_dag_runs(dag_id, ACTIVE)]
        except Exception as error:  # noqa: BLE001 - a guess is better than no event
            self._log.warning(
                "Could not ask Airflow how many runs the DAGs %s have: %s. Waiting run_seconds instead",
                [*self._dag_ids],
                error,
            )
            spacing.doubt()
            return []
        for dag_id, count in before.items():
            if self._silent.get(dag_id, count) != count:
                del self._silent[dag_id]
        loud = {dag_id: count for dag_id, count in before.items() if dag_id not in self._silent}
        spacing.runs = ExpectedRuns(loud, silent=self._silent, log=self._log)
        spacing.is_in_doubt = loud != before
        # A run of another event looks like one of this event.
        for dag_id, count in loud.items():
            is_active, follows_unknown = dag_id in active, dag_id in unsure
            owed += _note_event(spacing, dag_id, count, is_active=is_active, follows_unknown=follows_unknown)
        return owed

    async def _find_active(self, counts: dict[str, int], closing_seconds: float) -> set[str]:
        """
        Return which DAGs owe a run for long and may be at their ``max_active_runs``, and bring the counts up to date.

        If a run has just ended, the one that is owed comes within ``run_seconds``.
        """
        time = asyncio.get_running_loop().time
        old = [
            dag_id
            for dag_id, count in counts.items()
            if any(time() - sent.at >= closing_seconds for sent in _find_pending(dag_id, count))
        ]
        active = {dag_id for dag_id in old if await count_dag_runs(dag_id, ACTIVE)}
        if len(active) < len(old):
            await asyncio.sleep(self._run_seconds)
            counts |= {dag_id: await count_dag_runs(dag_id) for dag_id in old}
        return active

    async def must_close(self) -> bool:
        """
        Return whether an event without messages is to be sent now, to take along those in doubt.

        The last of them is old enough then. If that one has no messages itself, and a DAG made no runs, a further event
        is put off as long as it makes none.
        """
        if not any(self._open) or not self._open[-1].is_due():
            return False
        last = self._open[-1]
        if last.has_messages or await self._is_back():
            return True
        last.decided_at = asyncio.get_running_loop().time()
        return False

    async def _is_back(self) -> bool:
        """Return whether a DAG that made no runs has made one since."""
        try:
            counts = {dag_id: await count_dag_runs(dag_id) for dag_id in list(self._silent)}
        except Exception:  # noqa: BLE001 - it is asked again
            return False
        return counts != self._silent or not counts

    def after_event(self, spacing: Spacing) -> None:
        """Note that Airflow took an event over, with what was returned before it."""
        self._last = spacing
        self._in_doubt = [*self._open, spacing]

    @property
    def _open(self) -> list[Spacing]:
        """The events in doubt that no other has taken along."""
        return [spacing for spacing in self._in_doubt if spacing.is_open]
