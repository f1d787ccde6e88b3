"""Carry calls on asyncio: ``h11`` says what the bytes mean; connections are kept alive, the last one is used first."""

from __future__ import annotations

import asyncio
import base64
import select
import ssl
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import h11

from airflow_provider_cfqueues.client.answers import MAX_ANSWER_BYTES, Answer, TooLarge
from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.client.environment import Network, Proxy
from airflow_provider_cfqueues.client.failures import CONNECT_TIMEOUT_SECONDS, TooSlow, no_answer
from airflow_provider_cfqueues.client.settings import Settings

FAILURES = (TooLarge, TooSlow, h11.ProtocolError, OSError, ValueError)
"""How an exchange fails."""
MAX_CONNECTIONS = 100
MAX_HEADER_BYTES = 100_000
MAX_HEADS = 100
"""Heads of requests that are kept, as h11 checks each line of them: a task makes the same pull and ack all the time."""
HAPPY_EYEBALLS_SECONDS = 0.25
"""RFC 8305: how long an address may take before the next one is tried beside it."""


class AsyncHttp:
    """
    Carries calls over as many connections as there are calls at the same time, at most a hundred.

    :param settings: the checked connection.
    :param network: how the API is reached.
    :param timeout: seconds that an answer may take.
    """

    def __init__(self, settings: Settings, network: Network, timeout: float) -> None:
        self._settings = settings
        self._network = network
        self._timeout = timeout
        self._url = urlsplit(settings.base_url)
        self._tls = network.tls if self._url.scheme == "https" else None
        self._headers = [("Host", self._url.netloc), *settings.headers().items()]
        self._head = lru_cache(MAX_HEADS)(self._make_head)
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()

    async def carry(self, call: Call[Any]) -> Answer:
        """
        Send a request and return its answer.

        :param call: what is asked.
        :raises CloudflareQueuesError: no answer came that can be used.
        """
        async with self._slots:
            connection = await self._take(call)
            try:
                content = call.content() or b""
                query = f"?{urlencode(call.params)}" if call.params else ""
                request = partial(self._head, call.method, f"{call.path}{query}", len(content))
                return await connection.exchange(request, content, timeout=self._timeout)
            except FAILURES as error:
                raise no_answer(call, self._settings, self._network, error, connected=True) from error
            finally:
                self._give_back(connection)

    async def aclose(self) -> None:
        """Close the connections."""
        for connection in self._open:
            connection.close()
        await asyncio.sleep(0)  # asyncio closes a socket in the next round of the loop

    def _make_head(self, method: str, path: str, size: int) -> h11.Request:
        url = urlsplit(self._settings.url(path))
        target = f"{url.path}?{url.query}" if url.query else url.path
        headers = [*self._headers, ("Content-Length", str(size))]
        return h11.Request(method=method, target=target, headers=headers)

    async def _take(self, call: Call[Any]) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            self._discard(connection)
        try:
            return await asyncio.wait_for(self._connect(), CONNECT_TIMEOUT_SECONDS)
        except (*FAILURES, asyncio.TimeoutError) as error:
            late = TimeoutError(f"no connection within {CONNECT_TIMEOUT_SECONDS} s")
            why = late if isinstance(error, asyncio.TimeoutError) else error
            raise no_answer(call, self._settings, self._network, why, connected=False) from error

    def _give_back(self, connection: Connection) -> None:
        if connection.is_usable():
            self._idle.append(connection)
        else:
            self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)

    async def _connect(self) -> Connection:
        host, port = self._url.hostname or "", self._url.port or (443 if self._tls else 80)
        proxy = self._network.proxy
        if proxy is None:
            return await self._reach(host, port, self._tls)
        connection = await self._reach(proxy.host, proxy.port, self._tls if proxy.is_tls else None)
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            await connection.tunnel(partial(_connect_request, target, proxy))
            await connection.start_tls(self._network.tls, host)
        except BaseException:
            self._discard(connection)
            raise
        return connection

    async def _reach(self, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, host, port, ssl=tls, happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS
        )
        self._open.add(connection)
        return connection


def _connect_request(target: str, proxy: Proxy) -> h11.Request:
    headers = [("Host", target)]
    if proxy.credentials is not None:
        headers.append(("Proxy-Authorization", f"Basic {base64.b64encode(proxy.credentials.encode()).decode()}"))
    return h11.Request(method="CONNECT", target=target, headers=headers)


class Connection(asyncio.Protocol):
    """One connection, for one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._http = _http()
        self._answer: asyncio.Future[h11.Response] | None = None
        self._head: h11.Response | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._has_heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self._transport = transport

    def is_usable(self) -> bool:
        """Return whether a request can be sent: the last one is over, and nothing has come since, as an end would."""
        if self._transport.is_closing() or self._http.our_state is not h11.IDLE:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        self._transport.abort()

    async def exchange(self, request: Callable[[], h11.Request], content: bytes = b"", *, timeout: float) -> Answer:
        """
        Send a request and return what comes back.

        :param request: makes its head; as a local variable, that would show the credentials to an error tracker.
        :param content: its body.
        :param timeout: seconds that the answer may take.
        :raises TooLarge: more came than the API sends.
        :raises TooSlow: it was not complete in time.
        :raises OSError: the connection broke, or nothing came in time.
        """
        self._answer = self._loop.create_future()
        self._head, self._pieces, self._size, self._has_heard = None, [], 0, False
        sent_at = datetime.now(timezone.utc)
        timer = self._loop.call_later(timeout, self._time_out)
        try:
            rest = (h11.Data(data=content), h11.EndOfMessage())
            self._transport.writelines([self._http.send(request()), *(self._http.send(event) or b"" for event in rest)])
            head = await self._answer
        except BaseException:
            self.close()
            raise
        finally:
            self._answer = None
            timer.cancel()
        is_over = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if is_over and not self._http.trailing_data[0]:  # what follows an answer would be taken for the next one
            self._http.start_next_cycle()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        return Answer(status=head.status_code, headers=headers, content=b"".join(self._pieces), sent_at=sent_at)

    async def tunnel(self, request: Callable[[], h11.Request]) -> None:
        """
        Let a proxy connect to the API.

        :param request: makes the request.
        :raises OSError: it refuses.
        """
        answer = await self.exchange(request, timeout=CONNECT_TIMEOUT_SECONDS)
        if not 200 <= answer.status < 300:
            raise ConnectionRefusedError(f"the proxy answers HTTP {answer.status}")

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """
        Begin to encrypt, behind a proxy that has let us through.

        :param context: what to trust.
        :param host: the name that the certificate must have.
        """
        self._http = _http()
        self._transport = await self._loop.start_tls(self._transport, self, context, server_hostname=host)

    # -- called by asyncio ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take in what arrived."""
        self._has_heard = True
        self._take_in(data)

    def eof_received(self) -> None:
        """Take in that nothing more will arrive; the transport closes itself."""
        if self._head is None:
            self._fail(ConnectionResetError("the connection was closed without an answer"))
        self._take_in(b"")

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is under way."""
        self._fail(error or ConnectionResetError("the connection was closed"))

    def _take_in(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # nobody asked
            return
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._take_piece(event.data)
                elif isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:  # a proxy lets us through: no body
                    assert self._head is not None  # noqa: S101 - h11 gives it before any other event
                    self._answer.set_result(self._head)
                    break
        except (h11.ProtocolError, TooLarge) as error:
            self._fail(error)

    def _take_piece(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_ANSWER_BYTES:
            raise TooLarge
        self._pieces.append(piece)

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _time_out(self) -> None:
        self._fail(TooSlow() if self._has_heard else TimeoutError("nothing arrived in time"))


def _http() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
