"""What tries of one task share on Airflow: a store for their journal, which may be slow or fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from simulation.loop import Thread

if TYPE_CHECKING:
    from datetime import timedelta

    from simulation.process import Process
    from simulation.world import World

SLOW_SECONDS = 3.0
AIRFLOW_WARNS_ABOVE = 65_535


class SharedStore:
    """
    JSON values by key, for all processes of a seed: a task whose first try is not quite dead is the worst case.

    :param world: where it is.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.values: dict[str, str] = {}

    def of(self, process: Process) -> ProcessStore:
        """Return what a process sees of it."""
        return ProcessStore(self, process)


class ProcessStore:
    """
    Airflow's ``task_state_store`` in one process. Called in threads, as its calls block.

    :param shared: where the values are.
    :param process: whose view it is.
    """

    def __init__(self, shared: SharedStore, process: Process) -> None:
        self._shared = shared
        self._process = process
        self._written_at = -1.0

    def get(self, key: str) -> Any:
        """Return a value."""
        self._pass_or_fail()
        return json.loads(self._shared.values.get(key, "null"))

    def set(self, key: str, value: Any, *, retention: timedelta | None) -> None:
        """Write a value."""
        world, process = self._shared.world, self._process
        text = json.dumps(value)
        truth = world.truth
        is_early = world.time.now < self._written_at + 1 - 1e-6 and not process.has_processed
        truth.check(not is_early, "%s writes its journal twice in a second", process.name)
        truth.check(len(text) < AIRFLOW_WARNS_ABOVE, "%s writes a journal of %d bytes", process.name, len(text))
        self._written_at = world.time.now
        self._pass_or_fail()
        truth.note(process, "writes its journal: %d messages", len(value["handled"]))
        self._shared.values[key] = text

    def delete(self, key: str) -> None:
        """Delete a value."""
        self._shared.values.pop(key, None)

    def _pass_or_fail(self) -> None:
        random = self._shared.world.random
        if random.random() < 0.2:
            Thread.sleep(SLOW_SECONDS * random.random())
        if random.random() < 0.1:
            raise ConnectionError("the API server is away")
