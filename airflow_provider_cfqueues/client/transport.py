"""
The only I/O: carry calls to the API and answers back, sync on ``requests``, async on ``httpx``.

Both clients share everything but the carrying: what a call is, how an answer is read and what may be repeated is
decided in :mod:`~airflow_provider_cfqueues.client.call`, how long to wait in :class:`RepeatPolicy`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeAlias, TypeVar

import httpx
import requests
import tenacity
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationValueError, NewConnectionError

from airflow_provider_cfqueues import __version__
from airflow_provider_cfqueues.bodies import encode_json
from airflow_provider_cfqueues.client.call import Answer, Call, Exchange
from airflow_provider_cfqueues.client.flow import Flow, Pause, once
from airflow_provider_cfqueues.client.settings import Settings
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, ConfigurationError, TransportError

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R", requests.PreparedRequest, httpx.Request)
Observe: TypeAlias = Callable[[Call[Any]], AbstractContextManager[Exchange]]

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
TELL_SECONDS = 60
"""How often repeats for the same reason are told of."""
MAX_CONNECTIONS = 100
"""All of them are kept alive: opening one anew costs more than a request."""


@dataclass(frozen=True, kw_only=True)
class RepeatPolicy:
    """
    How long a failed call is repeated, and how long to wait in between.

    :param max_seconds: no repeat begins later than this after the first try. A try itself ends when nothing arrives for
        30 seconds.
    :param first_wait: seconds of the first wait; it doubles with each.
    :param max_wait: where the doubling ends.
    :param jitter: up to how many seconds are added to each wait at random.
    :param max_retry_after: a longer ``Retry-After`` is not waited for: the error carries it instead. A shorter one is
        waited for, but never less than without it.
    """

    max_seconds: float = 60
    first_wait: float = 0.5
    max_wait: float = 8
    jitter: float = 1
    max_retry_after: float = 30


class Told:
    """Decides which repeats are worth a line in the log: of failures that are alike, one a minute, with a count."""

    def __init__(self) -> None:
        self._last: dict[Any, float] = {}
        self._since: Counter[Any] = Counter()

    def how_often(self, failure: Any) -> int | None:
        """
        Return how many failures were not told of since the last line; None if this one is not told of either.

        :param failure: what tells failures that are alike from others.
        """
        now = time.monotonic()
        if now < self._last.get(failure, -math.inf) + TELL_SECONDS:
            self._since[failure] += 1
            return None
        self._last[failure] = now
        return self._since.pop(failure, 0)


class _Tries:
    """
    The tries of one call: whether there is to be another, after how long, and what earlier ones left open.

    It sees each failure first, so what every error of a connection has in common is written into it here.
    """

    def __init__(self, policy: RepeatPolicy, call: Call[Any], settings: Settings, told: Told | None = None) -> None:
        self.ambiguous = False
        self._told = told or Told()
        self._policy = policy
        self._call = call
        self._settings = settings
        self._backoff = tenacity.wait_exponential(policy.first_wait, max=policy.max_wait) + tenacity.wait_random(
            0, policy.jitter
        )

    def options(self) -> dict[str, Any]:
        """Return the arguments for tenacity's ``Retrying`` and ``AsyncRetrying``."""
        return {
            "retry": tenacity.retry_if_exception(self._may_repeat),
            "wait": self._wait,
            "stop": tenacity.stop_before_delay(self._policy.max_seconds),
            "before_sleep": self._log,
            "reraise": True,
        }

    def _may_repeat(self, error: BaseException) -> bool:
        if not isinstance(error, CloudflareQueuesError):
            return False
        error.conn_id = self._settings.conn_id
        error.hide(self._settings.credentials.secret)
        # A refusal of this try says nothing of an earlier one whose answer was lost.
        self.ambiguous = error.maybe_applied = self.ambiguous or error.maybe_applied
        return self._call.may_repeat(error) and (error.retry_after or 0) <= self._policy.max_retry_after

    def _wait(self, state: tenacity.RetryCallState) -> float:
        return max(self._backoff(state), getattr(_error_of(state), "retry_after", None) or 0)

    def _log(self, state: tenacity.RetryCallState) -> None:
        error = _error_of(state)
        if (before := self._told.how_often((type(error), getattr(error, "status", None)))) is not None:
            log.warning(
                "Connection %r: trying again in %.1f s (try %d)%s: %s",
                self._settings.conn_id,
                state.upcoming_sleep,
                state.attempt_number + 1,
                f", {before} more failed like this since the last line" if before else "",
                getattr(error, "message", ""),
            )


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
    return None if call.payload is None else encode_json(call.payload)


def _no_answer(call: Call[Any], settings: Settings, error: Exception, *, connected: bool) -> TransportError:
    cause = getattr(error.args[0] if error.args else None, "reason", error)  # of requests' nest, the innermost
    msg = f"Could not {call.name}: {type(cause).__name__}: {cause}"
    if settings.is_loopback and not connected:
        msg += f". Nothing answers at {settings.base_url}: is the emulator running, and is this its port?"
    failed = TransportError(msg, queue=call.queue)
    failed.maybe_applied = connected
    if isinstance(error, (requests.RequestException, httpx.HTTPError)):
        error.request = None  # its headers hold the credentials
    return failed


class _Session(requests.Session):
    """A session that does not even look at redirects: a malformed one must not fail before its status is read."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


async def _ignore_redirect(response: httpx.Response) -> None:
    response.headers.pop("location", None)


@contextmanager
def unobserved(call: Call[Any]) -> Iterator[Exchange]:
    """
    Let a request pass.

    :param call: what is asked.
    """
    yield Exchange()


class _AnyClient:
    """What both clients are made of."""

    def __init__(
        self, settings: Settings, policy: RepeatPolicy | None, sleep: Callable[[float], Any], observe: Observe
    ) -> None:
        self.settings = settings
        self._observe = observe
        self._policy = policy or RepeatPolicy()
        self._sleep = sleep
        self._told = Told()

    def _tries(self, call: Call[Any]) -> _Tries:
        return _Tries(self._policy, call, self.settings, self._told)

    def _read(self, call: Call[T], answer: Answer, tries: _Tries) -> T:
        return call.read_answer(answer, repeated=tries.ambiguous, secret=self.settings.credentials.secret)

    def _authenticate(self, request: R) -> R:
        request.headers.update(_headers(self.settings))
        return request


class Client(_AnyClient):
    """
    Carries calls over one ``requests.Session``: keep-alive, time-outs, no redirects.

    :param settings: the checked connection.
    :param policy: how long failures are repeated.
    :param sleep: waits between repeats.
    :param observe: is entered around each request.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        policy: RepeatPolicy | None = None,
        sleep: Callable[[float], Any] = time.sleep,
        observe: Observe = unobserved,
    ) -> None:
        super().__init__(settings, policy, sleep, observe)
        self._session = _Session()
        self._session.trust_env = not settings.is_loopback
        # As auth, not as headers of the session: a .netrc would replace them.
        self._session.auth = self._authenticate

    def run(self, flow: Flow[T]) -> T:
        """
        Drive a flow to its result.

        :param flow: the flow.
        :raises CloudflareQueuesError: what the flow did not handle.
        """
        try:
            step = next(flow)
            while True:
                try:
                    result = self._sleep(step.seconds) if isinstance(step, Pause) else self._repeat(step)
                except CloudflareQueuesError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
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
        tries = self._tries(call)

        def one_try() -> T:
            with self._observe(call) as exchange:
                exchange.answer = self._carry(call)
                exchange.result = result = self._read(call, exchange.answer, tries)
            return result

        return tenacity.Retrying(sleep=self._sleep, **tries.options())(one_try)

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
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise _no_answer(call, self.settings, error, connected=not _never_connected(error)) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(status=response.status_code, headers=headers, content=response.content, sent_at=sent_at)

    def close(self) -> None:
        """Close the session's connections."""
        self._session.close()


def _never_connected(error: Exception) -> bool:
    """Tell a connect that failed from a connection that broke: requests has one class for both."""
    if isinstance(error, requests.exceptions.SSLError):
        return "CERTIFICATE_VERIFY_FAILED" in str(error)  # any other TLS failure can come after the request
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.ProxyError, LocationValueError)):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, (NewConnectionError, ConnectTimeoutError))


_NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.InvalidURL)


class AsyncClient(_AnyClient):
    """
    Carries calls over ``httpx.AsyncClient``: the same as :class:`Client`, awaited.

    Each connection has an ``httpx.AsyncClient`` of its own: a shared one looks through all of its connections twice a
    request, which costs more than the request where dozens are under way. The last one used is the first used again.

    :param settings: the checked connection.
    :param policy: how long failures are repeated.
    :param sleep: waits between repeats.
    :param observe: is entered around each request.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        policy: RepeatPolicy | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        observe: Observe = unobserved,
    ) -> None:
        super().__init__(settings, policy, sleep, observe)
        library = logging.getLogger("httpx")
        if library.level == logging.NOTSET:  # it has an INFO line for each request; Airflow 3.1 and later do the same
            library.setLevel(logging.WARNING)
        self._clients: list[httpx.AsyncClient] = []
        self._idle: asyncio.LifoQueue[httpx.AsyncClient | None] = asyncio.LifoQueue()
        for _ in range(MAX_CONNECTIONS - 1):
            self._idle.put_nowait(None)  # to be opened when it is needed
        try:
            self._tls = httpx.create_ssl_context(trust_env=not settings.is_loopback)
            self._idle.put_nowait(self._open())
        except (ValueError, ImportError, OSError) as error:
            msg = f"Connection {settings.conn_id!r}: the proxy or TLS settings of the environment do not work: {error}"
            raise ConfigurationError(msg) from error

    def _open(self) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            auth=self._authenticate,
            timeout=httpx.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            limits=httpx.Limits(max_connections=1),
            follow_redirects=False,
            event_hooks={"response": [_ignore_redirect]},
            trust_env=not self.settings.is_loopback,
            verify=self._tls,
        )
        self._clients.append(client)
        return client

    async def run(self, flow: Flow[T]) -> T:
        """
        Drive a flow to its result.

        :param flow: the flow.
        :raises CloudflareQueuesError: what the flow did not handle.
        """
        try:
            step = next(flow)
            while True:
                try:
                    result = await (self._sleep(step.seconds) if isinstance(step, Pause) else self._repeat(step))
                except CloudflareQueuesError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
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
        tries = self._tries(call)

        async def one_try() -> T:
            with self._observe(call) as exchange:
                exchange.answer = await self._carry(call)
                exchange.result = result = self._read(call, exchange.answer, tries)
            return result

        return await tenacity.AsyncRetrying(sleep=self._sleep, **tries.options())(one_try)

    async def _carry(self, call: Call[Any]) -> Answer:
        client = await self._idle.get()
        try:
            client = client or self._open()
            sent_at = datetime.now(timezone.utc)
            response = await client.request(
                call.method, self.settings.url(call.path), params=call.params or None, content=_content(call)
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise _no_answer(call, self.settings, error, connected=not isinstance(error, _NEVER_CONNECTED)) from error
        finally:
            self._idle.put_nowait(client)
        return Answer(status=response.status_code, headers=response.headers, content=response.content, sent_at=sent_at)

    async def aclose(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.aclose()
