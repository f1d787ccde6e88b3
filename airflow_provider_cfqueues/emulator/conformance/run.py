"""Let all probes wait at the same time: one thread that always goes on with the probe whose wait ends first."""

from __future__ import annotations

import heapq
import http.client
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_cfqueues.emulator.conformance import (  # noqa: F401 -- each registers its probes
    access,
    backlog,
    bodies,
    deliveries,
    leases,
    queues,
    settings,
)
from airflow_provider_cfqueues.emulator.conformance.api import Api, NoOccasion, StopProbing
from airflow_provider_cfqueues.emulator.conformance.facts import PROBES, Fact, Saw, Steps
from airflow_provider_cfqueues.emulator.conformance.lab import Lab

FACTS: tuple[Fact, ...] = tuple(fact for probe in PROBES for fact in probe.facts)
MAX_SECONDS = 600
AT_A_TIME = 12
TELL_EACH = 20
BLOCK_SECONDS = 300
"""How long Cloudflare refuses all requests of a token that has made too many."""


@dataclass(frozen=True)
class Seen:
    """What became of a fact: what was seen, or why nothing was."""

    fact: Fact
    seen: str | None
    reason: str = ""

    @property
    def agrees(self) -> bool | None:
        """Whether the endpoint does what the emulator assumes; None if nothing was seen."""
        return None if self.seen is None else self.seen == self.fact.assumed


@dataclass(frozen=True)
class RunResult:
    """A run: what it saw and took, and which of its queues it could not delete."""

    seen: list[Seen]
    requests: int
    operations: int
    seconds: float
    left: list[str]

    @property
    def differences(self) -> list[Seen]:
        """What is not as the emulator assumes."""
        return [seen for seen in self.seen if seen.agrees is False]


class Waiting:
    """
    Real time.

    :param api: whose connection is not kept open for long waits.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    def now(self) -> float:
        """Return seconds."""
        return time.monotonic()

    def wait_until(self, due: float) -> None:
        """Wait."""
        if due > self.now():
            self._api.close()
            time.sleep(due - self.now())


class Moving(Waiting):
    """The clock of an emulator: nobody waits."""

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.moved = 0.0

    def now(self) -> float:
        """Return seconds."""
        return self.moved

    def wait_until(self, due: float) -> None:
        """Move the clock."""
        if due > self.moved:
            seconds = {"advance_seconds": due - self.moved}
            self._api.call("POST", "/_emulator/clock", seconds, headers={}, raw=True)
            self._api.requests -= 1
            self.moved = due


def run(api: Api, waiting: Waiting, *, say: Callable[[str], None] = lambda _: None) -> RunResult:
    """
    Look at every fact, and delete what was made for that, whatever happens.

    :param waiting: how time passes.
    :param say: takes lines about how it goes on.
    :raises KeyboardInterrupt: after the queues have been deleted.
    """
    lab = Lab(api, waiting.now)
    start = waiting.now()
    try:
        seen = _look(lab, waiting, say)
    finally:
        say(f"Deleting the queues {lab.prefix}-*")
        left = _clean_up(lab, waiting, say)
    return RunResult(seen, api.requests, api.operations, waiting.now() - start, left)


def _look(lab: Lab, waiting: Waiting, say: Callable[[str], None]) -> list[Seen]:
    """
    Go on with the probe whose wait has ended for longest, or else begin another.

    Few are under way at a time: a probe that is late cannot tell when a message came.
    """
    seen: dict[str, Seen] = {}
    saws = [Saw() for _ in PROBES]
    fresh = deque((number, probe.look(lab, saws[number])) for number, probe in enumerate(PROBES))
    waits: list[tuple[float, int, Steps]] = []
    end = waiting.now() + MAX_SECONDS
    stopped = ""
    while fresh or waits:
        due = waiting.now()
        if fresh and len(waits) < AT_A_TIME and not (waits and waits[0][0] <= due):
            number, steps = fresh.popleft()
        else:
            due, number, steps = heapq.heappop(waits)
        if not stopped and due > end:
            stopped = f"{MAX_SECONDS // 60} minutes are over"
        again, reason = None, stopped
        if not stopped:
            waiting.wait_until(due)
            try:
                again, reason = _go_on(steps)
            except StopProbing as error:
                reason = stopped = str(error)
        if again is not None:
            heapq.heappush(waits, (waiting.now() + again, number, steps))
            continue
        told = len(seen) // TELL_EACH
        saw = saws[number]
        for fact in PROBES[number].facts:
            missing = "" if fact.name in saw else reason or "no occasion"
            seen[fact.name] = Seen(fact, saw.get(fact.name), missing)
        if len(seen) // TELL_EACH > told:
            say(f"{len(seen)} of {len(FACTS)} facts looked at, {lab.api.operations} operations")
    return [seen[fact.name] for fact in FACTS]


def _go_on(steps: Steps) -> tuple[float | None, str]:
    """Let a probe work until it waits again; return for how long, or why it has ended."""
    try:
        return next(steps), ""
    except StopIteration:
        return None, ""
    except NoOccasion as error:
        return None, str(error)
    except (OSError, http.client.HTTPException) as error:
        return None, f"no answer: {type(error).__name__}"
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # What an endpoint answers is not ours to trust: a shape that nobody expected ends this probe, and no other.
        return None, f"an answer of another shape: {type(error).__name__}: {error}"


def _clean_up(lab: Lab, waiting: Waiting, say: Callable[[str], None]) -> list[str]:
    lab.api.close()  # an interrupted call may have left half an answer in it
    lab.api.limited = False
    try:
        left = lab.clean_up()
        if left:
            say(f"{len(left)} queues could not be deleted; trying again in {BLOCK_SECONDS // 60} minutes")
            waiting.wait_until(waiting.now() + BLOCK_SECONDS)
            left = lab.clean_up()
    except BaseException:
        say(f"Not all queues could be deleted: delete those named {lab.prefix}-* yourself")
        raise
    return left
