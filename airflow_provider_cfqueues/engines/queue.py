"""The queue as an engine sees it, over the hook's async calls."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_cfqueues.client import message_calls
from airflow_provider_cfqueues.client.flow import once
from airflow_provider_cfqueues.engines.settlement import Situation
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.exceptions import MalformedResponseError
from airflow_provider_cfqueues.models import Consumer, PullResult
from airflow_provider_cfqueues.texts import counted

if TYPE_CHECKING:
    from airflow_provider_cfqueues.client.flow import Flow
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

log = logging.getLogger(__name__)

UNREADABLE_WAITS = (5, 20)
"""Seconds after a pull's first and second answer that cannot be read. Each may have leased messages that the task does
not see, so the third one ends the run."""
NOT_ASKED = PullResult()
"""The result of a pull that did not ask the queue, so it does not mean that the queue is empty."""


def find_dead_letter_queue(
    hook: CloudflareQueuesHook, queue_id: str, consumer: Consumer | None, given: str | None
) -> Flow[str | None]:
    """
    Return the ID of the queue that gets copies of a queue's messages, None if there is none.

    :param consumer: the queue's consumer, if it could be read.
    :param given: what the caller gave as ``dead_letter_queue``; it goes before the consumer's.
    :raises ValueError: it is the queue itself.
    """
    name = given or (consumer and consumer.dead_letter_queue)
    if not name:
        return None
    what = "dead_letter_queue" if given else "the dead-letter queue of the queue's consumer"
    found = yield from hook.get_queue_id_flow(name, what=what)
    if found == queue_id:
        raise ValueError(f"{what} is {name!r}, the queue itself: rejected messages would be delivered again and again")
    return found


@dataclass(eq=False, repr=False)
class HookQueue:
    """
    One queue.

    :param hook: the hook.
    :param queue_id: ID of the queue.
    :param visibility_timeout: seconds that leases last.
    :param situation: what the settlement of its messages depends on besides the message.
    """

    hook: CloudflareQueuesHook
    queue_id: str
    _: KW_ONLY
    visibility_timeout: float
    situation: Situation = field(default_factory=Situation)
    _unreadable: int = field(default=0, init=False)  # answers in a row; those of pulls at the same time count as one
    _may_be_leased: int = field(default=0, init=False)
    _given_up: MalformedResponseError | None = field(default=None, init=False)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def name(self) -> str:
        """What the log calls it."""
        return self.hook.name_of(self.queue_id)

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
        result = await self.hook.arun(settling.send(self.queue_id), patient=True)
        self.hook.log_messages(self.queue_id, result)
