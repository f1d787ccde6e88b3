"""
How far apart the events of a watcher must be for each to start a run.

In Airflow 3.0 to 3.3, a run gets the events up to the *first* one since the last run. An event that is stored between
that event and the scheduler's next pass waits for one more event (apache/airflow#54659, #70970). So a watcher sends its
next event only when the run of its last one exists: then each event is the first since the last run, and starts a run.
Messages that arrive meanwhile wait in the queue, and go into the next event together.

With ``dag_ids``, the watcher asks the triggerer's supervisor how many runs these DAGs have. Without ``dag_ids``, it
waits for as long as a scheduler commonly takes. An event is in doubt if that may have been too short, or if the run may
be that of another event: an event without messages follows, unless one with messages comes as late. The messages are
acked only once that closing event is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from airflow_provider_cfqueues._compat import HAS_LATE_EVENT_GAP
from airflow_provider_cfqueues._compat.events import count_dag_runs, skips_late_events
from airflow_provider_cfqueues.engines.watching.options import DOUBT, WatchOptions

ASK_SECONDS = 1
"""Seconds between two questions about the number of runs."""
NO_RUN_SECONDS = 300
"""A DAG that makes no run for so long, while none of its runs is active, is not waited for again until it makes one."""
LAST_RUN_SECONDS = 3
"""How long a watcher that stops waits for the run of its last event."""


@dataclass(kw_only=True, eq=False)
class Spacing:
    """
    What must happen between an event and the next one of the stream.

    :param watcher: whose event it is.
    :param runs: the runs that the event starts, where their DAGs are known.
    :param seconds: how long the scheduler may take to create them, where they are not, or the event may not be stored.
    :param closing_seconds: after how many seconds a further event takes this one along, if it is in doubt; None = it is
        not.
    :param closes: the events in doubt that this one takes along.
    :param is_left_to_task: whether a DAG settles the event's messages.
    :param decided_at: when Airflow was through with the event, by the loop's clock.
    :param is_closed: whether an event that takes this one along is stored.
    :param closing: set once it is known whether there is one.
    """

    watcher: Any = None
    runs: ExpectedRuns | None = None
    seconds: float = 0
    closing_seconds: float | None = None
    closes: Sequence[Spacing] = ()
    is_left_to_task: bool = False
    decided_at: float = float("inf")
    is_closed: bool = False
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_open(self) -> bool:
        """Whether the event is in doubt, and a further one may still take it along."""
        return self.closing_seconds is not None and not self.closing.is_set()

    @property
    def due_at(self) -> float:
        """When the scheduler has created the run that was due as the event was stored: a further one takes it along."""
        return self.decided_at + (self.closing_seconds or 0)

    def is_due(self) -> bool:
        """Return whether a further event takes this one along."""
        return asyncio.get_running_loop().time() >= self.due_at

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


class ExpectedRuns:
    """
    The runs that an event starts, one of each DAG.

    :param before: how many runs each DAG had before the event.
    :param silent: gets the DAGs that make no runs, with how many they have.
    """

    def __init__(self, before: Mapping[str, int], *, silent: dict[str, int], log: Any) -> None:
        self.missing = dict(before)
        self.is_abandoned = False
        self._silent = silent
        self._log = log
        self._creation: asyncio.Task[None] | None = None
        self._has_watcher = True

    async def creation(self) -> None:
        """Wait until each DAG has one more run. A DAG that does not seem to make runs is not waited for."""
        if self._creation is None:
            self._creation = asyncio.create_task(self._wait())
        await asyncio.wait({self._creation})

    def leave(self) -> None:
        """Note that the watcher stops. If its DAG is paused, there will be no run, so the wait is short."""
        self._has_watcher = False

    def give_up(self) -> None:
        """Stop waiting."""
        self.missing.clear()
        if self._creation is not None:
            self._creation.cancel()

    async def _wait(self) -> None:
        time = asyncio.get_running_loop().time
        last_active = dict.fromkeys(self.missing, time())
        trouble, deadline = "", float("inf")
        while self.missing:
            try:
                await self._count(last_active)
            except Exception as error:  # noqa: BLE001 - an Airflow that does not answer is asked again
                if not trouble:
                    trouble = str(error) or type(error).__name__
                    self._log.warning(
                        "Could not ask Airflow how many runs the DAGs %s have: %s. Asking again",
                        [*self.missing],
                        trouble,
                    )
            self._ignore_silent([one for one in self.missing if time() - last_active[one] > NO_RUN_SECONDS])
            if not self._has_watcher:
                deadline = min(deadline, time() + LAST_RUN_SECONDS)
            if self.missing and time() >= deadline:
                self.is_abandoned = True
                self.missing.clear()
            if self.missing:
                await asyncio.sleep(ASK_SECONDS)

    async def _count(self, last_active: dict[str, float]) -> None:
        for dag_id, before in list(self.missing.items()):
            if await count_dag_runs(dag_id) > before:
                self.missing.pop(dag_id, None)
            elif await count_dag_runs(dag_id, ["queued", "running"]):
                last_active[dag_id] = asyncio.get_running_loop().time()  # it may have reached max_active_runs

    def _ignore_silent(self, dag_ids: Sequence[str]) -> None:
        for dag_id in dag_ids:
            self._log.warning(
                "DAG %s created no run within %d s after an event. Is it paused, or does it wait for another asset as "
                "well? Until it does, events may wait for a later event before they are in a run",
                dag_id,
                NO_RUN_SECONDS,
            )
            self._silent[dag_id] = self.missing.pop(dag_id)


_PENDING: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, list[tuple[float, int]]]] = WeakKeyDictionary()
"""
For each DAG, when events were sent whose runs may still come, and how many runs it had then. The events of all watchers
of a triggerer are in it, also of those that have ended: several queues may feed one DAG.
"""


def _note_event(dag_id: str, count: int, patience: float) -> bool:
    """
    Note that an event is sent now; return whether a run of an earlier one may still come, so that it is in doubt.

    :param dag_id: a DAG that the event starts.
    :param count: how many runs it has.
    :param patience: after how many seconds one run may be that of several events.
    """
    loop = asyncio.get_running_loop()
    events = _PENDING.setdefault(loop, {}).setdefault(dag_id, [])
    events[:] = [(at, before) for at, before in events if before == count or loop.time() - at < patience]
    may_come = bool(events) and count < events[0][1] + len(events)
    if not may_come:
        events.clear()
    events.append((loop.time(), count))
    return may_come


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
        self._started_at = float("inf")

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

        :param is_closing: whether the event has no messages, so that nothing has to follow it.
        """
        if not self._is_needed:
            return Spacing()
        await asyncio.sleep(max(0.0, self._started_at + self._run_seconds - asyncio.get_running_loop().time()))
        runs, is_in_doubt = await self._expect_runs()
        return Spacing(
            watcher=self,
            runs=runs,
            seconds=self._run_seconds,
            closing_seconds=DOUBT * self._run_seconds if is_in_doubt and not is_closing else None,
            closes=[earlier for earlier in self._open if earlier.is_due()],
        )

    async def _expect_runs(self) -> tuple[ExpectedRuns | None, bool]:
        """Return the runs that an event made now starts, where they are known, and whether it may be in none."""
        if self._dag_ids is None:
            last_at = self._started_at if self._last is None else self._last.decided_at
            return None, asyncio.get_running_loop().time() - last_at < DOUBT * self._run_seconds
        try:
            before = {dag_id: await count_dag_runs(dag_id) for dag_id in self._dag_ids}
        except Exception as error:  # noqa: BLE001 - a guess is better than no event
            self._log.warning(
                "Could not ask Airflow how many runs the DAGs %s have: %s. Waiting run_seconds instead",
                [*self._dag_ids],
                error,
            )
            return None, True
        loud = {dag_id: count for dag_id, count in before.items() if self._silent.get(dag_id) != count}
        # A run of another watcher's event looks like one of this event.
        patience = DOUBT * self._run_seconds
        may_come = [_note_event(dag_id, count, patience) for dag_id, count in loud.items()]
        return ExpectedRuns(loud, silent=self._silent, log=self._log), loud != before or any(may_come)

    def is_closing_due(self) -> bool:
        """Return whether an event without messages is to take along those in doubt: the last of them is old enough."""
        return any(self._open) and self._open[-1].is_due()

    def after_event(self, spacing: Spacing) -> None:
        """Note that Airflow took an event over, with what was returned before it."""
        self._last = spacing
        self._in_doubt = [*self._open, spacing]

    @property
    def _open(self) -> list[Spacing]:
        """The events in doubt that no other has taken along."""
        return [spacing for spacing in self._in_doubt if spacing.is_open]
