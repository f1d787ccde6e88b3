"""
The only I/O: carry calls to the API and answers back, sync on ``requests``, async on ``httpx``.

Both clients share everything but the carrying: what a call is, how an answer is read and what may be repeated is
decided in :mod:`~airflow_provider_cfqueues.protocol`, how long to wait in :class:`RepeatPolicy`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

import httpx
import requests
import tenacity
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from airflow_provider_cfqueues import __version__
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, TransportError
from airflow_provider_cfqueues.flows import Flow, once
from airflow_provider_cfqueues.protocol import Answer, Call
from airflow_provider_cfqueues.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
MAX_CONNECTIONS = 100
"""All of them are kept alive: opening one anew costs more than a request."""


@dataclass(frozen=True, kw_only=True)
class RepeatPolicy:
    """
    How long a failed call is repeated, and how long to wait in between.

    :param max_seconds: no repeat begins later than this after the first try.
    :param first_wait: seconds of the first wait; it doubles with each.
    :param max_wait: where the doubling ends.
    :param jitter: up to how many seconds are added to each wait at random.
    :param max_retry_after: a longer ``Retry-After`` is not waited for: the error carries it instead.
    """

    max_seconds: float = 60
    first_wait: float = 0.5
    max_wait: float = 8
    jitter: float = 1
    max_retry_after: float = 30

    def options(self, call: Call[Any], conn_id: str) -> dict[str, Any]:
        """
        Return the arguments for tenacity's ``Retrying`` and ``AsyncRetrying``.

        :param call: the call to repeat.
        :param conn_id: the connection, for the log.
        """
        backoff = tenacity.wait_exponential(self.first_wait, max=self.max_wait) + tenacity.wait_random(0, self.jitter)

        def may_repeat(error: BaseException) -> bool:
            return (
                isinstance(error, CloudflareQueuesError)
                and call.may_repeat(error)
                and (error.retry_after or 0) <= self.max_retry_after
            )

        def wait(state: tenacity.RetryCallState) -> float:
            asked: float | None = getattr(_error_of(state), "retry_after", None)
            return backoff(state) if asked is None else asked

        def log_repeat(state: tenacity.RetryCallState) -> None:
            log.warning(
                "Connection %r: trying again in %.1f s (try %d): %s",
                conn_id,
                state.upcoming_sleep,
                state.attempt_number + 1,
                getattr(_error_of(state), "message", ""),
            )

        return {
            "retry": tenacity.retry_if_exception(may_repeat),
            "wait": wait,
            "stop": tenacity.stop_before_delay(self.max_seconds),
            "before_sleep": log_repeat,
            "reraise": True,
        }


def _error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _headers(settings: Settings) -> dict[str, str]:
    return {
        **settings.credentials.headers(),
        "User-Agent": f"airflow-provider-cfqueues/{__version__}",
        "Accept": "application/json",
        "Content-Type": "application/json",
    }


def _content(call: Call[Any]) -> bytes | None:
    if call.payload is None:
        return None
    return json.dumps(call.payload, separators=(",", ":"), allow_nan=False).encode()


def _no_answer(call: Call[Any], error: Exception, *, connected: bool) -> TransportError:
    cause = getattr(error.args[0] if error.args else None, "reason", error)  # of requests' nest, the innermost
    failed = TransportError(f"Could not {call.name}: {type(cause).__name__}: {cause}", queue=call.queue)
    failed.maybe_applied = connected
    return failed


class Client:
    """
    Carries calls over one ``requests.Session``: keep-alive, time-outs, no redirects.

    :param settings: the checked connection.
    :param policy: how long failures are repeated.
    :param sleep: waits between repeats.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        policy: RepeatPolicy | None = None,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        self.settings = settings
        self._policy = policy or RepeatPolicy()
        self._sleep = sleep
        self._session = requests.Session()
        self._session.trust_env = not settings.is_loopback
        # As auth, not as headers of the session: a .netrc would replace them.
        self._session.auth = self._authenticate

    def _authenticate(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(_headers(self.settings))
        return request

    def run(self, flow: Flow[T]) -> T:
        """
        Drive a flow to its result.

        :param flow: the flow.
        :raises CloudflareQueuesError: what the flow did not handle.
        """
        try:
            call = next(flow)
            while True:
                try:
                    result = self._repeat(call)
                except CloudflareQueuesError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except CloudflareQueuesError as error:
            error.conn_id = self.settings.conn_id
            raise

    def call(self, call: Call[T]) -> T:
        """
        Make one call, repeated as the policy says.

        :param call: the call.
        :raises CloudflareQueuesError: it failed for good.
        """
        return self.run(once(call))

    def _repeat(self, call: Call[T]) -> T:
        retrying = tenacity.Retrying(sleep=self._sleep, **self._policy.options(call, self.settings.conn_id))
        return retrying(lambda: call.read_answer(self._carry(call)))

    def _carry(self, call: Call[Any]) -> Answer:
        sent_at = datetime.now(timezone.utc)
        try:
            response = self._session.request(
                call.method,
                self.settings.url(call.path),
                params=dict(call.params),
                data=_content(call),
                timeout=(CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise _no_answer(call, error, connected=not _never_connected(error)) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(status=response.status_code, headers=headers, content=response.content, sent_at=sent_at)

    def close(self) -> None:
        """Close the session's connections."""
        self._session.close()


def _never_connected(error: requests.RequestException) -> bool:
    """Tell a connect that failed from a connection that broke: requests has one class for both."""
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.SSLError, requests.exceptions.ProxyError)):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, (NewConnectionError, ConnectTimeoutError))


class AsyncClient:
    """
    Carries calls over one ``httpx.AsyncClient``: the same as :class:`Client`, awaited.

    :param settings: the checked connection.
    :param policy: how long failures are repeated.
    :param sleep: waits between repeats.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        policy: RepeatPolicy | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.settings = settings
        self._policy = policy or RepeatPolicy()
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            auth=self._authenticate,
            timeout=httpx.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            follow_redirects=False,
            trust_env=not settings.is_loopback,
        )

    def _authenticate(self, request: httpx.Request) -> httpx.Request:
        request.headers.update(_headers(self.settings))
        return request

    async def run(self, flow: Flow[T]) -> T:
        """
        Drive a flow to its result.

        :param flow: the flow.
        :raises CloudflareQueuesError: what the flow did not handle.
        """
        try:
            call = next(flow)
            while True:
                try:
                    result = await self._repeat(call)
                except CloudflareQueuesError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except CloudflareQueuesError as error:
            error.conn_id = self.settings.conn_id
            raise

    async def call(self, call: Call[T]) -> T:
        """
        Make one call, repeated as the policy says.

        :param call: the call.
        :raises CloudflareQueuesError: it failed for good.
        """
        return await self.run(once(call))

    async def _repeat(self, call: Call[T]) -> T:
        async def once_carried() -> T:
            return call.read_answer(await self._carry(call))

        retrying = tenacity.AsyncRetrying(sleep=self._sleep, **self._policy.options(call, self.settings.conn_id))
        return await retrying(once_carried)

    async def _carry(self, call: Call[Any]) -> Answer:
        sent_at = datetime.now(timezone.utc)
        try:
            response = await self._client.request(
                call.method, self.settings.url(call.path), params=dict(call.params), content=_content(call)
            )
        except httpx.HTTPError as error:
            connected = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
            raise _no_answer(call, error, connected=connected) from error
        return Answer(status=response.status_code, headers=response.headers, content=response.content, sent_at=sent_at)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
