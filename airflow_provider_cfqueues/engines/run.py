"""What the parts of a run share: its queue, its course, what failed for good, and how its messages are settled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from airflow_provider_cfqueues.engines.course import Course
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Kind
from airflow_provider_cfqueues.engines.settlement_log import Unconfirmed, log_settlements
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.engines.waiting import Activity
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, InvalidRequestError
from airflow_provider_cfqueues.texts import to_reason

T = TypeVar("T")

MAX_ERROR = 5_000
"""Characters of an error in the log: one that lists a hundred leases is shown whole."""
SETTLE_AGAIN_SECONDS = 5.0
"""How long to wait before a copy that could not be sent is tried again, unless the API asks for more."""


@dataclass(kw_only=True)
class RunReport:
    """
    What any run counts.

    :param pulled: messages leased.
    :param fates: how many messages ended how, each in exactly one way of
        :class:`~airflow_provider_cfqueues.engines.settlement.Kind`.
    :param unconfirmed: names those that the API did not confirm.
    :param seconds: how long the run took.
    :param activity: how long there were messages to settle: without the wait in an empty queue, or for an API that
        confirms nothing.
    :param backlog: what the API said last is waiting, if it did.
    """

    pulled: int = 0
    fates: Counter[Kind] = field(default_factory=Counter)
    unconfirmed: Unconfirmed = field(default_factory=Unconfirmed)
    seconds: float = 0.0
    activity: Activity = field(default_factory=Activity)
    backlog: int | None = None


class Run(Course):
    """
    One run over a queue.

    :param doing: what the log calls it, such as ``Processing``.
    :param report: gets the messages that the API did not confirm.
    :param now: tells the time that leases are compared with.
    """

    def __init__(
        self,
        doing: str,
        queue: HookQueue,
        report: RunReport,
        *,
        now: Callable[[], datetime],
        log: Any,
        grace: float,
    ) -> None:
        super().__init__(grace)
        self._doing = doing
        self.queue = queue
        self._unconfirmed = report.unconfirmed
        self.now = now
        self.log = log
        self.error: Exception | None = None

    def fail(self, error: BaseException) -> None:
        """Note what failed for good, and stop. What is no Exception comes from a task that a handler did not await."""
        if not isinstance(error, Exception):
            error = RuntimeError(f"An error was raised outside the handlers: {to_reason(error)}")
        if isinstance(error, CloudflareQueuesError):
            error.progress = None  # of one request; the run names what is open itself
        if self.error is None:
            self.error = error
            self.log.error("%s stops: %s", self._doing, to_reason(error, MAX_ERROR))
        self.is_stopping = True
        self.notify()

    def start(self, work: Coroutine[Any, Any, None], requests: dict[asyncio.Task[None], T], about: T) -> None:
        """
        Start a request. If it raises an error, the run stops.

        :param requests: what is under way, in order; has the request as long as it is.
        :param about: what ``requests`` says of it.
        """
        request = asyncio.create_task(work)
        requests[request] = about
        request.add_done_callback(partial(self._ended, requests))

    def _ended(self, requests: dict[asyncio.Task[None], Any], request: asyncio.Task[None]) -> None:
        del requests[request]
        if not request.cancelled() and isinstance(error := request.exception(), Exception):
            self.fail(error)
        self.notify()

    async def settle(self, settling: Settling) -> None:
        """
        Settle, and keep trying to copy what must not be given back, until that is done or its leases end.

        Whatever is raised, the log names the messages that the API did not confirm. What keeps copies from being sent,
        and a request that fails for good, stop the run.
        """
        why_open = "the run ended before the API answered"
        told = 0.0
        try:
            error = await self._try_to_settle(settling)
            log_settlements(self.log, self.queue.name, settling.changed)
            while error is not None:
                self.fail(error)
                why_open = error.message
                not_copied = settling.error
                if not_copied is None or isinstance(not_copied, InvalidRequestError):
                    break
                wait = max(not_copied.retry_after or 0, SETTLE_AGAIN_SECONDS)
                if not settling.is_leased_until(self.now() + timedelta(seconds=wait)):
                    break
                if wait != told:
                    told = wait
                    self.log.warning(
                        "Queue %s: could not copy messages: %s. Trying again in %.0f s",
                        self.queue.name,
                        not_copied,
                        wait,
                    )
                if not await self.rest(wait):
                    break
                settling.try_again()
                error = await self._try_to_settle(settling)
        finally:
            log_settlements(self.log, self.queue.name, settling.give_up())
            self._unconfirmed.note(self.log, self.queue.name, settling.unconfirmed(why_open))

    async def _try_to_settle(self, settling: Settling) -> CloudflareQueuesError | None:
        """Settle what can be settled now; return why not all is, if a request failed."""
        try:
            await self.queue.settle(settling)
        except CloudflareQueuesError as error:
            return error
        return settling.error
