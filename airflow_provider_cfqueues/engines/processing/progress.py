"""What people see of a run in the log: a line every few seconds, and a table at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from airflow_provider_cfqueues.engines.processing.engine import Engine
from airflow_provider_cfqueues.engines.processing.metrics import Metrics
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.settlement import Kind
from airflow_provider_cfqueues.texts import counted

INTERVAL_SECONDS = 10


@asynccontextmanager
async def tell_while_running(log: Any, engine: Engine, metrics: Metrics) -> AsyncIterator[None]:
    """
    Log a line and send metrics every few seconds: how many are handled, how fast, how many wait, how long it may take.

    :param log: where to.
    :param engine: the engine that runs meanwhile.
    :param metrics: where the numbers go as well.
    """
    task = asyncio.get_running_loop().create_task(_tell_progress(log, engine, metrics))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        metrics.send(engine.report)


async def _tell_progress(log: Any, engine: Engine, metrics: Metrics) -> None:
    report, before = engine.report, 0
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        metrics.send(report)
        engine.failures.tell()
        rate = (report.handled - before) / INTERVAL_SECONDS
        before = report.handled
        left = f", about {report.backlog / rate:.0f} s left" if report.backlog and rate else ""
        backlog = "unknown" if report.backlog is None else report.backlog
        if not rate and (unsettled := engine.count_unsettled()):
            left = f"; the API has not confirmed {unsettled} of them yet"
        log.info(
            "Handled %s (%.0f/s), %d failed; backlog: %s%s",
            counted(report.handled, "message"),
            rate,
            report.failed,
            backlog,
            left,
        )


def log_report(log: Any, report: Report, options: Options) -> None:
    """
    Log what became of the messages, as a table.

    :param log: where to.
    :param report: the numbers.
    :param options: how the run was done.
    """
    rows = {
        "pulled": report.pulled,
        "handled": f"{report.handled} in {report.active_seconds:.1f} s ({report.rate:.0f}/s)",
        "failed": report.failed,
        "acked": report.fates[Kind.ACKED],
        "retried": report.fates[Kind.RETRIED],
        "rejected": report.fates[Kind.REJECTED],
        "renewed": report.fates[Kind.RENEWED],
        "expired before their turn": report.fates[Kind.EXPIRED],
        "at what may be their last delivery": report.exhausted,
        "not confirmed": report.fates[Kind.UNCONFIRMED],
        "handled before (journal)": report.fates[Kind.ACKED_FROM_JOURNAL],
        "attempts": ", ".join(f"{count} at delivery {n}" for n, count in sorted(report.attempts.items())) or "-",
    }
    if report.handled:
        left = f"{max(0, report.closest):.0%} of {options.visibility_timeout:g} s"
        rows["shortest lease left"] = f"{left}; {counted(report.late, 'message')} outran it" if report.late else left
    width = max(map(len, rows))
    log.info(
        "What became of the messages:\n%s", "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())
    )
