"""What a scenario of ``scripts/e2e`` works with."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_cfqueues._compat import HAS_SHARED_STREAMS
from e2e.events import compare
from e2e.private_airflow import Airflow
from harness.audit import Verdict
from harness.cloudflare import Cloudflare, Queue

AGAIN = "messages again, in runs"
MOST_MOVES = 10
PATIENCE_SECONDS = 40
"""Longer than a watcher waits before it makes a closing event: a lease that somebody means to settle shall not end."""
RUN_PATIENCE_SECONDS = 120
"""After the last message, each has to be in a run."""


@dataclass
class World:
    """
    What a scenario works with.

    :param airflow: the Airflow, without a triggerer.
    :param cloudflare: the emulator.
    :param is_short: whether few samples do.
    :param rounds: how often the triggerer is killed at each step.
    :param messages: how many messages become runs.
    :param dice: for moments that must not keep time with a poll.
    :param asset_manager: whether Airflow runs with the provider's asset manager, which needs no closing events.
    :param names_dags: whether watchers are told which DAGs run for them.
    """

    airflow: Airflow
    cloudflare: Cloudflare
    is_short: bool
    rounds: int
    messages: int
    dice: random.Random
    asset_manager: bool = False
    names_dags: bool = True

    @property
    def closing_events(self) -> int:
        """How many events a burst may have beside those with messages."""
        return 0 if self.asset_manager else 1

    def trigger_arguments(self, dag_ids: list[str]) -> dict[str, Any]:
        """Return what a trigger is told of the DAGs that run for it."""
        arguments: dict[str, Any] = {} if HAS_SHARED_STREAMS else {"settle": "task"}
        return {**arguments, "dag_ids": dag_ids} if self.names_dags else arguments

    @property
    def task(self) -> str:
        """The task of a DAG that is only to run: before Airflow 3.3 it has to settle what the trigger cannot."""
        return "nothing" if HAS_SHARED_STREAMS else "settle"

    @property
    def judged(self) -> int:
        """How many messages the watchers that match by ``e2e.dags.everything`` looked at."""
        signs = self.airflow.signs / "judged"
        return len(signs.read_text().splitlines()) if signs.exists() else 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let these watchers not come back from looking at a message."""
        sign = self.airflow.signs / "hold"
        sign.touch()
        try:
            yield
        finally:
            sign.unlink()

    def judge(self, expected: Mapping[str, Collection[Any]], *dag_ids: str) -> Verdict:
        """
        Wait until each message is in a run, or patience ends, and compare.

        A stored event is not enough: Airflow 3.0 to 3.3 may leave it without a run.

        :param expected: the bodies of the messages by asset; no two are the same.
        :param dag_ids: the DAGs that run for these assets.
        """

        def compared() -> tuple[list[str], int]:
            return compare(self.airflow.consumed(dag_ids), expected)

        with suppress(TimeoutError):  # the verdict says which are missing
            self.airflow.until(
                "runs with all messages", lambda: not compared()[0], seconds=RUN_PATIENCE_SECONDS, every=0.2
            )
        problems, again = compared()
        events = sum(map(self.airflow.event_count, expected))
        runs = sum(len(self.airflow.runs(dag_id)) for dag_id in dag_ids)
        return Verdict({"events": events, "runs": runs, AGAIN: again}, problems)

    def wait_until_acked(self, queue: Queue, *, move_clock: float = 0) -> None:
        """
        Wait until a queue is empty.

        :param queue: the queue.
        :param move_clock: seconds that the clock is moved whenever nothing was acked for a while: leases end.
        """
        patience = PATIENCE_SECONDS if move_clock else 240
        tries = 0
        while backlog := queue.backlog:
            try:
                self.airflow.until("an ack", lambda: queue.backlog < backlog, seconds=patience, every=0.1)
            except TimeoutError:
                tries += 1
                if not move_clock or tries > MOST_MOVES:
                    raise
                self.cloudflare.advance(move_clock)
