"""The scenario of ``scripts/e2e`` with two triggerers and one watcher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.private_airflow import SHORT_ACK_TIMEOUT
from e2e.scenarios import LEASE_SECONDS, numbered
from e2e.triggerer import Triggerer
from e2e.troubles import start, watch
from e2e.world import AGAIN, World
from harness.audit import Verdict, check_queue
from harness.cloudflare import Queue

PER_PHASE = 20


class Pair:
    """
    Two triggerers: the owner of the watcher, and another one that stands by.

    :param world: where they run.
    :param queue: what is watched.
    """

    def __init__(self, world: World, queue: Queue) -> None:
        self.world, self.queue = world, queue
        self.owner = start(world, queue)
        self.other = world.airflow.start_triggerer("two-other", ack_timeout=SHORT_ACK_TIMEOUT)
        world.airflow.until("the other triggerer", lambda: self.other.count("Starting the triggerer"))

    def times_taken(self, triggerer: Triggerer) -> int:
        """Return how often a triggerer took the watcher."""
        return triggerer.count(f"Watching queue {self.queue.name} with ")

    def stored(self) -> int:
        """Return how many messages are in an event."""
        return len({event.message_id for event in self.world.airflow.events(self.queue.name)})

    @contextmanager
    def taken_over(self) -> Iterator[None]:
        """Wait until the other one has taken the watcher, and let the leases of the first one end."""
        before = self.times_taken(self.other)
        yield
        self.world.airflow.until("the other triggerer to take over", lambda: self.times_taken(self.other) > before)
        self.owner, self.other = self.other, self.owner
        self.world.cloudflare.advance(LEASE_SECONDS + 1)

    def pause_owner(self) -> None:
        """Pause the owner, but not while it writes to the database: that would stop everybody."""
        with self.world.airflow.locked_database():
            self.owner.pause()

    def go_on(self, sent: int) -> None:
        """Let the one that was paused go on, once the other one has delivered everything."""
        self.world.airflow.until("events of the other one", lambda: self.stored() >= sent)
        self.other.go_on()
        self.world.airflow.pass_time(SHORT_ACK_TIMEOUT)


def two(world: World) -> Verdict:
    """Run two triggerers and one watcher; pause the one that watches, let it go on, and kill it at last."""
    # With dag_ids, the first answer keeps a triggerer busy for so long that the other one takes it for dead.
    queue = watch(world, "two", match="function:e2e.dags.everything", dag_ids=None)
    pair, total = Pair(world, queue), Verdict()
    again = 0
    for name, phase in PHASES.items():
        sent = numbered(PER_PHASE, total.facts.setdefault("messages", 0))
        total.facts["messages"] += PER_PHASE
        phase(pair, sent, total.facts["messages"])
        world.wait_until_acked(queue, move_clock=LEASE_SECONDS + 1)
        world.airflow.pass_time(3)
        found = world.judge({queue.name: numbered(total.facts["messages"])})
        total.problems += [f"{name}: {problem}" for problem in found.problems]
        total.facts |= {**found.facts, f"again: {name}": found.facts[AGAIN] - again}
        again = found.facts[AGAIN]
    check_queue(total, queue.name, queue.totals, total.facts["messages"])
    total.expect(not total.facts["again: both healthy"], "messages came twice although nothing failed")
    return total


def _healthy(pair: Pair, messages: list[dict[str, object]], sent: int) -> None:
    for message in messages:
        pair.queue.send([message])
        pair.world.airflow.pass_time(0.2)


def _paused_before_yield(pair: Pair, messages: list[dict[str, object]], sent: int) -> None:
    judged = pair.world.judged
    with pair.taken_over(), pair.world.hold():
        pair.queue.send(messages)
        pair.world.airflow.until("a look at a message", lambda: pair.world.judged > judged)
        pair.pause_owner()
    pair.go_on(sent)


def _paused_before_stored(pair: Pair, messages: list[dict[str, object]], sent: int) -> None:
    judged = pair.world.judged
    with pair.taken_over(), pair.world.airflow.locked_database():
        pair.queue.send(messages)
        pair.world.airflow.until("looks at all", lambda: pair.world.judged >= judged + len(messages))
        pair.owner.pause()
    pair.go_on(sent)


def _paused_before_ack(pair: Pair, messages: list[dict[str, object]], sent: int) -> None:
    with pair.taken_over():
        pair.queue.send(messages)
        pair.world.airflow.until("events", lambda: pair.stored() >= sent)
        pair.pause_owner()
    pair.go_on(sent)


def _killed_before_ack(pair: Pair, messages: list[dict[str, object]], sent: int) -> None:
    with pair.taken_over():
        pair.queue.send(messages)
        pair.world.airflow.until("events", lambda: pair.stored() >= sent)
        pair.owner.kill()


PHASES = {
    "both healthy": _healthy,
    "paused before its events are yielded": _paused_before_yield,
    "paused before its events are stored": _paused_before_stored,
    "paused before its ack": _paused_before_ack,
    "killed before its ack": _killed_before_ack,
}
