"""What a scenario of ``scripts/e2e`` works with."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_cfqueues._compat import HAS_SHARED_STREAMS
from e2e.events import key_of
from e2e.private_airflow import Airflow
from harness.audit import Account, Verdict, account
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

    def judge(self, expected: Mapping[str, Collection[Any]], assets: Iterable[str] = ()) -> Verdict:
        """
        Wait until each message is in a run of its DAG, or patience ends, and compare.

        A stored event is not enough: Airflow 3.0 to 3.3 may leave it without a run.

        :param expected: the bodies of the messages by DAG; no two of a DAG are the same.
        :param assets: those of the DAGs, if they have other names.
        """
        wanted = [(dag_id, key_of(body)) for dag_id, bodies in expected.items() for body in bodies]
        began = time.monotonic()

        def in_runs() -> Account:
            events = ((dag_id, event) for dag_id in expected for event in self.airflow.consumed(dag_id))
            return account(wanted, [(dag_id, key_of(event.body)) for dag_id, event in events])

        with suppress(TimeoutError):  # the verdict says which are missing
            self.airflow.until(
                "runs with all messages", lambda: not in_runs().lost, seconds=RUN_PATIENCE_SECONDS, every=0.2
            )
        seconds, found = time.monotonic() - began, in_runs()
        verdict = Verdict({"all in runs after, s": round(seconds, 1), AGAIN: sum(found.again.values())})
        verdict.none_of("messages without a run", found.lost)
        verdict.none_of("messages of nobody", found.strange)
        verdict.facts["events"] = sum(map(self.airflow.event_count, assets or expected))
        verdict.facts["runs"] = sum(len(self.airflow.runs(dag_id)) for dag_id in expected)
        return verdict

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
