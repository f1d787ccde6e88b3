"""
What a run tells Airflow's metrics, each with the tag ``queue``.

- counters ``cloudflare_queues.pulled``, ``.acked``, ``.retried``, ``.rejected``, ``.expired``, ``.unconfirmed``,
  ``.acked_from_journal``
- gauge ``cloudflare_queues.backlog``
- timer ``cloudflare_queues.request`` with the further tag ``call`` (``pull``, ``ack``, ``dead_letter``)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from airflow_provider_cfqueues._compat import Stats
from airflow_provider_cfqueues.processing.report import Report

COUNTERS = ("pulled", "acked", "retried", "rejected", "expired", "unconfirmed", "acked_from_journal")


class Metrics:
    """
    Sends the metrics of one queue.

    :param queue_id: ID of the queue, for the tag.
    """

    def __init__(self, queue_id: str) -> None:
        self._tags = {"queue": queue_id}
        self._sent: Counter[str] = Counter()

    def send(self, report: Report) -> None:
        """
        Send what happened since the last time.

        :param report: the numbers so far.
        """
        for name in COUNTERS:
            count = getattr(report, name) - self._sent[name]
            if count:
                Stats.incr(f"cloudflare_queues.{name}", count, tags=self._tags)
                self._sent[name] += count
        if report.backlog is not None:
            Stats.gauge("cloudflare_queues.backlog", report.backlog, tags=self._tags)

    @contextmanager
    def timed(self, call: str) -> Iterator[None]:
        """
        Time a request, failed ones included.

        :param call: its name, for the tag.
        """
        began = time.monotonic()
        try:
            yield
        finally:
            took = timedelta(seconds=time.monotonic() - began)
            Stats.timing("cloudflare_queues.request", took, tags={**self._tags, "call": call})
