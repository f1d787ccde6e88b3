"""Carry calls on ``requests``: keep-alive, time-outs, a largest answer, no redirects."""

from __future__ import annotations

import http.client
import io
import socket
import time
from datetime import datetime, timezone
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationValueError, NewConnectionError, ProtocolError

from airflow_provider_cfqueues.client.answers import MAX_ANSWER_BYTES, Answer, TooLarge
from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.client.environment import Network
from airflow_provider_cfqueues.client.failures import CONNECT_TIMEOUT_SECONDS, TooSlow, no_answer
from airflow_provider_cfqueues.client.settings import Settings

_PIECE_BYTES = 1_000_000


class SyncHttp:
    """
    Carries calls over one ``requests.Session``.

    :param settings: the checked connection.
    :param network: how the API is reached.
    :param timeout: seconds that an answer may take.
    """

    def __init__(self, settings: Settings, network: Network, timeout: float) -> None:
        self._settings = settings
        self._network = network
        self._timeout = timeout
        self._session = _Session()
        self._session.trust_env = False  # the environment is read for both clients, in one place
        self._session.headers.update(settings.headers())
        self._session.mount(settings.base_url, _Adapter())
        if network.proxy is not None:
            self._session.proxies = {"https": network.proxy.url}
        if network.certificates is not None:
            self._session.verify = network.certificates

    async def carry(self, call: Call[Any]) -> Answer:
        """
        Send a request and return its answer. It blocks, and is a coroutine only as that of the async client is one.

        :param call: what is asked.
        :raises CloudflareQueuesError: no answer came that can be used.
        """
        sent_at = datetime.now(timezone.utc)
        try:
            with self._session.request(
                call.method,
                self._settings.url(call.path),
                params=dict(call.params),
                data=call.content(),
                timeout=(CONNECT_TIMEOUT_SECONDS, self._timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _read(response.raw)
        except (requests.RequestException, HTTPError, TooLarge, TooSlow, OSError, ValueError) as error:
            if isinstance(error, requests.RequestException):
                error.request = None  # its headers hold the credentials
            connected = not _never_connected(error)
            raise no_answer(call, self._settings, self._network, error, connected=connected) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(status=response.status_code, headers=headers, content=content, sent_at=sent_at)

    def close(self) -> None:
        """Close the session's connections."""
        self._session.close()


def _read(raw: Any) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := raw.read(_PIECE_BYTES, decode_content=False):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise TooLarge
    return b"".join(pieces)


def _never_connected(error: Exception) -> bool:
    """Tell a connect that failed from a connection that broke: requests has one class for both."""
    if isinstance(error, requests.exceptions.SSLError):
        return "CERTIFICATE_VERIFY_FAILED" in str(error)  # any other TLS failure can come after the request
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.ProxyError, LocationValueError)):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, (NewConnectionError, ConnectTimeoutError))


class _Session(requests.Session):
    """A session that does not even look at redirects: a malformed one must not fail before its status is read."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


# A time-out of requests is one of each read, so an answer that trickles would never end. The reader below, which the
# standard library's client gets its bytes from, has one for the whole answer.


class _TimedReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, connection: socket.socket) -> None:
        self._raw = raw
        self._connection = connection
        self._ends_at = time.monotonic() + (connection.gettimeout() or 0)
        self._has_read = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._connection.settimeout(max(0.001, self._ends_at - time.monotonic()))
        try:
            size = self._raw.readinto(buffer)
        except TimeoutError:
            if self._has_read:
                raise TooSlow from None
            raise
        self._has_read = True
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock))


class _Named:
    """What urllib3's errors call it."""

    host: Any
    port: Any

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class _TimedConnection(_Named, HTTPConnection):
    response_class = _TimedResponse


class _TimedTlsConnection(_Named, HTTPSConnection):
    response_class = _TimedResponse

    def getresponse(self) -> Any:
        """Return the answer. urllib3 takes a connection that breaks here for a proxy that was never reached."""
        try:
            return super().getresponse()
        except ConnectionError as error:
            raise ProtocolError("Connection aborted.", error) from error


class _Pool(_Named, HTTPConnectionPool):
    ConnectionCls = _TimedConnection


class _TlsPool(_Named, HTTPSConnectionPool):
    ConnectionCls = _TimedTlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        _use_timed_connections(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        _use_timed_connections(manager)
        return manager


def _use_timed_connections(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
