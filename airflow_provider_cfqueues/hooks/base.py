"""From an Airflow connection to a client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from airflow_provider_cfqueues import DEFAULT_CONNECTION
from airflow_provider_cfqueues._compat import BaseHook, get_hook_lineage_collector, mask_secret
from airflow_provider_cfqueues.client import lookup
from airflow_provider_cfqueues.client.environment import Network, read_environment
from airflow_provider_cfqueues.client.flow import Known
from airflow_provider_cfqueues.client.settings import Hidden, Settings, parse_settings
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, NotFoundError
from airflow_provider_cfqueues.telemetry.lineage import Traffic
from airflow_provider_cfqueues.telemetry.metrics import Telemetry

if TYPE_CHECKING:
    from airflow_provider_cfqueues.client.flow import Flow
    from airflow_provider_cfqueues.client.transport import AsyncClient, Client, RepeatPolicy

T = TypeVar("T")


class CloudflareBaseHook(BaseHook):
    """
    The connection and its test, and a sync and an async client of it.

    :param cloudflare_conn_id: the Airflow connection, of type ``cloudflare``.
    """

    conn_name_attr = "cloudflare_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = "cloudflare"
    hook_name = "Cloudflare"
    repeat_policy: RepeatPolicy | None = None
    """How long failed calls are repeated; None = for up to a minute."""

    def __init__(self, cloudflare_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.cloudflare_conn_id = cloudflare_conn_id
        self._client: Client | None = None
        self._async_client: AsyncClient | None = None
        self._async_loop: asyncio.AbstractEventLoop | None = None
        self._preparing: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._known = Known()
        self.warned_of: set[str] = set()  # IDs of queues whose consumer was looked at
        self.traffic = Traffic(self, self._known)
        self._lock = threading.Lock()

    def get_conn(self) -> Client:
        """
        Return the sync client: one session with keep-alive for the hook's life.

        :raises ConfigurationError: the connection cannot be used as it is.
        """
        with self._lock:
            if self._client is None:
                from airflow_provider_cfqueues.client.transport import Client

                settings, network, telemetry = self._prepare(needs_tls=False)
                self._client = Client(settings, network=network, policy=self.repeat_policy, observe=telemetry.request)
            return self._client

    async def aget_conn(self) -> AsyncClient:
        """
        Return the async client: one per hook and event loop.

        :raises ConfigurationError: the connection cannot be used as it is.
        """
        loop = asyncio.get_running_loop()
        if self._async_client is None or self._async_loop is not loop:
            async with self._preparing.setdefault(loop, asyncio.Lock()):  # once for all who come meanwhile
                if self._async_client is None or self._async_loop is not loop:
                    settings, network, telemetry = await sync_to_async(self._prepare)(needs_tls=True)
                    from airflow_provider_cfqueues.client.transport import AsyncClient

                    self._async_client = AsyncClient(
                        settings, network=network, policy=self.repeat_policy, observe=telemetry.request
                    )
                    self._async_loop = loop
        return self._async_client

    def get_queue_url(self, queue_id: str) -> str | None:
        """
        Return where the Cloudflare dashboard shows a queue; None where the API is not Cloudflare's, as an emulator.

        :param queue_id: ID of the queue.
        :raises ConfigurationError: the connection cannot be used as it is.
        """
        settings = self.get_conn().settings
        if not settings.is_cloudflare:
            return None
        return f"https://dash.cloudflare.com/{settings.account_id}/workers/queues/view/{queue_id}"

    def _prepare(self, *, needs_tls: bool) -> tuple[Settings, Network, Telemetry]:
        """Do what takes long outside the event loop: load HTTP libraries, certificates and Airflow's plugins."""
        from airflow_provider_cfqueues.client import transport  # noqa: F401 - to load it

        settings = self._settings()
        get_hook_lineage_collector()
        telemetry = Telemetry(settings=settings, moved=partial(self.traffic.add, settings.account_id))
        network = read_environment(settings)
        if needs_tls and not settings.is_loopback:
            network.tls  # noqa: B018 - made here once
        return settings, network, telemetry

    def _settings(self) -> Settings:
        return parse_settings(self.cloudflare_conn_id, **self._read_connection())

    def _read_connection(self) -> dict[str, Any]:
        """Return the fields of the connection, with the secrets masked in logs and hidden in local variables."""
        connection = self.get_connection(self.cloudflare_conn_id)
        extra = connection.extra_dejson
        if isinstance(extra, dict):
            extra = {name: _hidden(value) if name.endswith("api_key") else value for name, value in extra.items()}
        return {
            "host": connection.host,
            "login": connection.login,
            "password": _hidden(connection.password),
            "extra": extra,
        }

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

    def test_connection(self) -> tuple[bool, str]:
        """Verify the credentials and read the queue list; say in one line what works and what is missing."""
        from airflow_provider_cfqueues.client.transport import Client, RepeatPolicy

        try:
            settings = self._settings()
            client = Client(settings, policy=RepeatPolicy(max_seconds=0))  # somebody waits, and can press again
            with closing(client):
                return True, client.run(lookup.test_connection(settings.credentials))
        except CloudflareQueuesError as error:
            error.add(conn_id=None)  # a form tests a copy of the connection, whose ID means nothing to its reader
            return False, str(error)

    def run(self, flow: Flow[T]) -> T:
        """
        Drive a flow; what it fails with names the queue.

        :param flow: the flow.
        :raises CloudflareQueuesError: what the flow did not handle.
        """
        with self._naming_queues():
            return self.get_conn().run(flow)

    async def arun(self, flow: Flow[T], *, patient: bool = False) -> T:
        """
        Async twin of :meth:`run`.

        :param flow: the flow.
        :param patient: repeat calls also after an answer that is not what the API sends, or that took too long.
        """
        with self._naming_queues():
            return await (await self.aget_conn()).run(flow, patient=patient)

    def name_of(self, queue_id: str) -> str:
        """
        Return the name of a queue if it was looked up, else its ID.

        :param queue_id: ID of the queue.
        """
        return self._known.call(queue_id)

    def note_name(self, queue_id: str, name: str | None) -> None:
        """
        Note the name of a queue that was looked up elsewhere, for texts.

        :param queue_id: ID of the queue.
        :param name: its name, None where it is not known.
        """
        if name:
            self._known.queue_ids[name] = queue_id

    def log_once(self, about: str, text: str) -> None:
        """
        Log something once in the hook's life.

        :param about: the subject; a second text about the same subject is not logged.
        :param text: what to log.
        """
        if about not in self.warned_of:
            self.warned_of.add(about)
            self.log.info("%s", text)

    @contextmanager
    def _naming_queues(self) -> Iterator[None]:
        try:
            yield
        except CloudflareQueuesError as error:
            error.add(queue_name=self._known.name_of(error.queue))
            if isinstance(error, NotFoundError):
                lookup.name_argument(error, self._known)
            raise


def _hidden(value: Any) -> Any:
    if not value or not isinstance(value, str):
        return value
    mask_secret(value)
    return Hidden(value)
