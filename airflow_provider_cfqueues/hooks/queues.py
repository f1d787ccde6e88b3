"""The hook: Cloudflare Queues with an Airflow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues import arguments
from airflow_provider_cfqueues.arguments import Seconds
from airflow_provider_cfqueues.client import message_calls
from airflow_provider_cfqueues.client import messages as message_flows
from airflow_provider_cfqueues.client.flow import once
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, shorten_lease
from airflow_provider_cfqueues.hooks import form
from airflow_provider_cfqueues.hooks.administration import AdministrationHook
from airflow_provider_cfqueues.texts import counted

if TYPE_CHECKING:
    from airflow_provider_cfqueues.client.flow import Flow
    from airflow_provider_cfqueues.models import AckResult, PeekedMessage, PullResult, QueueMetrics, SendResult


class CloudflareQueuesHook(AdministrationHook):
    """
    Pull, settle and send messages of Cloudflare Queues over their REST API, and manage the queues.

    Each call has an async twin with an ``a`` prefix. A call that fails for a reason that may pass (connection errors,
    HTTP 408, 429, 5xx) is repeated for up to a minute, with growing random waits or as ``Retry-After`` asks. Each call
    says what repeating it means. A call that fails for good raises a
    :class:`~airflow_provider_cfqueues.exceptions.CloudflareQueuesError`, a wrong argument a TypeError or ValueError,
    and a connection that does not exist Airflow's own error.

    The hook reports lineage: ``traffic`` has the numbers of what its calls read and wrote, and Airflow's hook lineage
    gets the queues as assets.

    :param cloudflare_conn_id: the Airflow connection, of type ``cloudflare``.
    """

    # Airflow looks for these two in the class itself, not in those that it inherits from.
    get_connection_form_widgets = staticmethod(form.connection_form_widgets)
    get_ui_field_behaviour = staticmethod(form.ui_field_behaviour)

    def ack(self, queue_id: str, *, acks: Any = (), retries: Any = ()) -> AckResult:
        """
        Settle leases: ``POST …/messages/ack``, at most 100 leases a request.

        A lease is a string, a ``Message``, a ``Lease``, a mapping with ``lease_id`` or a tuple of lease ID and delay,
        as :func:`~airflow_provider_cfqueues.arguments.parse_leases` says. A retry without a delay waits the consumer's
        ``retry_delay``; delays are 0 to 86,400 seconds, fractions are rounded up. A lease given twice is settled once.
        In both lists, it is retried, never acked. Twice among the retries, its last delay counts. Without leases, no
        request is made and the counts are zero. Repeating is harmless, so every failure that may pass is repeated. If
        an earlier try was carried out, the API may not confirm its leases again (``repeated`` is True then).

        :param queue_id: ID of the queue.
        :param acks: leases of messages that are done.
        :param retries: leases of messages to deliver again, each with an optional ``delay_seconds``.
        :return: what the API reported; ``unconfirmed`` lists the leases that it did not confirm.
        :raises CloudflareQueuesError: a request failed for good; ``progress`` has the leases that are settled, unknown
            and not settled.
        """
        return self.run(self._ack(queue_id, acks, retries))

    async def aack(self, queue_id: str, *, acks: Any = (), retries: Any = ()) -> AckResult:
        """Async twin of :meth:`ack`."""
        return await self.arun(self._ack(queue_id, acks, retries))

    def _ack(self, queue_id: str, acks: Any, retries: Any) -> Flow[AckResult]:
        try:
            result = yield from message_flows.ack(
                arguments.parse_id(queue_id, "queue_id"),
                arguments.parse_leases(acks, "acks"),
                arguments.parse_leases(retries, "retries"),
            )
        except CloudflareQueuesError as error:
            if error.progress is not None:  # what the answered requests said must be logged, too
                self.log_messages(queue_id, error.progress.result)
                for lease_id, text in error.progress.result.warnings.items():
                    self.log.warning("Lease %s: %s", shorten_lease(lease_id), text)
            raise
        self.log_messages(queue_id, result)
        return result

    def log_messages(self, queue_id: str, result: AckResult) -> None:
        """
        Log what the API said beside the counts.

        :param queue_id: ID of the queue.
        :param result: its answer.
        """
        for message in result.messages:
            self.log.info("The API says of queue %s: %s", self.name_of(queue_id), message)

    def pull(self, queue_id: str, *, max_messages: int | str, visibility_timeout: Seconds | None = None) -> PullResult:
        """
        Lease messages: ``POST …/messages/pull``, one request for each 100 asked for, until an answer is empty.

        The first pull of a queue reads its consumer, and warns if no dead-letter queue is set: Cloudflare then deletes
        a message that was delivered ``max_retries`` times. A failed pull is repeated. If its answer was lost, the
        messages of that answer are delivered again when their leases end.

        :param queue_id: ID of the queue.
        :param max_messages: how many messages at the most.
        :param visibility_timeout: seconds that the leases last, 0.001 to 43,200 (12 hours); None = the
            consumer's setting (30 s unless changed).
        :return: the messages, a sequence; a body that cannot be decoded does not hide the others.
        :raises CloudflareQueuesError: no message could be pulled. If only a later request fails, the messages pulled
            before it are returned, with the failure as ``error`` and in the log.
        """
        return self.run(self.pull_flow(queue_id, max_messages, visibility_timeout))

    async def apull(
        self, queue_id: str, *, max_messages: int | str, visibility_timeout: Seconds | None = None
    ) -> PullResult:
        """Async twin of :meth:`pull`."""
        return await self.arun(self.pull_flow(queue_id, max_messages, visibility_timeout))

    def pull_flow(self, queue_id: str, max_messages: Any, visibility_timeout: Any) -> Flow[PullResult]:
        """Return the calls of :meth:`pull`, as a part of another flow."""
        size = arguments.parse_count(max_messages, "max_messages")
        timeout = arguments.parse_visibility_timeout(visibility_timeout)
        consumer = yield from self.get_pull_consumer_flow(queue_id)
        result = yield from message_flows.pull(queue_id, size, timeout, consumer)
        for message in result:
            if message.body_error is not None:
                self.log.warning("Message %s (its raw body is kept): %s", message.id, message.body_error)
        self.log_remarks(queue_id, result)
        if result.error is not None:
            got = counted(len(result), "message")
            self.log.warning("Pulled only %s, because a later request failed: %s", got, result.error)
        return result

    def log_remarks(self, queue_id: str, result: PullResult) -> None:
        """
        Log what was odd in the answers to a pull.

        :param queue_id: ID of the queue.
        :param result: what was pulled.
        """
        for remark in result.remarks:
            self.log.warning("Queue %s: %s", self.name_of(queue_id), remark)

    def send(
        self,
        queue_id: str,
        messages: Any,
        *,
        delay_seconds: Seconds | None = None,
        repeat_ambiguous: bool = False,
    ) -> SendResult:
        """
        Send messages: ``POST …/messages/batch``, cut at 100 messages and 256 KB a request.

        A message is a string (text), a JSON object or array, an ``OutgoingMessage``, or a mapping with ``body`` and
        optionally ``content_type`` and ``delay_seconds``. All are checked before the first is sent. The API has no
        idempotency key, so a request that may have been accepted is repeated only with ``repeat_ambiguous``.

        :param queue_id: ID of the queue.
        :param messages: the messages.
        :param delay_seconds: seconds, 0 to 86,400, before a message without its own delay can be delivered; None = the
            queue's ``delivery_delay``.
        :param repeat_ambiguous: repeat also if the messages may have been accepted. This can duplicate them.
        :raises ValueError: a message is larger than 128 KB, or malformed; nothing was sent.
        :raises CloudflareQueuesError: a request failed for good; ``progress`` has the positions of the messages that
            are sent, unknown and not sent.
        """
        return self.run(self.send_flow(queue_id, messages, delay_seconds, repeat_ambiguous=repeat_ambiguous))

    async def asend(
        self,
        queue_id: str,
        messages: Any,
        *,
        delay_seconds: Seconds | None = None,
        repeat_ambiguous: bool = False,
    ) -> SendResult:
        """Async twin of :meth:`send`."""
        return await self.arun(self.send_flow(queue_id, messages, delay_seconds, repeat_ambiguous=repeat_ambiguous))

    def send_flow(
        self, queue_id: str, messages: Any, delay: Any = None, *, repeat_ambiguous: bool = False
    ) -> Flow[SendResult]:
        """Return the calls of :meth:`send`, as a part of another flow."""
        return message_flows.send(
            arguments.parse_id(queue_id, "queue_id"),
            arguments.parse_messages(messages, delay),
            repeat_ambiguous=repeat_ambiguous,
        )

    def peek(self, queue_id: str, *, max_messages: int | str = 10) -> list[PeekedMessage]:
        """
        Look at messages without leasing them: ``POST …/messages/peek``, one request.

        The messages stay in the queue, and a peek does not count as a delivery. The API shows at most 100 messages from
        the front of the queue, and the same ones the next time. The token needs *Queues Write*. The call is in
        Cloudflare's schema since August 2026. It is not documented whether leased or delayed messages appear.

        :param queue_id: ID of the queue.
        :param max_messages: how many messages at the most, 1 to 100.
        """
        return self.run(self.peek_flow(queue_id, max_messages))

    async def apeek(self, queue_id: str, *, max_messages: int | str = 10) -> list[PeekedMessage]:
        """Async twin of :meth:`peek`."""
        return await self.arun(self.peek_flow(queue_id, max_messages))

    def peek_flow(self, queue_id: str, max_messages: Any) -> Flow[list[PeekedMessage]]:
        """Return the call of :meth:`peek`, as a part of another flow."""
        size = arguments.parse_count(max_messages, "max_messages", at_most=message_calls.MAX_MESSAGES_PER_PULL)
        return once(message_calls.peek(queue_id, size))

    def get_metrics(self, queue_id: str) -> QueueMetrics:
        """
        Return the backlog of a queue. Cloudflare calls the numbers best effort.

        :param queue_id: ID of the queue.
        """
        return self.run(self.get_metrics_flow(queue_id))

    async def aget_metrics(self, queue_id: str) -> QueueMetrics:
        """Async twin of :meth:`get_metrics`."""
        return await self.arun(self.get_metrics_flow(queue_id))

    def get_metrics_flow(self, queue_id: str) -> Flow[QueueMetrics]:
        """Return the call of :meth:`get_metrics`, as a part of another flow."""
        return once(message_calls.get_metrics(queue_id))
