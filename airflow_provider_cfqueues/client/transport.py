"""
The clients: they drive flows and repeat failed calls, sync and async.

Both share everything but the carrying (:mod:`~airflow_provider_cfqueues.client.sync_http` and
:mod:`~airflow_provider_cfqueues.client.async_http`): what a call is and how an answer is read is decided in
:mod:`~airflow_provider_cfqueues.client.call`, what is repeated in :mod:`~airflow_provider_cfqueues.client.repeating`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias, TypeVar

from airflow_provider_cfqueues.client.async_http import AsyncHttp
from airflow_provider_cfqueues.client.call import Call, Exchange
from airflow_provider_cfqueues.client.environment import Network, read_environment
from airflow_provider_cfqueues.client.failures import without_frames
from airflow_provider_cfqueues.client.flow import Flow, Pause
from airflow_provider_cfqueues.client.repeating import RepeatPolicy, Told, Tries
from airflow_provider_cfqueues.client.settings import Settings
from airflow_provider_cfqueues.client.sync_http import SyncHttp
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, MalformedResponseError, ResponseTooSlowError

__all__ = ["AsyncClient", "Client", "RepeatPolicy"]

T = TypeVar("T")
Observe: TypeAlias = Callable[[Call[Any]], AbstractContextManager[Exchange]]


class _BaseClient:
    """
    What both clients are. It is written for asyncio; what the sync client awaits are a carrier and a sleep that block.

    :param settings: the checked connection.
    :param network: how the API is reached; None = as the environment says.
    :param policy: how long failures are repeated.
    :param sleep: waits between repeats; None = until the time has passed.
    :param observe: is entered around each request.
    :raises ConfigurationError: the environment names a proxy or certificates that cannot be used.
    """

    _carrier: ClassVar[type[Any]]
    _sleep: Callable[[float], Awaitable[None]]

    def __init__(
        self,
        settings: Settings,
        *,
        network: Network | None = None,
        policy: RepeatPolicy | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        observe: Observe = lambda call: nullcontext(Exchange()),
    ) -> None:
        self.settings = settings
        self._policy = policy or RepeatPolicy()
        self._observe = observe
        self._told = Told()
        self._http = self._carrier(settings, network or read_environment(settings), self._policy.answer_timeout)
        if sleep is not None:
            self._sleep = sleep

    def _tries(self, call: Call[T]) -> Tries[T]:
        return Tries(self._policy, call, self.settings, self._told)

    async def _drive(self, flow: Flow[T], *, patient: bool = False) -> T:
        try:
            step = next(flow)
            while True:
                try:
                    result = await (
                        self._sleep(step.seconds) if isinstance(step, Pause) else self._repeat(step, patient)
                    )
                except CloudflareQueuesError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except CloudflareQueuesError as error:
            error.add(conn_id=self.settings.conn_id)
            raise without_frames(error) from error.__cause__

    async def _repeat(self, call: Call[T], patient: bool) -> T:
        if patient:
            call = replace(call, repeat_also=(*call.repeat_also, MalformedResponseError, ResponseTooSlowError))
        tries = self._tries(call)

        async def one_try() -> T:
            tries.raise_first()
            with self._observe(call) as exchange:
                exchange.answer = await self._http.carry(call)
                exchange.result = result = await tries.reading(exchange.answer)
            return result

        try:
            return await one_try()
        except CloudflareQueuesError as error:
            retrying = tries.failed(error, self._sleep)
        return await retrying(one_try)


async def _block(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - no event loop runs it


class Client(_BaseClient):
    """Makes calls over ``requests``. Its coroutines block, so no event loop is needed to run them."""

    _carrier = SyncHttp
    _sleep = staticmethod(_block)

    def run(self, flow: Flow[T]) -> T:
        """
        Drive a flow to its result.

        :param flow: the flow.
        :raises CloudflareQueuesError: what the flow did not handle.
        """
        return _finish(self._drive(flow))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncClient(_BaseClient):
    """Makes calls over asyncio: the same as :class:`Client`, awaited."""

    _carrier = AsyncHttp
    _sleep = staticmethod(asyncio.sleep)

    async def run(self, flow: Flow[T], *, patient: bool = False) -> T:
        """
        Drive a flow to its result.

        :param flow: the flow.
        :param patient: repeat calls also after an answer that is not what the API sends, or that took too long. A task
            that runs for hours waits until that passes; a single call fails at once.
        :raises CloudflareQueuesError: what the flow did not handle.
        """
        return await self._drive(flow, patient=patient)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that blocks where others wait."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
