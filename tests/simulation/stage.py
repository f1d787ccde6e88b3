"""Where the processes of a seed run, each on a loop of its own, in the one time that they share."""

from __future__ import annotations

import logging
import random as random_module
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.emulator.clock import Clock
from airflow_provider_cfqueues.emulator.model import Outgoing
from airflow_provider_cfqueues.emulator.service import Service
from simulation.loop import MAX_STEPS, NEVER, VirtualTime
from simulation.network import Network, Server
from simulation.process import EPOCH
from simulation.record import Violation
from simulation.scenario import DEAD_LETTER_QUEUE_ID, QUEUE_ID

if TYPE_CHECKING:
    from simulation.scenario import Run

MAX_SECONDS = 100_000.0


class Stage:
    """
    Plays a seed: lets processes proceed, and time pass.

    :param seed: decides everything.
    :param service: an emulated account, used for one seed after another: making one costs more than most seeds.
    :param time: the time.
    """

    scenario: Any
    truth: Any
    network: Network

    def __init__(self, seed: int, service: Service, time: VirtualTime) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.service = service
        self.time = time
        self.live: list[Any] = []
        self.processes: list[Any] = []
        self.steps = 0
        self.is_healed = False
        self.broker_has_jumped = False
        time.reset()

    @classmethod
    def surroundings(cls) -> AbstractContextManager[Any]:
        """Set up what all seeds need."""
        return nullcontext()

    def prepare(self, truth: Any, **consumer: Any) -> None:
        """
        Empty the emulated account but for the two queues, and connect the processes to it.

        :param truth: is told what happens.
        :param consumer: settings of the first queue.
        """
        service = self.service
        service.broker.store.clear()
        service.broker.store.db.execute("DELETE FROM sqlite_sequence")
        service.random.seed(self.seed)
        service.broker.clock.offset_ms = 0
        service.create_queue("dead", queue_id=DEAD_LETTER_QUEUE_ID)
        service.create_queue("orders", queue_id=QUEUE_ID, **consumer)
        self.truth = truth
        self.network = Network(self.time, self.random, Server(service), truth, self.scenario)

    def counts(self) -> dict[str, int]:
        """Return how much happened."""
        messages = len(set(self.truth.numbers.values()))
        return {"messages": messages, "deliveries": len(self.truth.deliveries), **self.truth.counts}

    # -- the play

    def play(self) -> None:
        """
        Play the seed.

        :raises Violation: something happened that must not.
        """
        state = random_module.getstate()
        random_module.seed(self.seed)  # the package's own jitter
        try:
            self.act()
        finally:
            for process in self.processes:
                process.die()
                process.loop.dispose()
            random_module.setstate(state)

    def act(self) -> None:
        """Do what the scenario says, until nothing is left to do, and judge it."""
        raise NotImplementedError

    def outgoing(self, number: int) -> tuple[bytes, bool]:
        """Return the body of a message, and whether it is JSON, or v8, which nobody but a Worker can decode."""
        raise NotImplementedError

    def plan(self) -> None:
        """See to it that messages are sent, and that the broker's clock jumps, when the scenario says so."""
        moments: dict[float, list[int]] = {}
        for number, item in enumerate(self.scenario.items):
            moments.setdefault(item.sent_at, []).append(number)
        for moment, numbers in moments.items():
            self.time.at(moment, partial(self.send, numbers))
        for moment, seconds in self.scenario.broker_jumps:
            self.time.at(moment, partial(self._jump_broker, seconds))

    def send(self, numbers: list[int]) -> None:
        """Send messages."""
        outgoing = []
        for body, is_decodable in map(self.outgoing, numbers):
            kind = "json" if is_decodable else "v8"
            outgoing.append(Outgoing(body=body, content_type=kind, base64=not is_decodable))
        self.truth.numbers.update(zip(self.service.broker.send(QUEUE_ID, outgoing), numbers, strict=True))
        self.truth.note(None, "sends messages %s", numbers)

    def _jump_broker(self, seconds: float) -> None:
        self.truth.note(None, "the broker's clock jumps %s s", seconds)
        self.broker_has_jumped = True
        self.service.broker.clock.advance(seconds)

    def play_run(self, process_class: type[Any], name: str, run: Run) -> None:
        """Start a worker process that does a run, when its time has come, and see to it that it meets its doom."""
        if not run.beside:
            self.run_until(lambda: not self.live)
        self.wait(run.starts_after)
        process = process_class(self, name, run)
        self.start(process, run.options)
        if run.doom.after_seconds is not None:
            self.time.after(run.doom.after_seconds, process.strike)
        if run.jump:
            self.time.after(run.jump[0], partial(process.jump, run.jump[1]))
        if run.options.idle_timeout is None:
            self.time.after(1000, partial(process.stop, killed=False))

    def start(self, process: Any, how: object) -> None:
        """Let a process live."""
        self.truth.note(process, "starts: %s", how)
        self.processes.append(process)
        self.live.append(process)

    def heal(self) -> None:
        """Let nothing fail any more."""
        self.is_healed = True
        self.network.heal()

    def left_in(self, queue_id: str) -> set[int]:
        """Return which messages are in a queue."""
        rows = self.service.broker.store.db.execute(
            "SELECT messages.id, body FROM messages JOIN queues ON queue = queues.number WHERE queues.id = ?",
            (queue_id,),
        )
        return {self.truth.number_of(message_id, body) for message_id, body in rows}

    # -- time

    def step(self) -> None:
        """Let a process that has something to do proceed; where none has, let time pass."""
        live = self.live
        ready = [process for process in live if process.loop.is_ready]
        if not ready:
            self._pass_time()
            return
        process = ready[0] if len(ready) == 1 else self.random.choice(ready)
        before = process.steps
        process.proceed(is_alone=len(live) == 1)
        self.steps += process.steps - before
        process.after_step()
        if process.main.done() and not process.is_dead:
            process.end()
        if process.is_dead:
            self.live.remove(process)

    def _pass_time(self) -> None:
        moments = [when for process in self.live if (when := process.loop.next_timer()) is not None]
        timer = min(moments, default=NEVER)
        event = self.time.next_event()
        if timer == event == NEVER:
            raise Violation(f"{', '.join(process.name for process in self.live)} hangs: nothing will ever happen again")
        self.time.now = max(self.time.now, min(timer, event))
        for process in self.live:
            process.look_at_clock()
        if event <= timer:
            self.time.happen()
            self.live = [process for process in self.live if not process.is_dead]
        else:
            for process in self.live:
                process.loop.fire()

    def run_until(self, is_done: Callable[[], bool]) -> None:
        """
        Go on until something holds.

        :param is_done: tells whether it does.
        :raises Violation: something happened that must not, or it never holds.
        """
        while not is_done():
            self.step()
            if self.truth.violation:
                break
            if self.steps > MAX_STEPS or self.time.now > MAX_SECONDS:
                raise Violation(f"no end after {self.steps} steps and {self.time.now:.0f} s")
        if self.truth.violation:
            raise Violation(self.truth.violation)

    def wait(self, seconds: float) -> None:
        """Go on for some time."""
        is_over = False

        def end() -> None:
            nonlocal is_over
            is_over = True

        self.time.after(seconds, end)
        self.run_until(lambda: is_over)


@contextmanager
def emulated_account() -> Iterator[tuple[Service, VirtualTime]]:
    """Make the account that seeds use one after another; meanwhile the client logs no repeats."""
    time = VirtualTime()
    service = Service(queues=[], clock=Clock(lambda: EPOCH.timestamp() + time.now), random=Random(0))
    level = logging.getLogger("airflow_provider_cfqueues").level
    logging.getLogger("airflow_provider_cfqueues").setLevel(logging.CRITICAL)
    try:
        yield service, time
    finally:
        logging.getLogger("airflow_provider_cfqueues").setLevel(level)
        service.close()
