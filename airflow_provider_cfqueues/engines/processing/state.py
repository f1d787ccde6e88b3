"""What the parts of one run share: its options, its results so far, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.run import Run


class RunState(Run):
    """
    A run that processes a queue.

    :param now: tells the time that leases are compared with.
    """

    def __init__(self, queue: HookQueue, options: Options, now: Callable[[], datetime], log: Any) -> None:
        self.report = Report()
        super().__init__("Processing", queue, self.report, now=now, log=log, grace=options.grace)
        self.options = options
        self.situation = replace(queue.situation, is_dry_run=options.dry_run)
