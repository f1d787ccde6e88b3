"""Delete all messages of a queue."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues._compat import conf
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, PurgeTimeoutError
from airflow_provider_cfqueues.operators.base import QueueOperator

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds
    from airflow_provider_cfqueues.client.purging import Purge
    from airflow_provider_cfqueues.engines.processing.journal import Store
    from airflow_provider_cfqueues.models import PurgeStatus

MIN_POLL_INTERVAL = 1
"""The API takes 1,200 calls in five minutes from a user: this is a quarter of them."""
SECONDS_FOR_THE_TRIGGER = 120
"""How many more seconds Airflow waits for the trigger, which ends at the timeout by itself."""
REMEMBERED = timedelta(days=1)
"""How long a failed task that is run again waits for the purge of its earlier try, rather than purge again."""
FORGETFUL = (
    "The purge was asked for, and this Airflow is older than 3.3: another try of the task would purge again, and "
    "delete what was sent since"
)


class QueuePurgeOperator(QueueOperator):
    """
    Delete ALL messages of a queue, delayed ones included, and wait until that is done.

    Messages that are leased may still be processed. Returns ``{"queue_id", "backlog_count", "started_at",
    "completed"}``: how many messages waited before (best effort), when the purge started, as the API writes it, and
    whether it is done.

    If a look fails for a reason that may pass (connection errors, HTTP 408, 429, 5xx), it looks again. On Airflow 3.3,
    the next try of the task waits for the purge of the earlier one, for a day, and deletes nothing that was sent since.
    Before 3.3, EACH TRY PURGES: set ``retries=0`` if messages may come meanwhile.

    :param wait_for_completion: wait until the API says that the purge is done.
    :param poll_interval: seconds between two looks, at least 1.
    :param completion_timeout: seconds after which the task fails with a PurgeTimeoutError; the purge goes on.
    :param deferrable: wait in the triggerer; the default is Airflow's ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "poll_interval", "completion_timeout")

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        poll_interval: Seconds = 5,
        completion_timeout: Seconds = 600,
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

        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues.triggers.purging import QueuePurgeTrigger

        interval = arguments.parse_seconds(self.poll_interval, "poll_interval", at_least=MIN_POLL_INTERVAL)
        timeout = arguments.parse_seconds(self.completion_timeout, "completion_timeout")
        purge = self._begin(context, self.find_queue())
        waits_here = self.wait_for_completion and not self.deferrable
        end = time.time() + timeout
        try:
            status = self.hook.finish_purge(purge, poll_interval=interval, end=end if waits_here else 0)
        except CloudflareQueuesError as error:
            self._explain(context, error)
            raise
        if self.wait_for_completion and self.deferrable and not status.completed:
            self.defer(
                trigger=QueuePurgeTrigger(
                    cloudflare_conn_id=self.cloudflare_conn_id,
                    queue_name=self.queue_name,
                    poke_interval=interval,
                    max_poke_interval=interval,
                    end=end,
                    **asdict(purge),
                ),
                method_name="execute_complete",
                timeout=timedelta(seconds=timeout + SECONDS_FOR_THE_TRIGGER),
            )
        return self._report(context, purge, status)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the report once the trigger saw that the purge is done, or raise the trigger's error.

        :param context: the task's context.
        :param event: the trigger's event.
        """

        from airflow_provider_cfqueues.client.purging import Purge
        from airflow_provider_cfqueues.models import PurgeStatus

        if "error" in event:
            error = CloudflareQueuesError.from_dict(event["error"])
            self._explain(context, error)
            raise error
        return self._report(context, Purge(**event["purge"]), PurgeStatus(**event["status"]))

    def _begin(self, context: Context, queue_id: str) -> Purge:
        """Purge, unless an earlier try of the task has done so."""
        store: Store | None = context.get("task_state_store")
        earlier = _remember(store, queue_id)
        if earlier is not None and earlier.is_of(self.hook.get_purge_status(queue_id)):
            self.log.info(
                "An earlier try of this task asked for the purge %.0f s ago: waiting for that one, not purging again",
                earlier.age.total_seconds(),
            )
            return earlier
        purge = self.hook.prepare_purge(queue_id)
        if store is not None:
            store.set(_key(queue_id), asdict(purge), retention=REMEMBERED)
        try:
            self.hook.purge(queue_id)
        except CloudflareQueuesError as error:
            if not error.maybe_applied:
                raise
            if not purge.is_of(self.hook.get_purge_status(queue_id)):
                self._explain(context, error)
                raise
            self.log.warning("The purge has started, although its answer was lost: %s", error.message)
        self.log.info("Purging queue %s: about %s messages waited", self.queue_name or queue_id, purge.backlog_count)
        return purge

    def _report(self, context: Context, purge: Purge, status: PurgeStatus) -> dict[str, Any]:
        if self.wait_for_completion and not status.completed:
            looked = f". The last look failed: {status.error}" if status.error else ""
            raise PurgeTimeoutError(
                f"The purge is not done {purge.age.total_seconds():.0f} s after it was asked for (completion_timeout "
                f"is {self.completion_timeout} s); it goes on at Cloudflare{looked}",
                queue=purge.queue_id,
                queue_name=self.queue_name,
                conn_id=self.cloudflare_conn_id,
            )
        store: Store | None = context.get("task_state_store")
        if store is not None:
            store.delete(_key(purge.queue_id))
        return {
            "queue_id": purge.queue_id,
            "backlog_count": purge.backlog_count,
            "started_at": status.started_at,
            "completed": status.completed,
        }

    def _explain(self, context: Context, error: CloudflareQueuesError) -> None:
        """Say what another try of the task would do, if this Airflow cannot remember the purge."""
        if context.get("task_state_store") is None:
            error.add(FORGETFUL)


def _remember(store: Store | None, queue_id: str) -> Purge | None:
    """Return the purge that an earlier try of the task was about to ask for."""

    from airflow_provider_cfqueues.client.purging import Purge

    noted = store.get(_key(queue_id)) if store is not None else None
    if noted is None:
        return None
    purge = Purge(**noted)
    return purge if purge.age < REMEMBERED else None


def _key(queue_id: str) -> str:
    return f"cloudflare_queue_purge_{queue_id}"
