"""What must happen between an event of a watcher and the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from airflow_provider_cfqueues.engines.watching.runs import ExpectedRuns


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
