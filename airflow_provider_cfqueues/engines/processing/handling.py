"""Run a user's handler, sync or async, for one message or a batch, and return the outcome of each message."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from airflow_provider_cfqueues.arguments import parse_delay
from airflow_provider_cfqueues.engines.processing.handlers import is_async
from airflow_provider_cfqueues.engines.processing.report import Handled
from airflow_provider_cfqueues.engines.processing.results import (
    BrokenHandlerError,
    check_result,
    is_awaitable,
    read_outcome,
    read_outcomes,
)
from airflow_provider_cfqueues.engines.processing.runner import Runner
from airflow_provider_cfqueues.engines.processing.state import RunState
from airflow_provider_cfqueues.engines.settlement import Happened
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.outcomes import Outcome, Reject, Retry
from airflow_provider_cfqueues.texts import to_reason

SLICE_SECONDS = 0.02
"""How long a thread handles further messages before it returns: a change of threads costs more than a quick handler."""
REPORT_SECONDS = 0.25
"""After so many seconds, the messages that a slice has done are settled: a slow message must not hold them up."""
MAX_SLICE = 256


class NotStarted(Retry):
    """The handler could not begin, or not wait for the end of its work: settle the message as if none had taken it."""


class Handling:
    """
    Calls a handler with as many messages at once as it takes.

    :param handler: gets a message or, with ``batch_size``, a list of messages.
    """

    def __init__(self, handler: Callable[[Any], Any], runner: Runner, state: RunState) -> None:
        self._handler = handler
        self._is_async = is_async(handler)
        self._runner = runner
        self._state = state
        self._options = state.options
        self._batch_size = state.options.batch_size
        self._now = state.now
        self._count, self._seconds = 0, 0.0  # of calls, without the way there and back
        self.error: Exception | None = None

    @property
    def takes(self) -> int:
        """How many messages it takes at once: as many as fit into a slice, so that threads share slow messages."""
        if self._batch_size or not self._count:
            return self._batch_size or 1
        return max(1, min(MAX_SLICE, int(SLICE_SECONDS * self._count / max(self._seconds, 1e-6))))

    async def run(self, messages: Sequence[Message], on_done: Callable[[Handled], None]) -> None:
        """
        Handle messages, or only the first of them if time is up or the engine stops.

        :param messages: messages whose turn it is, at most ``takes``.
        :param on_done: gets each message that is done, soon after it is: a slow one does not hold up those before it.
        :raises RuntimeError: something was raised on the handlers' side, and not by a call of the handler.
        """
        done: deque[Handled] = deque()
        slices = self._slices(messages, done, asyncio.get_running_loop().time)
        if self._is_async:
            await self._watch(self._runner.run_async(self._run_async(slices, done)), done, on_done)
            return
        call = self._runner.run_sync(partial(self._run_sync, slices, done))
        if (unfinished := await self._watch(call, done, on_done)) is not None:
            messages, returned = unfinished
            await self._watch(self._runner.run_async(self._finish(messages, returned, done)), done, on_done)

    async def _watch(self, call: asyncio.Future[Any], done: deque[Handled], on_done: Callable[[Handled], None]) -> Any:
        try:
            await asyncio.wait([call], timeout=REPORT_SECONDS)
            _hand_over(done, on_done)
            if not call.done():
                await asyncio.wait([call])
        finally:
            call.cancel()  # where the engine gives up waiting; what it still does counts for nothing
            _hand_over(done, on_done)
        if call.cancelled():  # a handler can cancel the task that it runs in
            return None
        if (error := call.exception()) is not None:
            raise RuntimeError(f"An error was raised outside the handlers: {to_reason(error)}") from error
        return call.result()

    # -- on the handlers' side: threads and a loop that are not the engine's -------------------------------------------

    def _slices(
        self, messages: Sequence[Message], done: deque[Handled], clock: Callable[[], float]
    ) -> Iterator[list[Message]]:
        """Yield what is to be handled next, as long as there is time."""
        now = clock()
        end = now + SLICE_SECONDS
        for unit in [messages] if self._batch_size else ([message] for message in messages):
            if self._state.is_stopping:
                return
            if ready := self._sort_out(unit, done.append):
                yield ready
            before, now = now, clock()
            self._seconds += now - before
            self._count += 1
            if now >= end:
                return

    def _run_sync(self, slices: Iterator[list[Message]], done: deque[Handled]) -> tuple[list[Message], Any] | None:
        """Handle messages; return those whose handler returned something to await, with that."""
        for messages in slices:
            returned, error = self._call(messages)
            if error is None and is_awaitable(returned):
                return messages, returned
            done.extend(self._judge(messages, returned, error))
        return None

    async def _run_async(self, slices: Iterator[list[Message]], done: deque[Handled]) -> None:
        task: Any = asyncio.current_task()
        for messages in slices:
            returned, error = self._call(messages)
            if error is None and is_awaitable(returned):
                returned, error = await _wait_for(returned)
                if error is None and is_awaitable(returned):
                    returned, error = await _wait_for(returned)
            done.extend(self._judge(messages, returned, error))
            # A cancelled task is used no further: the engine may have given up on it, or the handler cancelled it,
            # perhaps without being told so yet. A closed coroutine must not go on either.
            if isinstance(error, (asyncio.CancelledError, GeneratorExit)) or task._must_cancel:
                return

    async def _finish(self, messages: Sequence[Message], returned: Any, done: deque[Handled]) -> None:
        done.extend(self._judge(messages, *await _wait_for(returned)))

    def _sort_out(self, messages: Sequence[Message], on_done: Callable[[Handled], None]) -> list[Message]:
        """Return the messages that a handler should see; the others are done."""
        ready = []
        for message in messages:
            if message.lease_expires_at and message.lease_expires_at <= self._now():
                on_done(self._verdict(message, NotStarted(0, "its lease ended before a handler took it"), is_over=True))
            elif self._options.max_attempts is not None and (message.attempts or 0) > self._options.max_attempts:
                reason = f"delivered {message.attempts} times (max_attempts={self._options.max_attempts})"
                on_done(self._verdict(message, Reject(reason)))
            elif message.body_error is not None:
                on_done(self._verdict(message, Reject(message.body_error)))
            else:
                ready.append(message)
        return ready

    def _call(self, messages: list[Message]) -> tuple[Any, BaseException | None]:
        try:
            # A handler of batches may empty its list.
            return self._handler(list(messages) if self._batch_size else messages[0]), None
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its verdict on the message
            return None, error

    def _judge(self, messages: Sequence[Message], returned: Any, error: BaseException | None) -> list[Handled]:
        """Turn what a handler returned or raised into one outcome per message."""
        if error is not None:
            if isinstance(error, self._options.ends_task):
                self.error = self.error or error
            verdict = error if isinstance(error, (Retry, Reject)) else Retry(reason=error)
            failed = not isinstance(error, Retry)
            return [self._verdict(message, verdict, failed=failed, error=error) for message in messages]
        try:
            if self._batch_size:
                outcomes = read_outcomes(returned, len(messages))
                return [self._verdict(message, outcome) for message, outcome in zip(messages, outcomes, strict=True)]
            outcome = read_outcome(returned)
            if outcome is not None:
                return [self._verdict(messages[0], outcome)]
            check_result(returned)
            return [Handled(message=messages[0], happened=Happened.HANDLED, finished_at=self._now(), result=returned)]
        except BrokenHandlerError as broken:
            self.error = self.error or broken
            return [self._verdict(message, Retry(reason=str(broken)), failed=True) for message in messages]

    def _verdict(
        self,
        message: Message,
        verdict: Outcome,
        *,
        failed: bool = False,
        error: BaseException | None = None,
        is_over: bool = False,
    ) -> Handled:
        happened, reason, delay_seconds = Happened.HANDLED, "", None
        if isinstance(verdict, Reject):
            happened, failed, error = Happened.REJECTED, True, None
            reason = to_reason(verdict.reason) or "rejected"
            delay_seconds = self._choose_delay(message)
        elif isinstance(verdict, Retry):
            happened = Happened.NOT_STARTED if isinstance(verdict, NotStarted) else Happened.FAILED
            reason = "" if verdict.reason is None else to_reason(verdict.reason) or "asked for a retry"
            delay_seconds = self._choose_delay(message, verdict.delay_seconds)
        return Handled(
            message=message,
            happened=happened,
            finished_at=self._now(),
            is_over=is_over,
            failed=failed,
            reason=reason,
            error=error if failed else None,
            delay_seconds=delay_seconds,
        )

    def _choose_delay(self, message: Message, asked: float | None = None) -> int | None:
        """Return how long a message waits that is given back. It runs beside handlers: a rule may be user code."""
        rule = self._options.delay
        try:
            if asked is None:
                asked = rule if rule is None or isinstance(rule, int) else rule.seconds(message)
            return parse_delay(asked)
        except BaseException as error:  # noqa: BLE001 - whatever a rule does, the message is given back
            self._state.log.warning(
                "Message %s has no valid delay, so it waits for the consumer's retry_delay: %s",
                message.id,
                to_reason(error),
            )
            return None


async def _wait_for(returned: Any) -> tuple[Any, BaseException | None]:
    try:
        return await returned, None
    except BaseException as error:  # noqa: BLE001 - as of a call
        return None, error


def _hand_over(done: deque[Handled], on_done: Callable[[Handled], None]) -> None:
    while done:
        on_done(done.popleft())
