"""The queue as the engine sees it, over the hook's async calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_cfqueues import api, flows
from airflow_provider_cfqueues.models import AckResult, Lease, Message, OutgoingMessage, PullResult

if TYPE_CHECKING:
    from airflow_provider_cfqueues.flows import Flow
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

T = TypeVar("T")


class HookPort:
    """
    One queue and, where there is one, its dead-letter queue.

    :param hook: the hook.
    :param queue_id: ID of the queue.
    :param visibility_timeout: seconds that leases last.
    :param dead_letter_queue_id: ID of the queue that gets copies of rejected messages.
    :param timed: gives a context manager that times the request of this name.
    """

    def __init__(
        self,
        hook: CloudflareQueuesHook,
        queue_id: str,
        *,
        visibility_timeout: float,
        dead_letter_queue_id: str | None,
        timed: Callable[[str], AbstractContextManager[None]] = nullcontext,  # type: ignore[assignment]
    ) -> None:
        self._hook = hook
        self._queue_id = queue_id
        self._visibility_timeout = visibility_timeout
        self._dead_letter_queue_id = dead_letter_queue_id
        self._timed = timed

    @property
    def can_dead_letter(self) -> bool:
        """Whether there is a dead-letter queue."""
        return self._dead_letter_queue_id is not None

    async def pull(self, max_messages: int) -> PullResult:
        """
        Lease messages.

        :param max_messages: 1 to 100.
        """
        # One request: the hook's pull makes further ones until it has enough, and what the first gave would wait for
        # the last, its leases running, unknown to the engine where that is killed meanwhile.
        with self._timed("pull"):
            call = api.pull(self._queue_id, max_messages, self._visibility_timeout, self._visibility_timeout)
            pulled = await self._run(flows.once(call))
        self._hook.log_without_lease(self._queue_id, pulled)
        return pulled

    async def ack(self, acks: Sequence[str], retries: Sequence[Lease]) -> AckResult:
        """
        Settle leases.

        :param acks: leases of messages that are done.
        :param retries: leases of messages to deliver again.
        """
        with self._timed("ack"):
            result = await self._run(flows.ack(self._queue_id, [Lease(lease_id=ack) for ack in acks], retries))
        self._hook.log_messages(self._queue_id, result)
        return result

    async def dead_letter(self, rejected: Sequence[tuple[Message, str]]) -> set[str]:
        """
        Copy messages to the dead-letter queue; return the leases of those that it accepted.

        A copy that is too large with what is added to it is not sent: its message is given back.

        :param rejected: the messages, each with its reason.
        """
        copies = {message.lease_id: self._copy(message, reason) for message, reason in rejected}
        copies = {lease_id: copy for lease_id, copy in copies.items() if flows.fits(copy)}
        with self._timed("dead_letter"):
            # A copy that comes twice is better than a run that ends, with its messages rejected again in the next.
            await self._run(flows.send(str(self._dead_letter_queue_id), list(copies.values()), repeat_ambiguous=True))
        return set(copies)

    async def _run(self, flow: Flow[T]) -> T:
        client = await self._hook.aget_conn()
        return await client.run(flows.patiently(flow))

    def _copy(self, message: Message, reason: str) -> OutgoingMessage:
        undecoded = message.body_error is not None or isinstance(message.body, bytes)
        return OutgoingMessage(
            body={
                "id": message.id,
                "queue_id": self._queue_id,
                "body": message.raw_body if undecoded else message.body,
                "content_type": message.content_type,
                "metadata": dict(message.metadata),
                "attempts": message.attempts,
                "reason": reason,
            },
            content_type="json",
        )
