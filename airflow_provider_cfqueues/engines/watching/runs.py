"""The runs that an event of a watcher starts, where the watcher knows its DAGs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_cfqueues._compat.events import count_dag_runs

ASK_SECONDS = 1
"""Seconds between two questions about the number of runs."""
NO_RUN_SECONDS = 300
"""A DAG that makes no run for so long, while none of its runs is active, is not waited for again until it makes one."""
ACTIVE = ["queued", "running"]
"""The states of the runs that count for ``max_active_runs``."""
LAST_RUN_SECONDS = 3
"""How long a run may take that is due and that nothing holds up, where a watcher must not wait for longer."""


class ExpectedRuns:
    """
    The runs that an event starts, one of each DAG.

    :param before: how many runs each DAG had before the event.
    :param silent: gets the DAGs that make no runs, with how many they have.
    """

    def __init__(self, before: Mapping[str, int], *, silent: dict[str, int], log: Any) -> None:
        self.missing = dict(before)
        self.first_seen: dict[str, int] = {}
        """How many runs each DAG had when it was first asked after the event was stored."""
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
            count = await count_dag_runs(dag_id)
            self.first_seen.setdefault(dag_id, count)
            if count > before:
                self.missing.pop(dag_id, None)
                continue
            self.missing[dag_id] = count  # runs may be deleted meanwhile
            if await count_dag_runs(dag_id, ACTIVE):
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
