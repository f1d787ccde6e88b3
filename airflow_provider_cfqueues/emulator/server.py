"""The class ``Emulator``: uvicorn in its own thread."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn

from airflow_provider_cfqueues.emulator.app import BASE_PATH, make_app
from airflow_provider_cfqueues.emulator.clock import Clock
from airflow_provider_cfqueues.emulator.options import ACCOUNT_ID, API_TOKEN
from airflow_provider_cfqueues.emulator.service import Service
from airflow_provider_cfqueues.emulator.start import Given

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

T = TypeVar("T")
OPEN_TO_OTHERS = (
    "%s can be reached from other machines: they can read and change all queues, since /_emulator needs no "
    "credentials. Listen there only inside a container or a network of your own"
)

log = logging.getLogger(__name__)


class Emulator:
    """
    A local Cloudflare Queues that serves HTTP while its ``with`` block runs.

    :param queues: queues that exist from the start, each with an http_pull consumer, and with their dead-letter
        queues: names, or a mapping of names to ids or to settings as :meth:`create_queue` takes them. None is the
        queues of the state file, or one queue ``my-queue`` where there is nothing yet.
    :param account_id: the only account.
    :param api_token: the only token; with any e-mail address also the only API key.
    :param host: address to listen on; everybody who reaches it can use the control paths.
    :param port: port to listen on, 0 for a free one.
    :param allow_hosts: names that requests may give as ``Host``, beside ``localhost``, ``host`` and any address.
    :param state: SQLite file that keeps queues and messages, None for memory.
    :param json_encoding: how pulls show JSON bodies, ``base64`` or ``plain``.
    :param clock: what time it is.
    :param random: where ids come from.
    :param assume: what Cloudflare is assumed to do where it is not known, such as ``{"lease-end": "at-once"}``.
    :param rate_limit: how many API requests five minutes allow before all are refused for the next five; None for
        no limit.
    :param daily_operations: how many operations on messages a day allows; None for no limit.
    """

    base_url: str

    def __init__(
        self,
        *,
        queues: Given | None = None,
        account_id: str = ACCOUNT_ID,
        api_token: str = API_TOKEN,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_hosts: Iterable[str] = (),
        state: str | None = None,
        json_encoding: str = "base64",
        clock: Clock | None = None,
        random: Random | None = None,
        assume: Mapping[str, str] | None = None,
        rate_limit: int | None = None,
        daily_operations: int | None = None,
    ) -> None:
        self.account_id = account_id
        self.api_token = api_token
        self._address = (host, port)
        self._hosts = [host, *allow_hosts]
        self._options: dict[str, Any] = {
            "queues": queues,
            "account_id": account_id,
            "api_token": api_token,
            "rate_limit": rate_limit,
            "path": state or ":memory:",
            "clock": clock,
            "random": random,
            "assume": {"json-encoding": json_encoding, **(assume or {})},
            "daily_operations": daily_operations,
        }

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start serving; it accepts connections when this returns."""
        self._service = Service(**self._options)
        if not _is_loopback(self._address[0]):
            log.warning(OPEN_TO_OTHERS, self._address[0])
        try:
            listener = _listen(*self._address)
        except OSError:
            self._service.close()
            raise
        self.base_url = f"http://{_url_host(self._address[0])}:{listener.getsockname()[1]}{BASE_PATH}"
        self._server = uvicorn.Server(_config(make_app(self._service, self._hang_up, self._hosts)))
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener)), name="cfqueues-emulator", daemon=True
        )
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.001)
        if not self._server.started:
            self._service.close()
            raise RuntimeError("the emulator did not start: see the error of its thread above")

    def stop(self) -> None:
        """Stop serving; what is not in a state file is gone."""
        self._server.should_exit = True
        self._thread.join()
        self._service.close()

    @property
    def queues(self) -> dict[str, str]:
        """The id of every queue by its name."""
        return self._do(self._service.queues)

    def create_queue(self, name: str, **settings: Any) -> str:
        """
        Make a queue with an http_pull consumer and return its id.

        :param name: its name.
        :param settings: ``queue_id``, ``dead_letter_queue`` (a name) and those of a consumer: ``batch_size``,
            ``max_retries``, ``retry_delay``, ``visibility_timeout_ms``.
        """
        return self._do(self._service.create_queue, name, **settings)

    def send(self, queue_id: str, body: Any, **options: Any) -> str:
        """
        Send what the API cannot, since Workers can, and return the message's id.

        :param queue_id: id of the queue.
        :param body: a string for ``text``, base64 for ``bytes`` and ``v8``, any JSON value for ``json``.
        :param options: ``content_type`` (else ``json``), ``json_encoding``, ``metadata``, ``delay_seconds``.
        """
        return self._do(self._service.send, queue_id, body, **options)

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._do(self._service.advance, seconds)

    def add_fault(self, path: str, **rule: Any) -> None:
        """
        Make the next call of a path fail.

        :param path: last segment of the path, such as ``pull``.
        :param rule: any other key of a rule of ``POST /_emulator/faults``.
        """
        self._do(self._service.faults.add, [{"path": path, **rule}])

    def set_json_encoding(self, encoding: str) -> None:
        """Let pulls show JSON bodies sent from now on as ``base64`` or ``plain``."""
        self._do(self._service.set_json_encoding, encoding)

    def requests(self) -> list[dict[str, Any]]:
        """Return the latest calls, oldest first, without their credentials."""
        return self._do(self._service.requests)

    def state(self) -> dict[str, Any]:
        """Return every queue with its settings, what became of its messages, and those it has."""
        return self._do(self._service.state)

    def reset(self) -> None:
        """Go back to the start: its queues with their ids, real time, no messages, faults or logged calls."""
        self._do(self._service.reset)

    def _do(self, action: Callable[..., T], *args: Any, **options: Any) -> T:
        # In the thread of the server, where every call runs: so nothing here needs a lock.
        async def run() -> T:
            return action(*args, **options)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    async def _serve(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve([listener])

    def _hang_up(self, scope: Scope) -> None:
        # By its address: ASGI has no way to close a connection, and each version of uvicorn keeps these.
        for connection in set[Any](self._server.server_state.connections):
            if connection.client == scope["client"]:
                connection.transport.close()


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",  # the one that uvicorn always has, so that every machine sees the same
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Not socket.create_server: asyncio turns Nagle off, 40 ms a call, only where the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url_host(host: str) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- asked for
    return f"[{reachable}]" if ":" in reachable else reachable
