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
from math import inf
from typing import Any

from airflow_provider_cfqueues._compat import HAS_LATE_EVENT_GAP
from airflow_provider_cfqueues._compat.events import count_dag_runs, skips_late_events
from airflow_provider_cfqueues.engines.watching.options import DOUBT, WatchOptions
from airflow_provider_cfqueues.engines.watching.pending import find_pending, note_event
from airflow_provider_cfqueues.engines.watching.runs import ACTIVE, LAST_RUN_SECONDS, ExpectedRuns
from airflow_provider_cfqueues.engines.watching.spacing import Spacing


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
            owed += note_event(spacing, dag_id, count, is_active=is_active, follows_unknown=follows_unknown)
        return owed

    async def _find_active(self, counts: dict[str, int], closing_seconds: float) -> set[str]:
        """
        Return which DAGs owe a run for long and may be at their ``max_active_runs``, and bring the counts up to date.

        If a run has just ended, the one that is owed comes within seconds.
        """
        time = asyncio.get_running_loop().time
        old = [
            dag_id
            for dag_id, count in counts.items()
            if any(time() - sent.at >= closing_seconds for sent in find_pending(dag_id, count))
        ]
        active = {dag_id for dag_id in old if await count_dag_runs(dag_id, ACTIVE)}
        if len(active) < len(old):
            await asyncio.sleep(LAST_RUN_SECONDS)
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
