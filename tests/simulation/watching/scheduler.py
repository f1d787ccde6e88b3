"""
Airflow's scheduler as it is before 3.4: a run takes the events up to the first one since the run before.

An event inserts a row of its asset into the queue of each DAG, unless there is one. The scheduler's next pass makes a
run of the events up to the row, and deletes it. What came after the row waits for another row.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.watching.world import World

EARLIER_RUNS = 5
"""How many runs a DAG had before."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """
    An asset event.

    :param asset: the asset.
    :param messages: the numbers of its messages.
    """

    asset: str
    messages: tuple[int, ...]


class Scheduler:
    """
    Makes runs of events.

    :param world: where it runs.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._events: list[Event] = []
        self._rows: dict[str, dict[str, int]] = defaultdict(dict)
        self._floor: dict[str, int] = defaultdict(lambda: -1)
        self._active: dict[str, int] = defaultdict(int)
        self.runs: dict[str, list[set[int]]] = defaultdict(list)

    @property
    def is_done(self) -> bool:
        """Whether no run is to be made."""
        return not any(self._rows.values())

    def store(self, asset: str, messages: tuple[int, ...]) -> None:
        """Store an event, and queue the DAGs of its asset."""
        self._events.append(Event(asset=asset, messages=messages))
        for dag, assets in self._world.scenario.dags.items():
            if asset in assets:
                self._rows[dag].setdefault(asset, len(self._events) - 1)
                self._pass_soon(dag)

    def count(self, dag: str, states: list[str] | None) -> int:
        """Return how many runs a DAG has: it is new only where nothing goes wrong."""
        earlier = 0 if self._world.scenario.is_calm else EARLIER_RUNS
        return self._active[dag] if states else earlier + len(self.runs[dag])

    def is_missed(self, dag: str, message: int) -> bool:
        """Return whether a message is in no run of a DAG, and will be in none before another event comes."""
        due = self._events[self._floor[dag] + 1 : max(self._rows[dag].values(), default=-1) + 1]
        assets = self._world.scenario.dags[dag]
        is_due = any(message in event.messages for event in due if event.asset in assets)
        return not is_due and not any(message in messages for messages in self.runs[dag])

    def _pass_soon(self, dag: str) -> None:
        scenario, time = self._world.scenario, self._world.time
        wait = scenario.pass_seconds * self._world.random.random()
        begin, seconds = scenario.scheduler_away or (0.0, 0.0)
        if begin <= time.now + wait < begin + seconds:
            wait = begin + seconds - time.now
        time.after(wait, lambda: self._pass(dag))

    def _pass(self, dag: str) -> None:
        rows = self._rows[dag]
        if not rows or self._active[dag] >= self._world.scenario.max_active_runs:
            return
        last = max(rows.values())
        assets = self._world.scenario.dags[dag]
        taken = [event for event in self._events[self._floor[dag] + 1 : last + 1] if event.asset in assets]
        messages = {number for event in taken for number in event.messages}
        self._floor[dag] = last
        rows.clear()
        self.runs[dag].append(messages)
        self._active[dag] += 1
        self._world.truth.note(None, "run %d of %s has messages %s", len(self.runs[dag]), dag, sorted(messages))
        self._world.truth.counts["DAG runs"] += 1
        self._world.truth.counts["DAG runs without messages"] += not messages
        self._world.time.after(self._world.scenario.run_seconds * self._world.random.random(), lambda: self._end(dag))

    def _end(self, dag: str) -> None:
        self._active[dag] -= 1
        self._pass_soon(dag)


class Comms:
    """What triggers ask their supervisor by, in the world that is played."""

    def __init__(self) -> None:
        self.world: World | None = None

    async def asend(self, question: Any) -> Any:
        """Answer how many runs a DAG has; never, where the supervisor is gone."""
        world = self.world
        assert world is not None
        await asyncio.sleep(0.02 * world.random.random())
        loop = asyncio.get_running_loop()
        process = next(process for process in world.processes if process.loop is loop)
        if process.supervisor.is_dead:
            await asyncio.Event().wait()
        if not world.is_healed and world.random.random() < world.scenario.store_fault_rate:
            raise ConnectionError("the API server has no time")
        return SimpleNamespace(count=world.scheduler.count(question.dag_id, question.states))


COMMS = Comms()
