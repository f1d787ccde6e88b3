"""The hook: an Airflow connection in, Cloudflare Queues out."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async

from airflow_provider_cfqueues import api, arguments, flows
from airflow_provider_cfqueues._compat import BaseHook, get_hook_lineage_collector, mask_secret
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, shorten_lease
from airflow_provider_cfqueues.lineage import Traffic
from airflow_provider_cfqueues.provider_info import get_provider_info
from airflow_provider_cfqueues.settings import Settings, parse_settings
from airflow_provider_cfqueues.telemetry import Telemetry

if TYPE_CHECKING:
    from airflow_provider_cfqueues.clients import AsyncClient, Client
    from airflow_provider_cfqueues.flows import Flow
    from airflow_provider_cfqueues.models import AckResult, Consumer, PullResult, Queue, QueueMetrics, SendResult

T = TypeVar("T")


class CloudflareQueuesHook(BaseHook):
    """
    Pull, settle and send messages of Cloudflare Queues over their REST API.

    Each call has an async twin with an ``a`` prefix. A call that fails for a reason that may pass (connection errors,
    HTTP 408, 429, 5xx) is repeated for up to a minute, with growing random waits or as ``Retry-After`` asks; what
    repeating means is said at each call. All failures of a call are a
    :class:`~airflow_provider_cfqueues.exceptions.CloudflareQueuesError`, wrong arguments a TypeError or ValueError; a
    connection that does not exist is Airflow's own error.

    What its calls read from and wrote to queues is lineage: ``traffic`` has the numbers, and Airflow's collector of
    hook lineage gets the queues as assets.

    :param cloudflare_conn_id: the Airflow connection, of type ``cloudflare``.
    """

    conn_name_attr = "cloudflare_conn_id"
    default_conn_name = "cloudflare_default"
    conn_type = "cloudflare"
    hook_name = "Cloudflare"

    def __init__(self, cloudflare_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.cloudflare_conn_id = cloudflare_conn_id
        self._client: Client | None = None
        self._async_client: AsyncClient | None = None
        self._async_loop: asyncio.AbstractEventLoop | None = None
        self._known = flows.Known()
        self.traffic = Traffic(self, self._known)
        self._lock = threading.Lock()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form for Airflow 2.11 to 3.1."""
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import PasswordField, StringField

        def widget(field: dict[str, Any]) -> Any:
            secret = field["schema"].get("format") == "password"
            return (PasswordField if secret else StringField)(
                lazy_gettext(field["label"]),
                description=field["description"],
                widget=BS3PasswordFieldWidget() if secret else BS3TextFieldWidget(),
            )

        return {name: widget(field) for name, field in _connection_type()["conn-fields"].items()}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and placeholders of the connection form for Airflow 2.11 to 3.1."""
        behaviour = _connection_type()["ui-field-behaviour"]
        return {key.replace("-", "_"): value for key, value in behaviour.items()}

    def get_conn(self) -> Client:
        """
        Return the sync client: one session with keep-alive for the hook's life.

        :raises ConfigurationError: the connection cannot be used as it is.
        """
        with self._lock:
            if self._client is None:
                from airflow_provider_cfqueues.clients import Client

                settings, telemetry = self._observed_settings()
                self._client = Client(settings, observe=telemetry.request)
            return self._client

    async def aget_conn(self) -> AsyncClient:
        """
        Return the async client: one per hook and event loop.

        :raises ConfigurationError: the connection cannot be used as it is.
        """
        loop = asyncio.get_running_loop()
        if self._async_client is None or self._async_loop is not loop:
            from airflow_provider_cfqueues.clients import AsyncClient

            settings, telemetry = await sync_to_async(self._observed_settings)()
            if self._async_client is None or self._async_loop is not loop:  # still, after others had their turn
                self._async_client, self._async_loop = AsyncClient(settings, observe=telemetry.request), loop
        return self._async_client

    def _observed_settings(self) -> tuple[Settings, Telemetry]:
        settings = self._settings()
        get_hook_lineage_collector()  # here, where no event loop waits while the first call loads Airflow's plugins
        return settings, Telemetry(settings=settings, moved=partial(self.traffic.add, settings.account_id))

    def _settings(self) -> Settings:
        connection = self.get_connection(self.cloudflare_conn_id)
        extra = connection.extra_dejson
        for secret in (connection.password, extra.get("api_key") if isinstance(extra, dict) else None):
            if secret:
                mask_secret(secret)
        return parse_settings(
            self.cloudflare_conn_id,
            host=connection.host,
            login=connection.login,
            password=connection.password,
            extra=extra,
        )

    def close(self) -> None:
        """Close the connections of the sync client."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def aclose(self) -> None:
        """Close the connections of the async client; those of an event loop that has ended are gone already."""
        client, self._async_client = self._async_client, None
        if client is not None and self._async_loop is asyncio.get_running_loop():
            await client.aclose()

    def ack(self, queue_id: str, *, acks: Any = (), retries: Any = ()) -> AckResult:
        """
        Settle leases: ``POST …/messages/ack``, at most 100 leases a request.

        A lease is a string, a ``Message``, a ``Lease``, a mapping with ``lease_id`` or a tuple of lease ID and delay,
        as :func:`~airflow_provider_cfqueues.arguments.parse_leases` says. A retry without a delay waits the consumer's
        ``retry_delay``; delays are 0 to 86,400 seconds, fractions are rounded up. A lease given twice is settled once;
        in both lists it is retried, never acked; twice among the retries, the last delay counts. Without leases, no
        request is made and the counts are zero. Repeating is harmless, so every failure that may pass is repeated;
        where an earlier try was carried out, its leases may then be reported as not confirmed (``repeated`` says so).

        :param queue_id: ID of the queue.
        :param acks: leases of messages that are done.
        :param retries: leases of messages to deliver again, each with an optional ``delay_seconds``.
        :return: what the API reported; ``unconfirmed`` lists the leases that it did not confirm.
        :raises CloudflareQueuesError: a request failed for good; ``progress`` has the leases that are settled, unknown
            and not settled.
        """
        return self._run(self._ack(queue_id, acks, retries))

    async def aack(self, queue_id: str, *, acks: Any = (), retries: Any = ()) -> AckResult:
        """Async twin of :meth:`ack`."""
        return await self._arun(self._ack(queue_id, acks, retries))

    def _ack(self, queue_id: str, acks: Any, retries: Any) -> Flow[AckResult]:
        try:
            result = yield from flows.ack(
                arguments.parse_id(queue_id, "queue_id"),
                arguments.parse_leases(acks, "acks"),
                arguments.parse_leases(retries, "retries"),
            )
        except CloudflareQueuesError as error:
            if error.progress is not None:  # what the answered requests said must not go under with the failed one
                self._log_messages(queue_id, error.progress.result)
                for lease_id, text in error.progress.result.warnings.items():
                    self.log.warning("Lease %s: %s", shorten_lease(lease_id), text)
            raise
        self._log_messages(queue_id, result)
        return result

    def _log_messages(self, queue_id: str, result: AckResult) -> None:
        for message in result.messages:
            self.log.info("The API says of queue %s: %s", queue_id, message)

    def pull(
        self, queue_id: str, *, max_messages: int | str, visibility_timeout: float | str | None = None
    ) -> PullResult:
        """
        Lease messages: ``POST …/messages/pull``, one request for each 100 asked for, until an answer is empty.

        The first pull of a queue looks at its consumer, and warns when no dead-letter queue is set: Cloudflare then
        deletes what was delivered ``max_retries`` times. A failed pull is repeated; where its answer was lost, the
        messages of that answer stay leased until their lease ends.

        :param queue_id: ID of the queue.
        :param max_messages: how many messages at the most.
        :param visibility_timeout: seconds that the leases last, above 0 and up to 43,200 (12 hours); None = the
            consumer's setting (30 s unless changed).
        :return: the messages, a sequence; a body that cannot be decoded does not hide the others.
        :raises CloudflareQueuesError: no message could be pulled. If only a later request fails, the messages pulled
            before it are returned, with the failure as ``error`` and in the log.
        """
        return self._run(self._pull(queue_id, max_messages, visibility_timeout))

    async def apull(
        self, queue_id: str, *, max_messages: int | str, visibility_timeout: float | str | None = None
    ) -> PullResult:
        """Async twin of :meth:`pull`."""
        return await self._arun(self._pull(queue_id, max_messages, visibility_timeout))

    def _pull(self, queue_id: str, max_messages: Any, visibility_timeout: Any) -> Flow[PullResult]:
        queue_id = arguments.parse_id(queue_id, "queue_id")
        size = arguments.parse_count(max_messages, "max_messages")
        timeout = arguments.parse_visibility_timeout(visibility_timeout)
        yield from self._get_pull_consumer(queue_id)
        result = yield from flows.pull(queue_id, size, timeout, self._known)
        for message in result:
            if message.body_error is not None:
                self.log.warning("Message %s (its raw body is kept): %s", message.id, message.body_error)
        if result.without_lease:
            self.log.warning(
                "%d messages of queue %s came without a lease ID: nothing can be done with them before their next "
                "delivery",
                result.without_lease,
                queue_id,
            )
        if result.error is not None:
            self.log.warning("Pulled %d messages only, because a later request failed: %s", len(result), result.error)
        return result

    def get_pull_consumer(self, queue_id: str) -> Consumer | None:
        """
        Return the pull consumer of a queue, looked at once in the hook's life.

        A look that failed for a reason that may pass is repeated, unlike the one that comes with a pull.

        :param queue_id: ID of the queue.
        :return: None where there is none, or where the token may not look at it.
        :raises CloudflareQueuesError: it could not be looked at.
        """
        return self._run(self._get_pull_consumer(arguments.parse_id(queue_id, "queue_id"), required=True))

    async def aget_pull_consumer(self, queue_id: str) -> Consumer | None:
        """Async twin of :meth:`get_pull_consumer`."""
        return await self._arun(self._get_pull_consumer(arguments.parse_id(queue_id, "queue_id"), required=True))

    def _get_pull_consumer(self, queue_id: str, *, required: bool = False) -> Flow[Consumer | None]:
        first_look = queue_id not in self._known.consumers
        consumer = yield from flows.get_pull_consumer(queue_id, self._known, required=required)
        names = {known_id: name for name, known_id in self._known.queue_ids.items()}
        queue = names.get(queue_id, queue_id)
        if first_look and consumer is None:
            self.log.warning(
                "No pull consumer of queue %s could be looked at (there is none, or the token may not read it): "
                "whether it has a dead-letter queue is not known, and without a visibility_timeout its leases are "
                "taken to last %d s",
                queue,
                flows.DEFAULT_VISIBILITY_SECONDS,
            )
        elif first_look and consumer and consumer.dead_letter_queue is None:
            self.log.warning(
                "Queue %s has no dead-letter queue: Cloudflare DELETES a message that was delivered %s times without "
                "an ack (max_retries). Set a dead-letter queue on its HTTP pull consumer",
                queue,
                "max_retries" if consumer.max_retries is None else consumer.max_retries,
            )
        return consumer

    def send(self, queue_id: str, messages: Any, *, repeat_ambiguous: bool = False) -> SendResult:
        """
        Send messages: ``POST …/messages/batch``, cut at 100 messages and 256 KB a request.

        A message is a string (text), a JSON object or array, an ``OutgoingMessage``, or a mapping with ``body`` and
        optionally ``content_type`` and ``delay_seconds``. All are checked before the first is sent. The API has no
        idempotency key: a request that may have been accepted is repeated only when asked for.

        :param queue_id: ID of the queue.
        :param messages: the messages.
        :param repeat_ambiguous: repeat also after a failure that leaves open whether the messages were accepted; it
            can duplicate them.
        :raises ValueError: a message is larger than 128 KB, or malformed; nothing was sent.
        :raises CloudflareQueuesError: a request failed for good; ``progress`` has the positions of the messages that
            are sent, unknown and not sent.
        """
        return self._run(self._send(queue_id, messages, repeat_ambiguous))

    async def asend(self, queue_id: str, messages: Any, *, repeat_ambiguous: bool = False) -> SendResult:
        """Async twin of :meth:`send`."""
        return await self._arun(self._send(queue_id, messages, repeat_ambiguous))

    def _send(self, queue_id: str, messages: Any, repeat_ambiguous: bool) -> Flow[SendResult]:
        return flows.send(
            arguments.parse_id(queue_id, "queue_id"),
            arguments.parse_messages(messages),
            repeat_ambiguous=repeat_ambiguous,
        )

    def get_queue_id(self, name: str) -> str:
        """
        Return the ID of a queue; all pages of the list are searched, and the answer is kept for the hook's life.

        :param name: the queue's name.
        :raises NotFoundError: the account has no such queue.
        """
        return self._run(flows.get_queue_id(arguments.parse_name(name), self._known))

    async def aget_queue_id(self, name: str) -> str:
        """Async twin of :meth:`get_queue_id`."""
        return await self._arun(flows.get_queue_id(arguments.parse_name(name), self._known))

    def list_queues(self) -> list[Queue]:
        """Return all queues of the account, over all pages of the list."""
        return self._run(flows.list_queues())

    async def alist_queues(self) -> list[Queue]:
        """Async twin of :meth:`list_queues`."""
        return await self._arun(flows.list_queues())

    def get_metrics(self, queue_id: str) -> QueueMetrics:
        """
        Return the backlog of a queue, best effort by the API's own account.

        :param queue_id: ID of the queue.
        """
        return self._run(self._get_metrics(queue_id))

    async def aget_metrics(self, queue_id: str) -> QueueMetrics:
        """Async twin of :meth:`get_metrics`."""
        return await self._arun(self._get_metrics(queue_id))

    def _get_metrics(self, queue_id: str) -> Flow[QueueMetrics]:
        return flows.once(api.get_metrics(arguments.parse_id(queue_id, "queue_id")))

    def test_connection(self) -> tuple[bool, str]:
        """Verify the credentials and read the queue list; say in one line what works and what is missing."""
        from airflow_provider_cfqueues.clients import Client, RepeatPolicy

        try:
            settings = self._settings()
            client = Client(settings, policy=RepeatPolicy(max_seconds=0))  # somebody waits, and can press again
            with closing(client):
                return True, client.run(flows.test_connection(settings.credentials))
        except CloudflareQueuesError as error:
            error.conn_id = None  # a form tests a copy of the connection, under an ID that means nothing to its reader
            return False, str(error)

    def _run(self, flow: Flow[T]) -> T:
        return self.get_conn().run(flow)

    async def _arun(self, flow: Flow[T]) -> T:
        return await (await self.aget_conn()).run(flow)


def _connection_type() -> dict[str, Any]:
    connection_type: dict[str, Any] = get_provider_info()["connection-types"][0]
    return connection_type
