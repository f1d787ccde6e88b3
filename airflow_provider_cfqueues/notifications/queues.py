"""A notifier: success and failure callbacks, and deadline alerts, as messages in a queue."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues import DEFAULT_CONNECTION
from airflow_provider_cfqueues._compat import BaseNotifier

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.client.flow import Flow
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
    from airflow_provider_cfqueues.models import SendResult


class CloudflareQueuesNotifier(BaseNotifier):
    """
    Send a message to a queue: as ``on_success_callback``, ``on_failure_callback`` and the like, or at a deadline.

    Deadline alerts (Airflow 3.1 and later) run in the triggerer, without blocking it. If the answer to the request is
    lost, it sends again: two notifications are better than none.

    :param message_body: a string (sent as text) or a JSON object or array; templates in it are rendered.
    :param queue_id: ID of the queue. Exactly one of ``queue_id`` and ``queue_name`` is given.
    :param queue_name: name of the queue.
    :param delay_seconds: seconds, 0 to 86,400, before the message can be delivered; None = the queue's own delay.
    :param cloudflare_conn_id: the Airflow connection, of type ``cloudflare``.
    """

    template_fields: Sequence[str] = ("queue_id", "queue_name", "message_body", "delay_seconds", "cloudflare_conn_id")

    def __init__(
        self,
        *,
        message_body: Any,
        queue_id: str | None = None,
        queue_name: str | None = None,
        delay_seconds: float | str | None = None,
        cloudflare_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.message_body = message_body
        self.queue_id = queue_id
        self.queue_name = queue_name
        self.delay_seconds = delay_seconds
        self.cloudflare_conn_id = cloudflare_conn_id

    def notify(self, context: Context) -> None:
        """
        Send the message.

        :param context: the context of the task or DAG run.
        """

        from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

        with closing(CloudflareQueuesHook(self.cloudflare_conn_id)) as hook:
            hook.run(self._send(hook))

    async def async_notify(self, context: Context) -> None:
        """
        Send the message from the triggerer.

        :param context: the context, where Airflow gives one.
        """

        from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

        async with aclosing(CloudflareQueuesHook(self.cloudflare_conn_id)) as hook:
            await hook.arun(self._send(hook))

    def _send(self, hook: CloudflareQueuesHook) -> Flow[SendResult]:
        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues.models import OutgoingMessage

        arguments.refuse_none(self.message_body, "message_body")
        message = arguments.parse_message(OutgoingMessage(body=self.message_body), "message_body")
        queue_id = yield from hook.find_queue_flow(self.queue_id, self.queue_name)
        return (yield from hook.send_flow(queue_id, [message], self.delay_seconds, repeat_ambiguous=True))
