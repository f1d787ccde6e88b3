"""What the parts of one run share: its options, its results so far, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_provider_cfqueues.engines.course import Course
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.texts import to_reason

MAX_ERROR = 5_000
"""Characters of an error in the log: one that lists a hundred leases is shown whole."""


class RunState:
    """
    One run.

    :param now: tells the time that leases are compared with.
    """

    def __init__(self, queue: HookQueue, options: Options, now: Callable[[], datetime], log: Any) -> None:
        self.queue = queue
        self.options = options
        self.now = now
        self.log = log
        self.situation = replace(queue.situation, is_dry_run=options.dry_run)
        self.report = Report()
        self.course = Course(options.grace)
        self.error: Exception | None = None

    def fail(self, error: BaseException) -> None:
        """Note what failed for good, and stop. What is no Exception comes from a task that a handler did not await."""
        if not isinstance(error, Exception):
            error = RuntimeError(f"An error was raised outside the handlers: {to_reason(error)}")
        if isinstance(error, CloudflareQueuesError):
            error.progress = None  # of one request; the run names what is open itself
        if self.error is None:
            self.error = error
            self.log.error("Processing stops: %s", to_reason(error, MAX_ERROR))
        self.course.is_stopping = True
        self.course.notify()
