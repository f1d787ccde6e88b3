"""Run a user's handler, sync or async, for one message or a batch, and say what came of each message."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from datetime import datetime
from functools import partial
from typing import Any

from airflow_provider_cfqueues.engines.settlement import Handled
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.outcomes import Ack, Outcome, Reject, Retry

SLICE_SECONDS = 0.02
"""How long a sync handler's thread takes further messages before it gives way: a hop costs more than a handler."""
REPORT_SECONDS = 0.25
"""How often what such a thread has done so far is settled, while it is busy with a slow message."""


class BrokenHandlerError(TypeError):
    """A handler returned something to await, or one of batches something else than None or one outcome per message."""


class Handling:
    """
    Calls a handler with as many messages at once as it takes.

    :param handler: gets a message or, with ``batch_size``, a list of messages.
    :param batch_size: None for a handler of single messages.
    :param max_attempts: a message that handlers saw so often is rejected unseen.
    :param executor: where sync handlers run.
    :param now: tells the time.
    """

    def __init__(
        self,
        handler: Callable[[Any], Any],
        *,
        batch_size: int | None,
        max_attempts: int | None,
        executor: Executor,
        now: Callable[[], datetime],
    ) -> None:
        self._handler = handler
        self._is_async = is_async(handler)
        self._batch_size = batch_size
        self._max_attempts = max_attempts
        self._executor = executor
        self._now = now
        self.error: BrokenHandlerError | None = None

    @property
    def takes(self) -> int:
        """How many messages it can be given at once."""
        return self._batch_size or (1 if self._is_async else 256)

    async def run(
        self, messages: Sequence[Message], stopping: Callable[[], bool], on_done: Callable[[Handled], None]
    ) -> None:
        """
        Handle messages, or a first part of them where time is up or the engine stops.

        :param messages: messages whose turn it is, at most ``takes``.
        :param stopping: whether to begin no further one.
        :param on_done: gets each message that is done, soon after it is: a slow one does not hold up those before it.
        """
        if self._is_async:
            if ready := self._sort_out(messages, on_done):
                for handled in self._judge(ready, *await self._acall(ready)):
                    on_done(handled)
            return
        finished: deque[Handled] = deque()
        loop = asyncio.get_running_loop()
        run = partial(contextvars.copy_context().run, self._run_sync, messages, stopping, finished.append, loop.time)
        call = loop.run_in_executor(self._executor, run)
        try:
            while not call.done():
                await asyncio.wait({call}, timeout=REPORT_SECONDS)
                _hand_over(finished, on_done)
        finally:
            _hand_over(finished, on_done)
        call.result()

    def _run_sync(
        self,
        messages: Sequence[Message],
        stopping: Callable[[], bool],
        on_done: Callable[[Handled], None],
        clock: Callable[[], float],
    ) -> None:
        end = clock() + SLICE_SECONDS
        for unit in self._units(messages):
            if ready := self._sort_out(unit, on_done):
                for handled in self._judge(ready, *self._call(ready)):
                    on_done(handled)
            if clock() >= end or stopping():
                return

    def _units(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        if self._batch_size:
            yield messages
        else:
            yield from ([message] for message in messages)

    def _sort_out(self, messages: Sequence[Message], on_done: Callable[[Handled], None]) -> list[Message]:
        """Return the messages that a handler should see; the others are done."""
        ready = []
        for message in messages:
            if message.lease_expires_at and message.lease_expires_at <= self._now():
                on_done(self._done(message, None))
            elif self._max_attempts is not None and (message.attempts or 0) > self._max_attempts:
                reason = f"delivered {message.attempts} times (max_attempts={self._max_attempts})"
                on_done(self._done(message, Reject(reason), failed=True, reason=reason))
            elif message.body_error is not None:
                on_done(self._done(message, Reject(message.body_error), failed=True, reason=message.body_error))
            else:
                ready.append(message)
        return ready

    def _argument(self, messages: list[Message]) -> Any:
        return list(messages) if self._batch_size else messages[0]  # a handler may empty its list

    # Whatever a handler raises is its verdict on the message, so both calls catch every Exception.
    def _call(self, messages: list[Message]) -> tuple[Any, BaseException | None]:
        try:
            return self._handler(self._argument(messages)), None
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001
            return None, error

    async def _acall(self, messages: list[Message]) -> tuple[Any, BaseException | None]:
        try:
            return await self._handler(self._argument(messages)), None
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            return None, error  # of a task of the handler's own
        except (Exception, SystemExit) as error:  # noqa: BLE001
            return None, error

    def _judge(self, messages: list[Message], returned: Any, error: BaseException | None) -> list[Handled]:
        """Turn what a handler returned or raised into one outcome per message."""
        if error is not None:
            verdict = error if isinstance(error, (Retry, Reject)) else Retry(reason=f"{type(error).__name__}: {error}")
            asked = isinstance(error, Retry)
            return [self._verdict(message, verdict, failed=not asked) for message in messages]
        if inspect.isawaitable(returned):
            if inspect.iscoroutine(returned):
                returned.close()
            return self._broken(messages, "a result: make it an 'async def'", "something to await")
        if not self._batch_size:
            return [self._verdict(messages[0], returned)]
        outcomes = [Ack()] * len(messages) if returned is None else returned
        if (
            not isinstance(outcomes, Sequence)
            or len(outcomes) != len(messages)
            or not all(isinstance(outcome, (Ack, Retry, Reject)) for outcome in outcomes)
        ):
            wanted = f"None or a list of one Ack(), Retry() or Reject() for each of its {len(messages)} messages"
            return self._broken(messages, wanted, _describe(outcomes))
        return [self._verdict(message, outcome) for message, outcome in zip(messages, outcomes, strict=True)]

    def _broken(self, messages: list[Message], wanted: str, returned: str) -> list[Handled]:
        self.error = BrokenHandlerError(f"The handler must return {wanted}, not {returned}. They are given back")
        return [self._verdict(message, Retry(reason=str(self.error)), failed=True) for message in messages]

    def _verdict(self, message: Message, returned: Any, *, failed: bool = False) -> Handled:
        if isinstance(returned, Reject):
            return self._done(message, returned, failed=True, reason=returned.reason or "rejected")
        if isinstance(returned, Retry):
            reason = "" if returned.reason is None else returned.reason or "asked for a retry"
            return self._done(message, returned, failed=failed, reason=reason)
        return self._done(message, Ack(), result=None if isinstance(returned, Ack) else returned)

    def _done(self, message: Message, outcome: Outcome | None, **facts: Any) -> Handled:
        return Handled(message=message, outcome=outcome, finished_at=self._now(), **facts)


def is_async(handler: Callable[..., Any]) -> bool:
    """
    Return whether calling a handler gives something to await.

    :param handler: a function, a partial of one, or an object with ``__call__``.
    """
    function = inspect.unwrap(handler)
    while hasattr(function, "func"):  # a functools.partial
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _is_being_cancelled() -> bool:
    """Tell the engine's cancelling of a worker from a handler's own; Python 3.10 cannot, and the worker ends."""
    task: Any = asyncio.current_task()
    return not hasattr(task, "cancelling") or task.cancelling() > 0


def _hand_over(finished: deque[Handled], on_done: Callable[[Handled], None]) -> None:
    while finished:
        on_done(finished.popleft())


def _describe(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, Sequence) else "")
