"""Purging a queue, and waiting until that is done."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from airflow_provider_cfqueues.arguments import read_date
from airflow_provider_cfqueues.client import message_calls, queue_calls
from airflow_provider_cfqueues.client.flow import Flow, Known, Pause
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, MalformedResponseError
from airflow_provider_cfqueues.models import PurgeStatus, QueueMetrics

SAME_MOMENT = timedelta(seconds=5)
"""How exactly the API writes when a purge began is not documented, and its clock is another than ours."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Purge:
    """
    A purge by what was there just before it; plain values, for a trigger or another try of the task.

    :param queue_id: ID of the queue.
    :param backlog_count: how many messages waited.
    :param started_before: when the purge before it began, as the API wrote it.
    :param requested_at: when it was about to be asked for, in seconds since the epoch.
    """

    queue_id: str
    backlog_count: int
    started_before: str | None
    requested_at: float

    def is_of(self, status: PurgeStatus) -> bool:
        """
        Return whether a status is that of this purge, not of the one before it.

        Two purges that start close together may have the same time. Then a purge that young counts as this one.

        :param status: what the API says of the last purge.
        """
        if status.started_at != self.started_before or status.started_at is None:
            return status.started_at is not None or status.completed
        started_at = read_date(status.started_at)
        return started_at is not None and started_at >= self._requested_at - SAME_MOMENT

    @property
    def age(self) -> timedelta:
        """How long ago it was asked for."""
        return datetime.now(timezone.utc) - self._requested_at

    @property
    def _requested_at(self) -> datetime:
        return datetime.fromtimestamp(self.requested_at, timezone.utc)


def prepare_purge(queue_id: str) -> Flow[Purge]:
    """
    Look at a queue that is about to be purged.

    :param queue_id: ID of the queue.
    """
    metrics: QueueMetrics = yield message_calls.get_metrics(queue_id)
    before: PurgeStatus = yield queue_calls.get_purge_status(queue_id)
    return Purge(
        queue_id=queue_id,
        backlog_count=metrics.backlog_count,
        started_before=before.started_at,
        requested_at=datetime.now(timezone.utc).timestamp(),
    )


def finish_purge(purge: Purge, known: Known, *, poll_interval: float, end: float) -> Flow[PurgeStatus]:
    """
    Wait until a purge is done, or the time is up; the last look is at the end.

    A look that fails for a reason that may pass is one at which the purge was not done.

    :param purge: the purge.
    :param known: what was looked up before, such as the queue's name.
    :param poll_interval: seconds between two looks; longer where the API asks for it.
    :param end: when to give up, in seconds since the epoch.
    :return: the last status; its ``error`` says why the last look failed.
    :raises CloudflareQueuesError: a look failed for a reason that does not pass.
    """
    while True:
        wait = poll_interval
        try:
            status: PurgeStatus = yield replace(queue_calls.get_purge_status(purge.queue_id), repeat=False)
            status = replace(status, completed=status.completed and purge.is_of(status))
        except CloudflareQueuesError as error:
            if not error.repeatable and not isinstance(error, MalformedResponseError):
                raise
            status = PurgeStatus(completed=False, error=error.message)
            wait = max(wait, error.retry_after or 0)
            log.warning("Could not check whether queue %s is purged: %s", known.call(purge.queue_id), error.message)
        left = end - datetime.now(timezone.utc).timestamp()
        if status.completed or left <= 0:
            return status
        yield Pause(seconds=min(wait, left))
