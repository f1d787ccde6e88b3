"""
Start one run of a DAG for each message: the handler, and a queue that gives no more messages than runs may start.

The ID of the run is made from the ID of the message, and Airflow starts no second run with the same ID. So a message
that is delivered again, or a call that is repeated, finds the run that exists.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues._compat import AirflowFailException
from airflow_provider_cfqueues._compat.runs import ACTIVE_STATES
from airflow_provider_cfqueues.arguments import MAX_VISIBILITY_SECONDS
from airflow_provider_cfqueues.engines.processing.handling import NotStarted
from airflow_provider_cfqueues.engines.queue import NOT_ASKED, HookQueue
from airflow_provider_cfqueues.engines.threads import DaemonThreads
from airflow_provider_cfqueues.engines.waiting import utc_now
from airflow_provider_cfqueues.outcomes import Reject

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat.runs import DagRuns
    from airflow_provider_cfqueues.models import Message, PullResult

ROOM_POLL_SECONDS = 1
SLICE_SECONDS = 0.5
"""How soon a handler that waits notices that the task ends."""
MOST_SECONDS_TO_SETTLE = 10.0


def name_run(queue_name: str, message: Message) -> str:
    """Return the ID of the run of a message, the same at each delivery; reject a message without an ID."""
    if not message.id:
        raise Reject("the message has no ID, but the run ID is made from it")
    # Airflow takes letters, digits and _.~:+- only. Cloudflare's IDs have no others today.
    kept = re.sub(r"[^A-Za-z0-9_.:+-]", lambda found: f"~{ord(found[0]):x}~", message.id)
    return f"cloudflare_queues__{queue_name}__{kept}"


class NoRuns(NotStarted, AirflowFailException):
    """Airflow starts no run of the DAG, whatever the message. It ends the task."""

    def __str__(self) -> str:
        return str(self.reason)


@dataclass(kw_only=True, eq=False, repr=False)
class RunStarter:
    """
    The handler: starts the run of a message and, if it is to wait, lets the run decide what becomes of the message.

    :param runs: the runs of the DAG.
    :param queue_name: name of the queue.
    :param make_conf: makes the run's configuration of a message.
    :param max_active: start no run while so many are active; None = no limit.
    :param most_awaited: how many runs are awaited at once; None = no run is, and a message is done once its run exists.
    :param clears: what becomes of a message whose run failed: True = it is given back, and its next delivery clears the
        run; False = it is rejected.
    :param poll_interval: seconds between two looks at a run.
    :param lease_seconds: how long leases last.
    :param is_stopping: whether the task ends.
    """

    runs: DagRuns
    queue_name: str
    make_conf: Callable[[Message], dict[str, Any]]
    max_active: int | None
    most_awaited: int | None
    clears: bool
    poll_interval: float
    lease_seconds: float
    is_stopping: Callable[[], bool]
    started: int = 0
    existing: int = 0
    _awaited: list[str] = field(default_factory=list, init=False)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __call__(self, message: Message) -> str:
        """Start the run of a message; return its ID."""
        run_id = name_run(self.queue_name, message)
        conf = self.make_conf(message)
        try:
            is_new = self._begin(message, partial(self.runs.start, run_id, conf), partial(self.runs.exists, run_id))
        except ValueError as error:
            raise Reject(f"Airflow refuses its conf: {error}") from error
        except LookupError as error:
            raise NoRuns(reason=str(error)) from error
        if is_new is None:
            raise NotStarted(0, self._no_room)
        with self._one_at_a_time:
            self.started += is_new
            self.existing += not is_new
        if self.most_awaited is not None:
            self._awaited.append(run_id)
            try:
                self._await_end(message, run_id, conf, may_clear=self.clears and not is_new)
            finally:
                self._awaited.remove(run_id)
        return run_id

    @property
    def is_limited(self) -> bool:
        """Whether there are times at which no message may be pulled."""
        return self.max_active is not None or self.most_awaited is not None

    def count_room(self, unhandled: int) -> int:
        """
        Return how many messages may be pulled now.

        None is pulled ahead of a run that is awaited: it would stay leased for long if the worker died.

        :param unhandled: how many messages are pulled whose handler has not ended.
        """
        rooms = [] if self.most_awaited is None else [self.most_awaited - unhandled]
        if self.max_active is not None:
            # What comes is counted first: a run that starts in between counts twice, not never.
            coming = unhandled - len(self._awaited)
            rooms.append(self.max_active - self.runs.count_active() - coming)
        return min(rooms)

    @property
    def _no_room(self) -> str:
        return f"max_active={self.max_active} runs of the DAG were active until the lease or the task ended"

    def _begin(self, message: Message, begin: Callable[[], bool | None], is_there: Callable[[], bool]) -> bool | None:
        """Begin a run once there is room; return False if it is there already, None if there was no room in time."""
        if self.max_active is None:
            return begin() is not False
        while True:
            with self._one_at_a_time:  # else two handlers would take the same room
                if self.runs.count_active() < self.max_active:
                    return begin() is not False
            if is_there():
                return False
            if not self._pause(message, ROOM_POLL_SECONDS):
                return None

    def _await_end(self, message: Message, run_id: str, conf: dict[str, Any], *, may_clear: bool) -> None:
        """Return once the run has succeeded; raise if anything else happened to it."""
        while True:
            state = self.runs.get_state(run_id)
            if state == "success":
                return
            if state in ACTIVE_STATES:
                may_clear = False
                if not self._pause(message, self.poll_interval):
                    raise self._still_active(run_id, state)
            elif state is None:
                raise RuntimeError(f"Run {run_id} was deleted. The next delivery of its message starts it again")
            elif not self.clears:
                raise Reject(f"run {run_id} failed")
            elif not may_clear:
                raise RuntimeError(f"Run {run_id} failed. The next delivery of its message clears it")
            else:
                may_clear = False
                if self._begin(message, partial(self.runs.clear, run_id, conf), lambda: False) is None:
                    raise NotStarted(0, self._no_room)

    def _still_active(self, run_id: str, state: str) -> Exception:
        if self.is_stopping():
            return NotStarted(0, f"the task ended while run {run_id} was {state}")
        return RuntimeError(
            f"The lease ended while run {run_id} was {state}. Raise visibility_timeout (now {self.lease_seconds:g} s, "
            f"at most {MAX_VISIBILITY_SECONDS} s)"
        )

    def _pause(self, message: Message, seconds: float) -> bool:
        """Let some time pass; return False as soon as the task or the lease of the message ends."""
        end = time.monotonic() + seconds
        margin = timedelta(seconds=min(MOST_SECONDS_TO_SETTLE, self.lease_seconds / 10))
        lease_ends = message.lease_expires_at and message.lease_expires_at - margin
        while (now := time.monotonic()) < end:
            if self.is_stopping() or (lease_ends and utc_now() >= lease_ends):
                return False
            time.sleep(min(SLICE_SECONDS, end - now))
        return True


@dataclass(eq=False, repr=False)
class PacedQueue(HookQueue):
    """
    A queue that is pulled only for as many messages as runs may start; the others stay in it.

    :param starter: starts the runs.
    :param count_unhandled: tells how many messages are pulled whose handler has not ended.
    """

    starter: RunStarter = field(kw_only=True)
    count_unhandled: Callable[[], int] = field(kw_only=True)
    _one_pull: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)  # a pull counts from its answer on
    _thread: DaemonThreads = field(init=False, default_factory=lambda: DaemonThreads(1, "cloudflare-queue-room"))

    async def pull(self, max_messages: int) -> PullResult:
        """Lease 1 to 100 messages; return NOT_ASKED, after a moment, if there is no room for one."""
        async with self._one_pull:
            loop = asyncio.get_running_loop()
            room = await loop.run_in_executor(self._thread, self.starter.count_room, self.count_unhandled())
            if room > 0:
                return await super().pull(min(max_messages, room))
            await asyncio.sleep(ROOM_POLL_SECONDS)
            return NOT_ASKED
