"""
A triggerer: Airflow's own runner of triggers with its shared streams, and beside it what stands for its supervisor.

What runs in the runner's process is Airflow's: ``run_trigger``, ``cleanup_finished_triggers``,
``sync_state_to_supervisor``, ``cancel_triggers`` and all of ``SharedStreamManager``. Its main loop and the supervisor,
which work with sockets and a database, are told again here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.jobs.triggerer_job_runner import _USER_ACTION_CANCEL_MSG, TriggerRunner, messages
from airflow.triggers.shared_stream import SharedStreamManager

from simulation.loop import MAX_STEPS
from simulation.process import Machine
from simulation.watching.scenario import ACK_TIMEOUT, Life
from simulation.watching.triggers import make_trigger_class

if TYPE_CHECKING:
    from simulation.watching.world import World

TICK = 1.0
PIPE_SECONDS = 0.002


class Log:
    """
    The log of a triggerer: nobody reads it but the truth, and each await of it takes a while.

    :param triggerer: whose log it is.
    """

    def __init__(self, triggerer: Triggerer) -> None:
        self._triggerer = triggerer

    def info(self, *_: Any, **__: Any) -> None:
        pass

    debug = warning = exception = info

    def error(self, text: str, *args: Any, exc_info: BaseException | None = None, **_: Any) -> None:
        if exc_info is not None and "client has been closed" not in str(exc_info):
            self._triggerer.truth.blame(f"the log shows {exc_info!r}, which nothing here should raise")

    async def ainfo(self, text: str, **_: Any) -> None:
        triggerer = self._triggerer
        world = triggerer.world
        random = world.random
        if text == "Trigger fired event" and random.random() < triggerer.life.cancels_at_event and not world.is_healed:
            triggerer.cancel(asyncio.current_task(), "between its yield and the binding")
        await asyncio.sleep(world.scenario.log_seconds * random.random())

    awarning = aerror = ainfo


class Outbox(deque):  # type: ignore[type-arg]
    """
    The events of a runner that were not shipped yet.

    :param triggerer: whose they are.
    """

    def __init__(self, triggerer: Triggerer) -> None:
        super().__init__()
        self._triggerer = triggerer

    def append(self, entry: Any) -> None:
        super().append(entry)
        self._triggerer.truth.bound(self._triggerer, entry)
        self._triggerer.runner.wake()


class Runner(TriggerRunner):
    """
    Airflow's runner of triggers on a loop in virtual time.

    :param triggerer: where it runs.
    """

    def __init__(self, triggerer: Triggerer) -> None:
        super().__init__()
        scenario = triggerer.world.scenario
        self.log = triggerer.log  # type: ignore[assignment]
        self.events = Outbox(triggerer)
        self.comms_decoder = triggerer.supervisor  # type: ignore[assignment]
        self.streams = self._shared_streams = SharedStreamManager(
            log=triggerer.log,  # type: ignore[arg-type]
            max_subscriber_queue=scenario.subscriber_queue_size,
            ack_timeout=ACK_TIMEOUT,
            cohort_grace_period=scenario.grace_period,
            _now=triggerer.loop.time,
        )
        self._triggerer = triggerer
        self._trigger_class = make_trigger_class(triggerer)
        self._woken = asyncio.Event()
        self._told_to_end = asyncio.Event()

    async def arun(self) -> None:
        """Do what Airflow's does, but for its watchdog and its pipe."""
        try:
            while not self.stop:
                finished = await self.cleanup_finished_triggers()
                await self.sync_state_to_supervisor(finished)
                await self.create_triggers()
                await self.cancel_triggers()
                await self._rest()
        finally:
            await self.streams.stop_all()

    def wake(self) -> None:
        """Note that there is something to do at the next tick."""
        self._woken.set()

    def end(self) -> None:
        """Do what a signal does."""
        self.stop = True
        self._told_to_end.set()
        self._woken.set()

    async def _rest(self) -> None:
        """Sleep a second; where nothing is to be done then, go on sleeping: to run every tick takes most of a seed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not (self.stop or self._has_work()):
            self._woken.clear()
            await self._woken.wait()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._told_to_end.wait(), TICK - (loop.time() - began) % TICK)

    def _has_work(self) -> bool:
        return bool(
            self.events
            or self._triggerer.supervisor.has_news
            or any(details["task"].done() for details in self.triggers.values())
        )

    async def create_triggers(self) -> None:
        """Do what Airflow's does, without encryption."""
        while self.to_create:
            await asyncio.sleep(0)
            workload = self.to_create.popleft()
            if workload.id in self.triggers:
                continue
            await asyncio.sleep(0)
            trigger = self._trigger_class(**workload.kwargs)
            trigger.trigger_id = workload.id
            task = asyncio.create_task(self.run_trigger(workload.id, trigger))
            task.add_done_callback(lambda _: self.wake())
            self.triggers[workload.id] = {  # type: ignore[typeddict-item]
                "task": task,
                "is_watcher": True,
                "name": f"ID {workload.id}",
                "events": 0,
            }


class Supervisor:
    """
    What works with the database for a runner, one thing at a time: stores events, and says which triggers are to run.

    :param triggerer: whose it is.
    """

    def __init__(self, triggerer: Triggerer) -> None:
        self._triggerer = triggerer
        self._world = triggerer.world
        self._truth = triggerer.truth
        self._running: set[int] = set()
        self._cancelling: set[int] = set()
        self._creating: deque[Any] = deque()
        self._events: deque[Any] = deque()
        self._persisted: deque[int] = deque()
        self._requests: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._is_busy = False
        self.is_dead = False

    @property
    def has_news(self) -> bool:
        """Whether it has to tell the runner something."""
        return bool(self._creating or self._cancelling or self._persisted)

    # -- what the runner asks

    async def asend(self, changes: Any) -> Any:
        """Take what became of the triggers, and answer what is to be done."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._requests.append((changes, answer))
        if self.is_dead:
            self._world.time.after(PIPE_SECONDS, self._hang_up)
        else:
            self._world.time.after(PIPE_SECONDS, self._work)
        return await answer

    def _hang_up(self) -> None:
        while self._requests:
            _, answer = self._requests.popleft()
            self._give(answer, lambda answer=answer: answer.set_exception(asyncio.IncompleteReadError(b"", None)))

    def _give(self, answer: asyncio.Future[Any], give: Any) -> None:
        if not self._triggerer.is_dead and not answer.done():
            give()

    # -- its rounds

    def look_at_rows(self) -> None:
        """Find out which triggers are to run and are not, and the other way round."""
        if self.is_dead or self._is_busy:
            return
        if not self._world.database.is_there:
            self.fail("the database is away")
            return
        wanted = self._world.database.watchers()
        known = self._running | self._cancelling | {one.id for one in self._creating}
        known |= {entry.trigger_id for entry in self._events}
        self._creating.extend(
            SimpleNamespace(id=number, kwargs=watcher.kwargs())
            for number, watcher in wanted.items()
            if number not in known
        )
        self._cancelling |= self._running - set(wanted)
        if self.has_news:
            self._triggerer.runner.wake()

    def stall(self, seconds: float) -> None:
        """Wait for the database."""
        self._be_busy(seconds)

    def fail(self, why: str) -> None:
        """End, and tell the runner to: what was not stored yet is gone."""
        if self.is_dead or self._triggerer.is_dead:
            return
        self._truth.note(self._triggerer, "loses its supervisor: %s", why)
        self.is_dead = True
        self._hang_up()
        self._triggerer.stop()

    def _be_busy(self, seconds: float, then: Any = None) -> None:
        self._is_busy = True

        def go_on() -> None:
            if self._triggerer.is_dead or self.is_dead:
                return
            self._is_busy = False
            if then is not None:
                then()
            self._work()

        self._world.time.after(seconds, go_on)

    def _work(self) -> None:
        """Take a request, then store what came, then look which triggers are to run; and so on."""
        if self.is_dead or self._triggerer.is_dead or self._is_busy:
            return
        if self._events and not self._triggerer.is_ending:
            self._store(self._events.popleft())
        elif self._requests:
            self._answer(*self._requests.popleft())
            self._work()
        elif not self._triggerer.is_ending:
            self.look_at_rows()

    def _answer(self, changes: Any, answer: asyncio.Future[Any]) -> None:
        self._events.extend(changes.events or ())
        for number in changes.finished or ():
            self._running.discard(number)
            self._cancelling.discard(number)
        sync = messages.TriggerStateSync(
            to_create=[], to_cancel=self._cancelling, events_persisted=list(self._persisted) or None
        )
        self._persisted.clear()
        sync.to_create.extend(self._creating)
        self._creating.clear()
        self._running.update(one.id for one in sync.to_create)
        self._world.time.after(PIPE_SECONDS, lambda: self._give(answer, lambda: answer.set_result(sync)))

    def _store(self, entry: Any) -> None:
        """Do what ``handle_events`` does, for one event, or fail to."""
        world = self._world
        fate = world.draw_store_fault()
        if not world.database.is_there:
            fate = "not stored"

        def store() -> None:
            if fate in ("not stored", "dropped"):
                self._truth.note(self._triggerer, "does not store an event of watcher %d", entry.trigger_id)
            else:
                world.database.submit(self._triggerer, entry)
            if fate in ("not stored", "stored, then failed"):
                self.fail(fate)
            elif fate != "dropped" and fate != "not confirmed" and entry.persist_seq is not None:
                self._persisted.append(entry.persist_seq)
                self._triggerer.runner.wake()

        self._be_busy(world.scenario.store_seconds * world.random.random(), store)


class Triggerer(Machine):
    """
    A triggerer: the runner's process, and its supervisor's.

    :param world: where it runs.
    :param name: for the trace.
    :param life: what it meets with.
    """

    def __init__(self, world: World, name: str, life: Life) -> None:
        super().__init__(world, name, life.skew)
        self.life = life
        self.log = Log(self)
        self.is_ending = False
        self.cancelled_at = float("-inf")
        self.newest_stream: object = None
        self.supervisor = Supervisor(self)
        self.runner = Runner(self)
        self.main = self.loop.create_task(self._run())
        self._marks = self._draw_marks()
        self._next_mark = next(self._marks, MAX_STEPS)
        self.supervisor.look_at_rows()

    async def _run(self) -> None:
        """Do what ``asyncio.run`` does: at the end, cancel what is left and wait for it."""
        runs = asyncio.ensure_future(self.runner.arun())
        await asyncio.wait({runs})
        left = [task for task in self.loop._tasks if task is not self.main and not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if not runs.cancelled() and (error := runs.exception()):
            self.truth.blame(f"{self.name} raised {error!r}")

    def _draw_marks(self) -> Iterator[int]:
        crash = self.life.crashes_after_steps
        yield from sorted({*self.life.cancels, *([] if crash is None else [crash])})

    def proceed(self, *, is_alone: bool) -> None:
        """Run it to its next await, or to its next mark."""
        steps = max(1, self._next_mark - self.steps) if is_alone else 1
        self.steps += self.loop.proceed(steps, self.main)

    def after_step(self) -> None:
        """Let happen what happens after so many steps."""
        if self.steps < self._next_mark or self.is_dead:
            return
        mark, self._next_mark = self._next_mark, next(self._marks, MAX_STEPS)
        if self.world.is_healed:
            return
        if mark == self.life.crashes_after_steps:
            self.crash()
            return
        tasks = [details["task"] for details in self.runner.triggers.values() if not details["task"].done()]
        if tasks:
            self.cancel(self.world.random.choice(tasks), "at any await")

    def cancel(self, task: Any, when: str) -> None:
        """Cancel a watcher, as a runner does that is told to."""
        number = next(number for number, details in self.runner.triggers.items() if details["task"] is task)
        self.truth.note(self, "cancels watcher %d %s", number, when)
        self.cancelled_at = self.loop.time()
        if self.world.random.random() < 0.3:
            self.world.database.delete(number)
        task.cancel(_USER_ACTION_CANCEL_MSG)

    def blame(self, text: str) -> None:
        """Blame the code under test; not for what it does while what is left of the process is disposed of."""
        if not self.is_dead:
            self.truth.blame(f"{self.name}: {text}")

    def stop(self) -> None:
        """Do what a signal does; it is killed where it does not end in time."""
        if not (self.is_ending or self.is_dead):
            self.is_ending = True
            self.truth.note(self, "is told to end")
            self.runner.end()
            self.world.time.after(self.life.killed_after, self.crash)
