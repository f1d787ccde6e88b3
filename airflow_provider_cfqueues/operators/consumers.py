"""Operators that let a queue be pulled, or no longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.exceptions import NotFoundError
from airflow_provider_cfqueues.operators.base import DeletingOperator, QueueOperator

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds


SETTINGS = ("batch_size", "consumer_max_retries", "consumer_retry_delay", "visibility_timeout", "dead_letter_queue")


class QueueEnsurePullConsumerOperator(QueueOperator):
    """
    Ensure that a queue has an HTTP pull consumer with these settings, and wait until it can be pulled.

    It creates the consumer, or changes the settings that differ. A setting that is None stays as it is, or is left to
    the API.

    A new consumer is tested with a pull: one message may be leased and given back at once, which counts as a delivery.
    If that could be its last delivery, the task waits 30 seconds instead. If delivery is paused, it does not wait. A
    Worker consumer is not replaced: the task fails.

    Returns ``{"queue_id", "consumer_id", "action", "untried", "batch_size", "consumer_max_retries",
    "consumer_retry_delay", "visibility_timeout", "dead_letter_queue"}``; ``action`` is ``created``, ``updated`` or
    ``unchanged``, and ``untried`` says why a new consumer was not tested, else it is None.

    :param batch_size: messages per pull unless the pull says otherwise, 1 to 100.
    :param consumer_max_retries: deliveries after which a message leaves the queue, 0 to 100.
    :param consumer_retry_delay: seconds before the next delivery, if a message was retried without a delay or its lease
        ended, 0 to 86,400.
    :param visibility_timeout: seconds that a lease lasts unless the pull says otherwise, up to 43,200.
    :param dead_letter_queue: NAME of the queue for messages that were delivered too often; Cloudflare creates it if it
        is not there. Without a dead-letter queue, such messages are deleted.
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, *SETTINGS)

    def __init__(
        self,
        *,
        batch_size: int | str | None = None,
        consumer_max_retries: int | str | None = None,
        consumer_retry_delay: Seconds | None = None,
        visibility_timeout: Seconds | None = None,
        dead_letter_queue: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_size = batch_size
        self.consumer_max_retries = consumer_max_retries
        self.consumer_retry_delay = consumer_retry_delay
        self.visibility_timeout = visibility_timeout
        self.dead_letter_queue = dead_letter_queue

    def execute(self, context: Context) -> dict[str, Any]:
        """Create or change the consumer where needed, and wait."""

        from airflow_provider_cfqueues import arguments

        settings = {name: getattr(self, name) for name in SETTINGS}
        arguments.parse_consumer(**settings)  # an error names what is wrong before the queue is looked up
        queue_id = self.find_queue()
        ensured = self.hook.ensure_pull_consumer(queue_id, **settings)
        self.log.info("The pull consumer of queue %s: %s", self.queue_name or queue_id, ensured.action)
        return {
            "queue_id": queue_id,
            "consumer_id": ensured.consumer.consumer_id,
            "action": ensured.action,
            "untried": ensured.untried,
            **{name: getattr(ensured.consumer, name.removeprefix("consumer_")) for name in SETTINGS},
        }


class QueueDeletePullConsumerOperator(DeletingOperator):
    """
    Remove the pull consumer of a queue. The messages stay in the queue and cannot be pulled any more.

    Use it to hand a queue over to a Worker: a queue has one consumer. Returns ``{"queue_id", "deleted"}``.

    :param if_missing: what to do if the queue has no pull consumer: ``ignore``, ``fail`` or ``skip`` (the task is
        skipped).
    """

    def _delete(self, queue_id: str) -> None:
        self.hook.delete_pull_consumer(queue_id)
        self.log.info("Removed the pull consumer of queue %s", self.queue_name or queue_id)

    def _explain_missing(self, error: NotFoundError) -> str:
        is_about_queue = error.codes or error.queue == self.queue_name
        return "" if is_about_queue else f"Queue {self.queue_name or self.queue_id} has no pull consumer"
