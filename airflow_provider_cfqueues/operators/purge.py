"""Delete all messages of a queue."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues import arguments
from airflow_provider_cfqueues._compat import conf
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.operators.base import QueueOperator

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context

SECONDS_FOR_THE_TRIGGER = 60
"""How much longer than asked Airflow waits for a trigger, which ends by itself."""


class QueuePurgeOperator(QueueOperator):
    """
    Delete ALL messages of a queue, delayed ones included, and wait until that is done.

    Messages that are leased meanwhile may still be processed. Returns ``{"queue_id", "backlog_count", "started_at",
    "completed"}``: how many messages waited before (best effort by the API's own account), when the purge began as the
    API writes it, and whether it is done.

    :param wait_for_completion: wait until the API says that the purge is done.
    :param poll_interval: seconds between two looks.
    :param completion_timeout: seconds after which the task fails; the purge goes on.
    :param deferrable: wait in the triggerer; the default is Airflow's ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "poll_interval", "completion_timeout")

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        poll_interval: float | str = 5,
        completion_timeout: float | str = 600,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_completion = wait_for_completion
        self.poll_interval = poll_interval
        self.completion_timeout = completion_timeout
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        """Purge the queue."""
        from airflow_provider_cfqueues.triggers.purging import QueuePurgeTrigger, is_done

        interval = arguments.parse_number(self.poll_interval, "poll_interval")
        timeout = arguments.parse_number(self.completion_timeout, "completion_timeout")
        queue_id = self.find_queue()
        backlog = self.hook.get_metrics(queue_id).backlog_count
        before = self.hook.get_purge_status(queue_id)
        self.hook.purge(queue_id)
        self.log.info("Purging queue %s: about %s messages waited", self.queue_name or queue_id, backlog)
        report = {"queue_id": queue_id, "backlog_count": backlog}
        status = self.hook.get_purge_status(queue_id)
        if is_done(status, before.started_at) or not self.wait_for_completion:
            return {**report, "started_at": status.started_at, "completed": is_done(status, before.started_at)}
        end = time.time() + timeout
        if self.deferrable:
            self.defer(
                trigger=QueuePurgeTrigger(
                    queue_id=queue_id,
                    backlog_count=backlog,
                    cloudflare_conn_id=self.cloudflare_conn_id,
                    started_before=before.started_at,
                    poll_interval=interval,
                    end=end,
                ),
                method_name="execute_complete",
                timeout=timedelta(seconds=timeout + SECONDS_FOR_THE_TRIGGER),
            )
        while not is_done(status, before.started_at):
            if time.time() >= end:
                raise self._too_late(queue_id)
            time.sleep(interval)
            status = self.hook.get_purge_status(queue_id)
        return {**report, "started_at": status.started_at, "completed": True}

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the report once the trigger saw the purge done, or raise what it met.

        :param context: the task's context.
        :param event: the trigger's event.
        """
        if "error" in event:
            raise CloudflareQueuesError.from_dict(event["error"])
        if not event["completed"]:
            raise self._too_late(event["queue_id"])
        return dict(event)

    def _too_late(self, queue_id: str) -> TimeoutError:
        return TimeoutError(
            f"The purge of queue {queue_id} is not done after {self.completion_timeout} s (completion_timeout); it "
            f"goes on at Cloudflare. Connection {self.cloudflare_conn_id!r}"
        )
