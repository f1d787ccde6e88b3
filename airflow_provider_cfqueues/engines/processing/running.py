"""Run the engine beside the task's thread, which must stay free for signals, and log its progress."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from contextlib import nullcontext

from airflow_provider_cfqueues.client.failures import without_frames
from airflow_provider_cfqueues.engines.processing.engine import Engine
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.settlement import Kind
from airflow_provider_cfqueues.engines.threads import run_beside
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.telemetry.metrics import count
from airflow_provider_cfqueues.texts import counted, per_second

INTERVAL_SECONDS = 10
COUNTED = (Kind.REJECTED, Kind.RENEWED, Kind.EXPIRED, Kind.ACKED_FROM_JOURNAL)


class Metrics:
    """What Airflow's metrics get of a queue's handlers; what requests do is counted where they are made."""

    def __init__(self, queue_id: str) -> None:
        self._queue_id = queue_id
        self._sent: Counter[str] = Counter()

    def send(self, report: Report) -> None:
        """Send what happened since the last time."""
        so_far = {"handled": report.handled, "failed": report.failed}
        so_far |= {kind.value: report.fates[kind] for kind in COUNTED}
        for name, number in so_far.items():
            count(name, number - self._sent[name], queue=self._queue_id)
            self._sent[name] = number


def run_in_thread(engine: Engine) -> None:
    """
    Run an engine beside this thread, until it is done.

    If something is raised here meanwhile (a time-out, Airflow 2's SIGTERM), the engine stops and settles. The wait ends
    a second after the grace; the log names what is open then.

    :raises Exception: what ended the engine for good.
    """
    gc.freeze()  # what Airflow has imported stays: the collector need not look through it again and again
    try:
        run_beside(_run(engine), engine.stop, engine.ends_by)
    finally:
        gc.unfreeze()
        engine.name_what_is_open()
    if (error := engine.state.error) is not None:
        raise without_frames(error) if isinstance(error, CloudflareQueuesError) else error


async def _run(engine: Engine) -> None:
    queue, journal = engine.state.queue, engine.journal
    metrics = Metrics(queue.queue_id)
    telling = asyncio.create_task(_tell_progress(engine, metrics))
    try:
        async with nullcontext() if journal is None else journal.kept(queue, engine.report):
            await engine.run()
    finally:
        telling.cancel()
        metrics.send(engine.report)
        await queue.hook.aclose()


async def _tell_progress(engine: Engine, metrics: Metrics) -> None:
    """Log a line and send metrics every few seconds: how many are handled, how fast, and how long it may take."""
    report, handled, pulled, settled, active = engine.report, 0, 0, 0, 0.0
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        metrics.send(report)
        engine.failures.tell()
        new, seconds = report.handled - handled, report.activity.seconds - active
        settles, is_fresh = report.settled > settled, report.pulled > pulled
        handled, pulled, settled, active = report.handled, report.pulled, report.settled, report.activity.seconds
        to_do = report.backlog if new and settles and is_fresh else None
        left = f", about {to_do * seconds / new:.0f} s left" if to_do else ""
        unsettled = 0 if settles else engine.count_unsettled()
        engine.state.log.info(
            "Handled %s%s%s%s; backlog: %s%s",
            counted(report.handled, "message"),
            f" ({per_second(new, seconds)})" if new else "",
            f", {report.failed or 'none'} failed" if report.handled else "",
            f"; {unsettled} {'is' if unsettled == 1 else 'are'} not confirmed yet" if unsettled else "",
            "unknown" if report.backlog is None else report.backlog,
            left,
        )
