"""A worker process: one engine on a loop of its own, with a clock that may be wrong."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.engines.processing.engine import END_SECONDS
from airflow_provider_cfqueues.engines.processing.journal import Journal
from airflow_provider_cfqueues.engines.processing.runner import Runner
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Kind, Situation
from airflow_provider_cfqueues.models import Consumer, Message
from airflow_provider_cfqueues.outcomes import Ack, Reject
from simulation.handlers import make_handler
from simulation.loop import MAX_STEPS, VirtualLoop
from simulation.network import Hook
from simulation.scenario import DEAD_LETTER_QUEUE_ID, QUEUE_ID, Run
from simulation.truth import least_delay

if TYPE_CHECKING:
    from simulation.world import World

EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)
SECONDS_OF_JOURNAL = 100.0
"""What reading, acking and writing a journal may take beside the engine; the task's thread waits for none of it."""


class OneLoop(Runner):
    """Runs async handlers in the loop of the engine: there is one virtual loop for each process."""

    def __init__(self) -> None:
        super().__init__(1)
        self._tasks: list[asyncio.Task[Any]] = []

    def run_async(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    async def end(self, timeout: float) -> None:
        """Wait for what was cancelled."""
        if unfinished := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(unfinished)


class Quiet:
    """The engine's log: nobody reads it."""

    def warning(self, *_: Any, **__: Any) -> None:
        pass

    error = info = warning


class Machine:
    """
    A process on a machine whose clock may be wrong, without what runs in it.

    :param world: where it runs.
    :param name: for the trace.
    :param skew: by how many seconds its clock is wrong.
    """

    def __init__(self, world: Any, name: str, skew: float) -> None:
        self.world = world
        self.truth = world.truth
        self.name = name
        self.loop = VirtualLoop(world.time, self._on_error)
        self.began_at = world.time.now
        self.steps = 0
        self.offset = timedelta(seconds=skew)
        self.has_jumped = False
        self.is_dead = False
        self.deliveries: list[Any] = []
        self.consumer: Consumer | None = world.consumer if world.scenario.knows_consumer else None
        self.main: Any = None

    def now(self) -> datetime:
        """Return what the clock of this machine says."""
        return EPOCH + timedelta(seconds=self.world.time.now) + self.offset

    def open_queue(self, visibility_timeout: float, **situation: Any) -> HookQueue:
        """
        Return the queue, as an engine in this process knows it.

        :param visibility_timeout: seconds that its leases last.
        :param situation: what else there is to know of it.
        """
        dead_letter_queue_id = DEAD_LETTER_QUEUE_ID if self.world.scenario.has_dead_letter_queue else None
        known = Situation(consumer=self.consumer, dead_letter_queue_id=dead_letter_queue_id, **situation)
        hook: Any = Hook(self)
        return HookQueue(hook, QUEUE_ID, visibility_timeout=visibility_timeout, situation=known)

    def has_read(self, lease_ids: list[str]) -> None:
        """Note that the answer of a pull arrived."""
        for lease_id in lease_ids:
            self.truth.deliveries[lease_id].is_read = True

    def look_at_clock(self) -> None:
        """Judge nothing: it may take as long as it needs."""

    def jump(self, seconds: float) -> None:
        """Set its clock."""
        self.truth.note(self, "has its clock jump %s s", seconds)
        self.has_jumped = True
        self.offset += timedelta(seconds=seconds)

    def die(self) -> None:
        """End at once."""
        self.is_dead = True

    def end(self) -> None:
        """Judge its end, which it came to by itself."""
        self.truth.judge_run(self)
        self.die()

    def crash(self) -> None:
        """End at once, and not by itself."""
        if not self.is_dead:
            self.truth.note(self, "crashes")
            self.die()

    def _on_error(self, context: dict[str, Any]) -> None:
        self.truth.blame(f"{self.name}: nobody took {context.get('exception') or context.get('message')!r}")


class Worker(Machine):
    """
    A worker process that does one run of something, and may meet its doom.

    :param world: where it runs.
    :param name: for the trace.
    :param run: what it does.
    """

    def __init__(self, world: Any, name: str, run: Run) -> None:
        super().__init__(world, name, run.skew)
        self.run = run
        self.engine: Any = None

    def proceed(self, *, is_alone: bool) -> None:
        """
        Run it to its next await; alone, until it has nothing to do for now, or meets its doom.

        :param is_alone: whether no other process could run in between.
        """
        doom = self.run.doom.after_steps
        steps = 1 if not is_alone else MAX_STEPS if doom is None or doom <= self.steps else doom - self.steps
        self.steps += self.loop.proceed(steps, self.main)

    def after_step(self) -> None:
        """Meet its doom after so many steps."""
        if self.run.doom.after_steps == self.steps:
            self.strike()

    def strike(self) -> None:
        """Meet its doom."""
        doom = self.run.doom
        if self.is_dead:
            return
        if doom.kind == "crash":
            self.crash()
            return
        self.stop(killed=doom.kind == "kill")
        if doom.crash_after_kill is not None:
            self.world.time.after(doom.crash_after_kill, self.crash)

    def stop(self, *, killed: bool) -> None:
        """Ask what runs in it to end."""
        if not self.is_dead:
            self.truth.note(self, "is killed" if killed else "is stopped")
            self.engine.stop(killed=killed)


class Process(Worker):
    """
    A worker process with one engine in it.

    :param world: where it runs.
    :param name: for the trace.
    :param run: what it does.
    """

    def __init__(self, world: World, name: str, run: Run) -> None:
        super().__init__(world, name, run)
        self.options = run.options
        self.has_processed = False
        self.stopped_at: float | None = None
        self.killed_at: float | None = None
        self.last_answer: int | None = None
        queue = self.open_queue(self.options.visibility_timeout)
        handler = make_handler(self, run.shape, self.options.batch_size is not None)
        self.journal: Journal | None = None
        self.acked_at_start = 0
        if world.store is not None and not self.options.dry_run:
            self.journal = Journal(world.store.of(self), QUEUE_ID, now=self.now, log=Quiet())
        self.engine = world.engine_class(
            queue, handler, self.options, now=self.now, log=Quiet(), journal=self.journal, runner=OneLoop()
        )
        self.main = self.loop.create_task(self._run(queue))

    async def _run(self, queue: HookQueue) -> None:
        if self.journal is None:
            await self.engine.run()
            return
        async with self.journal.kept(queue, self.engine.report):
            self.acked_at_start = self.engine.report.fates[Kind.ACKED_FROM_JOURNAL]
            await self.engine.run()
            self.has_processed = True

    def proceed(self, *, is_alone: bool) -> None:
        """Run it to its next await; blame a handler's exit that gets through."""
        try:
            super().proceed(is_alone=is_alone)
        except SystemExit:
            self.truth.blame("a handler's SystemExit tore down the run: what was done is not settled")

    def stop(self, *, killed: bool) -> None:
        """Ask the engine to end, and note when."""
        if killed and self.killed_at is None:
            self.killed_at = self.world.time.now
        if self.stopped_at is None:
            self.stopped_at = self.world.time.now
        super().stop(killed=killed)

    def look_at_clock(self) -> None:
        """Judge that it ends once it is killed."""
        if self.killed_at is not None:
            over = self.killed_at + self.options.grace + END_SECONDS
            over += 0 if self.journal is None else SECONDS_OF_JOURNAL
            self.truth.check(self.world.time.now <= over, "%s runs on after it was killed", self.name)

    # -- what the network and the handlers tell

    def has_read(self, lease_ids: list[str]) -> None:
        """Note that the answer of a pull arrived."""
        self.last_answer = len(lease_ids)
        super().has_read(lease_ids)

    def begins(self, message: Message) -> None:
        """Note that a handler is given a message."""
        world, truth, delivery = self.world, self.truth, self.truth.deliveries[message.lease_id]
        truth.note(self, "begins message %d, delivery %d", delivery.number, delivery.attempt)
        truth.check(delivery.process is self, "%s is handled by %s", delivery, self.name)
        truth.check(delivery.began_at is None, "%s is handled twice", delivery)
        truth.check(not delivery.sent, "%s is handled after it was settled as %s", delivery, delivery.sent)
        expires = message.lease_expires_at
        truth.check(expires is not None and self.now() < expires, "%s is handled though its lease ended", delivery)
        if not self.has_jumped and not world.broker_has_jumped:
            is_leased = world.network.server.now_ms() <= delivery.ends_ms  # the broker counts whole milliseconds
            truth.check(is_leased, "%s: the engine believes in a lease that ended", delivery)
        limit = self.options.max_attempts
        truth.check(limit is None or delivery.attempt <= limit, "%s is above max_attempts", delivery)
        is_late = self.stopped_at is not None and world.time.now > self.stopped_at
        truth.check(not is_late, "%s begins after stop", delivery)
        delivery.began_at = world.time.now

    def ends(self, message: Message, verdict: Any) -> None:
        """Note what a handler is about to say of a message."""
        delivery = self.truth.deliveries[message.lease_id]
        self.truth.note(self, "ends message %d, delivery %d: %r", delivery.number, delivery.attempt, verdict)
        delivery.ended_at = self.world.time.now
        delivery.verdict = verdict
        if not isinstance(verdict, (Ack, Reject)):
            delivery.least_delay = least_delay(self.options, verdict, delivery.attempt)
