"""What a run tells Airflow's metrics of handlers; what requests do is counted where they are made."""

from __future__ import annotations

from collections import Counter

from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.settlement import Kind
from airflow_provider_cfqueues.telemetry.metrics import count

COUNTED = (Kind.REJECTED, Kind.RENEWED, Kind.EXPIRED, Kind.ACKED_FROM_JOURNAL)


class Metrics:
    """
    Sends the metrics of one queue.

    :param queue_id: ID of the queue, for the tag.
    """

    def __init__(self, queue_id: str) -> None:
        self._queue_id = queue_id
        self._sent: Counter[str] = Counter()

    def send(self, report: Report) -> None:
        """
        Send what happened since the last time.

        :param report: the numbers so far.
        """
        so_far = {"handled": report.handled, "failed": report.failed}
        so_far |= {kind.value: report.fates[kind] for kind in COUNTED}
        for name, number in so_far.items():
            count(name, number - self._sent[name], queue=self._queue_id)
            self._sent[name] = number
