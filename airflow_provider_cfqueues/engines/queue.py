"""The queue as an engine sees it, over the hook's async calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.client import message_calls
from airflow_provider_cfqueues.client.flow import once
from airflow_provider_cfqueues.engines.settlement_log import log_settlements
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.engines.unconfirmed import Unconfirmed
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, InvalidRequestError, MalformedResponseError
from airflow_provider_cfqueues.models import PullResult
from airflow_provider_cfqueues.texts import counted

if TYPE_CHECKING:
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

log = logging.getLogger(__name__)

UNREADABLE_WAITS = (5, 20)
"""Seconds after a pull's first and second answer that cannot be read. Each may have leased messages that the task does
not see, so the third one ends the run."""
SETTLE_AGAIN_SECONDS = 5.0
"""How long to wait before a copy that could not be sent is tried again, unless the API asks for more."""
NOT_ASKED = PullResult()
"""The result of a pull that did not ask the queue, so it does not mean that the queue is empty."""


@dataclass(eq=False, repr=False)
class HookQueue:
    """
    One queue and, where there is one, its dead-letter queue.

    :param hook: the hook.
    :param queue_id: ID of the queue.
    :param visibility_timeout: seconds that leases last.
    :param dead_letter_queue_id: ID of the queue that gets copies of rejected messages.
    """

    hook: CloudflareQueuesHook
    queue_id: str
    _: KW_ONLY
    visibility_timeout: float
    dead_letter_queue_id: str | None
    _unreadable: int = field(default=0, init=False)  # answers in a row; those of pulls at the same time count as one
    _may_be_leased: int = field(default=0, init=False)
    _given_up: MalformedResponseError | None = field(default=None, init=False)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def name(self) -> str:
        """What the log calls it."""
        return self.hook.name_of(self.queue_id)

    @property
    def can_dead_letter(self) -> bool:
        """Whether there is a dead-letter queue."""
        return self.dead_letter_queue_id is not None

    @property
    def dead_letter_name(self) -> str:
        """What the log calls the dead-letter queue; empty if there is none."""
        return "" if self.dead_letter_queue_id is None else self.hook.name_of(self.dead_letter_queue_id)

    async def pull(self, max_messages: int) -> PullResult:
        """
        Lease messages. After an answer that cannot be read, pull slower and one batch at a time.

        :param max_messages: 1 to 100.
        :raises CloudflareQueuesError: the request failed for good.
        :raises MalformedResponseError: the third answer in a row could not be read.
        """
        while True:
            async with self._one_at_a_time if self._unreadable else nullcontext():
                if self._given_up is not None:
                    raise self._given_up
                before = self._unreadable
                if before:
                    await asyncio.sleep(UNREADABLE_WAITS[before - 1])
                try:
                    pulled = await self._pull(max_messages)
                except MalformedResponseError as error:
                    self._unreadable = max(self._unreadable, before + 1)
                    self._may_be_leased += max_messages
                    self._say_unreadable(error)
                else:
                    self._unreadable = self._may_be_leased = 0
                    return pulled

    def _say_unreadable(self, error: MalformedResponseError) -> None:
        """Log an answer that could not be read, or raise its error once that happened too often."""
        count = counted(self._may_be_leased, "message")
        leased = f"Cloudflare may have leased up to {count}, for up to {self.visibility_timeout:g} s"
        if self._unreadable > len(UNREADABLE_WAITS):
            self._given_up = error
            error.add(f"{self._unreadable} answers in a row were like that. {leased}")
            raise error
        wait = UNREADABLE_WAITS[self._unreadable - 1]
        log.warning(
            "Queue %s: %s. %s. Trying again in %d s, one batch at a time. If this goes on, check the proxy and the "
            "host of the connection",
            self.name,
            error.message.rstrip("."),
            leased,
            wait,
        )

    async def _pull(self, max_messages: int) -> PullResult:
        # One request: the hook's pull makes further ones until it has enough, and what the first gave would wait for
        # the last, its leases running, unknown to the engine where that is killed meanwhile.
        call = message_calls.pull(self.queue_id, max_messages, self.visibility_timeout, self.visibility_timeout)
        pulled = await self.hook.arun(once(call))
        self.hook.log_remarks(self.queue_id, pulled)
        return pulled

    async def settle(self, settling: Settling) -> None:
        """
        Carry out what was decided of messages.

        :raises CloudflareQueuesError: a request failed for good.
        """
        result = await self.hook.arun(settling.send(self.queue_id, self.dead_letter_queue_id), patient=True)
        self.hook.log_messages(self.queue_id, result)

    async def settle_until_leases_end(
        self,
        settling: Settling,
        *,
        unconfirmed: Unconfirmed,
        now: Callable[[], datetime],
        rest: Callable[[float], Awaitable[bool]],
        on_error: Callable[[CloudflareQueuesError], None],
        log: Any,
    ) -> None:
        """
        Settle, and keep trying to copy what must not be given back, until that is done or its leases end.

        :param unconfirmed: is told, whatever is raised, which messages the API did not confirm.
        :param now: tells the time that leases are compared with.
        :param rest: waits so many seconds; returns False if there is no time for that.
        :param on_error: gets what keeps copies from being sent, and why the API did not ack and retry.
        :param log: where messages go that may be lost.
        """
        why_open = "the run ended before the API answered"
        try:
            await self.settle(settling)
            log_settlements(log, self.name, settling.changed)
            told = 0.0
            while (error := settling.error) is not None:
                on_error(error)
                wait = max(error.retry_after or 0, SETTLE_AGAIN_SECONDS)
                until = now() + timedelta(seconds=wait)
                if isinstance(error, InvalidRequestError) or not settling.is_leased_until(until):
                    break
                if wait != told:
                    told = wait
                    log.warning("Queue %s: could not copy messages: %s. Trying again in %.0f s", self.name, error, wait)
                if not await rest(wait):
                    break
                settling.try_again()
                await self.settle(settling)
        except CloudflareQueuesError as error:
            why_open = error.message
            on_error(error)
        finally:
            unconfirmed.note(log, self.name, settling.unconfirmed(why_open))
