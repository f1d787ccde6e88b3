"""Run what is async from sync code that must stay free for signals."""

from __future__ import annotations

import gc
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.client.failures import without_frames
from airflow_provider_cfqueues.engines.processing.engine import Engine
from airflow_provider_cfqueues.engines.processing.metrics import Metrics
from airflow_provider_cfqueues.engines.processing.progress import tell_while_running
from airflow_provider_cfqueues.engines.threads import run_beside
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError

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

    If something is raised here meanwhile (a time-out, Airflow 2's SIGTERM), the engine stops and settles. The wait ends
    a second after the grace; the log names what is open then.

    :param engine: the engine.
    :param hook: the hook whose async client it uses; closed at the end.
    :param metrics: where the numbers go.
    :param log: where progress goes.
    :param during: what is kept up while it runs.
    :raises Exception: what ended the engine for good.
    """
    gc.freeze()  # what Airflow has imported stays: the collector need not look through it again and again
    try:
        run_beside(_run(engine, hook, metrics, log, during or nullcontext()), engine.stop, lambda: engine.ends_by)
    finally:
        gc.unfreeze()
        engine.name_what_is_open()
    if isinstance(engine.error, CloudflareQueuesError):
        raise without_frames(engine.error)
    if engine.error is not None:
        raise engine.error


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
