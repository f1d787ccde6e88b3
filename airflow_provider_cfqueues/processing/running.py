"""Run what is async from sync code that must stay free for signals."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.processing.engine import Engine
from airflow_provider_cfqueues.processing.metrics import Metrics
from airflow_provider_cfqueues.processing.progress import tell_while_running

if TYPE_CHECKING:
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook


def run_in_thread(
    engine: Engine,
    hook: CloudflareQueuesHook,
    metrics: Metrics,
    log: Any,
    *,
    during: AbstractAsyncContextManager[None] | None = None,
) -> None:
    """
    Run an engine beside this thread, until it is done.

    Whatever is raised here meanwhile (a time-out, Airflow 2's SIGTERM) stops the engine and waits for it to settle.

    :param engine: the engine.
    :param hook: the hook whose async client it uses; closed at the end.
    :param metrics: where the numbers go.
    :param log: where progress goes.
    :param during: what is kept up while it runs.
    :raises Exception: what ended the engine for good.
    """
    run_beside(_run(engine, hook, metrics, log, during or nullcontext()), engine.stop)
    if engine.error is not None:
        raise engine.error


def run_beside(work: Coroutine[Any, Any, None], stop: Callable[..., None]) -> None:
    """
    Run something async beside this thread, in an event loop of its own, until it is done.

    :param work: what to run.
    :param stop: called with ``killed=True`` where something is raised in this thread meanwhile; then its end is waited
        for.
    """
    with ThreadPoolExecutor(1, "cloudflare-queue") as pool:
        future = pool.submit(contextvars.copy_context().run, asyncio.run, work)
        try:
            future.result()
        except BaseException:
            stop(killed=True)
            raise


async def _run(
    engine: Engine,
    hook: CloudflareQueuesHook,
    metrics: Metrics,
    log: Any,
    during: AbstractAsyncContextManager[None],
) -> None:
    try:
        async with tell_while_running(log, engine, metrics), during:
            await engine.run()
    finally:
        await hook.aclose()
