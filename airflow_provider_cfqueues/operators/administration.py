"""Operators that manage queues: create, delete, pause, resume, and make a queue one that can be pulled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues._compat import AirflowSkipException
from airflow_provider_cfqueues.operators.base import QueueOperator

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds
    from airflow_provider_cfqueues.models import Queue

NO_ACCOUNT = 7003
"""The code of a path whose account does not exist: that says nothing about the queue."""


class QueueCreateOperator(QueueOperator):
    """
    Create a queue; :class:`QueueEnsurePullConsumerOperator` makes it one that can be pulled.

    Returns ``{"queue_id", "queue_name", "created", "updated", "settings"}``. A creation whose answer was lost counts as
    one where the queue that is found then is not older.

    :param queue_name: its name, unique in the account.
    :param delivery_delay: seconds that a message waits unless it says otherwise, 0 to 86,400.
    :param message_retention_period: seconds, 60 to 1,209,600 (14 days), after which a message is deleted.
    :param if_exists: what to do where a queue of this name is there: ``ignore`` (take it as it is, and warn where its
        settings are others), ``update`` (give it the settings that are wanted), ``fail`` or ``skip`` (the task is
        skipped).
    """

    template_fields: Sequence[str] = (
        *QueueOperator.template_fields,
        "delivery_delay",
        "message_retention_period",
        "if_exists",
    )

    def __init__(
        self,
        *,
        queue_name: str,
        delivery_delay: Seconds | None = None,
        message_retention_period: Seconds | None = None,
        if_exists: str = "ignore",
        **kwargs: Any,
    ) -> None:
        super().__init__(queue_name=queue_name, **kwargs)
        self.delivery_delay = delivery_delay
        self.message_retention_period = message_retention_period
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        """Create the queue."""

        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues.exceptions import AlreadyExistsError

        _check_choice("if_exists", self.if_exists, ("ignore", "update", "fail", "skip"))
        if self.queue_id:
            raise ValueError("QueueCreateOperator takes no queue_id: Cloudflare chooses it")
        name = arguments.parse_name(self.queue_name)
        wanted = arguments.parse_queue_settings(
            delivery_delay=self.delivery_delay, message_retention_period=self.message_retention_period
        )
        created = updated = False
        try:
            queue = self.hook.create_queue(name, **wanted)
            created = True
            self.log.info("Created queue %s with the ID %s", queue.queue_name, queue.queue_id)
        except AlreadyExistsError as error:
            if self.if_exists == "fail":
                raise
            if self.if_exists == "skip":
                raise AirflowSkipException(f"Queue {name} exists already") from error
            queue, updated = self._take(name, wanted)
        self.show_queue(queue.queue_id)
        return {
            "queue_id": queue.queue_id,
            "queue_name": queue.queue_name,
            "created": created,
            "updated": updated,
            "settings": dict(queue.settings),
        }

    def _take(self, name: str, wanted: Mapping[str, Any]) -> tuple[Queue, bool]:
        """Return the queue that is there, and whether it was changed."""
        queue = self.hook.get_queue(self.hook.get_queue_id(name))
        others = {key: queue.settings.get(key) for key, value in wanted.items() if queue.settings.get(key) != value}
        if others and self.if_exists == "update":
            self.log.info("Queue %s exists already; its settings are changed: %s became %s", name, others, wanted)
            return self.hook.update_queue(queue.queue_id, **wanted), True
        if others:
            self.log.warning("Queue %s exists already, with other settings than wanted: %s", name, others)
        else:
            self.log.info("Queue %s exists already", name)
        return queue, False


class QueueDeleteOperator(QueueOperator):
    """
    Delete a queue with all its messages.

    Returns ``{"queue_id", "deleted"}``; the ID is None where a queue given by name is not there.

    :param if_missing: what to do where the queue is not there: ``ignore``, ``fail`` or ``skip`` (the task is skipped).
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "if_missing")

    def __init__(self, *, if_missing: str = "ignore", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.if_missing = if_missing

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete the queue."""

        from airflow_provider_cfqueues.exceptions import NotFoundError

        _check_choice("if_missing", self.if_missing, ("ignore", "fail", "skip"))
        queue_id = self.queue_id
        try:
            queue_id = self.find_queue()
            self.hook.delete_queue(queue_id)
        except NotFoundError as error:
            if self.if_missing == "fail" or NO_ACCOUNT in error.codes:
                raise
            if self.if_missing == "skip":
                raise AirflowSkipException(f"There is no queue {self.queue_name or queue_id}") from error
            self.log.info("There is no queue %s: nothing to delete", self.queue_name or queue_id)
            return {"queue_id": queue_id, "deleted": False}
        self.log.info("Deleted queue %s", self.queue_name or queue_id)
        return {"queue_id": queue_id, "deleted": True}


class QueueEnsurePullConsumerOperator(QueueOperator):
    """
    See to it that a queue has an HTTP pull consumer with the wanted settings, and wait until it can be pulled.

    A consumer that is not there is created, one with other settings is changed; what is None stays as it is, or is
    left to the API. A new consumer is tried out by pulling: one message may be leased and given back at once, which
    counts as one of its deliveries. Where that could be its last, the consumer is given 30 seconds instead; where
    delivery is paused, nothing is waited for. A Worker consumer is not replaced: the task fails.

    Returns ``{"queue_id", "consumer_id", "action", "untried", "batch_size", "consumer_max_retries",
    "consumer_retry_delay", "visibility_timeout", "dead_letter_queue"}``; ``action`` is ``created``, ``updated`` or
    ``unchanged``, and ``untried`` says why a new consumer could not be tried out, else it is None.

    :param batch_size: messages per pull unless the pull says otherwise, 1 to 100.
    :param consumer_max_retries: deliveries after which a message leaves the queue, 0 to 100.
    :param consumer_retry_delay: seconds that a retry waits unless it says otherwise, 0 to 86,400.
    :param visibility_timeout: seconds that a lease lasts unless the pull says otherwise, up to 43,200.
    :param dead_letter_queue: NAME of the queue for messages that were delivered too often; Cloudflare creates it if it
        is not there. Without one, such messages are deleted.
    """

    template_fields: Sequence[str] = (
        *QueueOperator.template_fields,
        "batch_size",
        "consumer_max_retries",
        "consumer_retry_delay",
        "visibility_timeout",
        "dead_letter_queue",
    )

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

        wanted = arguments.parse_consumer(
            batch_size=self.batch_size,
            max_retries=self.consumer_max_retries,
            retry_delay=self.consumer_retry_delay,
            visibility_timeout=self.visibility_timeout,
            dead_letter_queue=self.dead_letter_queue,
            prefix="consumer_",
        )
        queue_id = self.find_queue()
        ensured = self.hook.ensure_pull_consumer(
            queue_id,
            batch_size=wanted.batch_size,
            max_retries=wanted.max_retries,
            retry_delay=wanted.retry_delay,
            visibility_timeout=wanted.visibility_timeout,
            dead_letter_queue=wanted.dead_letter_queue,
        )
        consumer = ensured.consumer
        self.log.info("The pull consumer of queue %s: %s", self.queue_name or queue_id, ensured.action)
        return {
            "queue_id": queue_id,
            "consumer_id": consumer.consumer_id,
            "action": ensured.action,
            "untried": ensured.untried,
            "batch_size": consumer.batch_size,
            "consumer_max_retries": consumer.max_retries,
            "consumer_retry_delay": consumer.retry_delay,
            "visibility_timeout": consumer.visibility_timeout,
            "dead_letter_queue": consumer.dead_letter_queue,
        }


class QueuePauseOperator(QueueOperator):
    """
    Pause the delivery of a queue: pulls fail until it is resumed; sending and settling go on.

    Returns ``{"queue_id", "queue_name", "delivery_paused"}``. A queue that is paused already stays so.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Pause the delivery."""
        return _describe_delivery(self.hook.pause_delivery(self.find_queue()))


class QueueResumeOperator(QueueOperator):
    """
    Resume the delivery of a queue.

    Returns the same as :class:`QueuePauseOperator`. A queue that is not paused stays so.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Resume the delivery."""
        return _describe_delivery(self.hook.resume_delivery(self.find_queue()))


def _describe_delivery(queue: Queue) -> dict[str, Any]:
    return {
        "queue_id": queue.queue_id,
        "queue_name": queue.queue_name,
        "delivery_paused": bool(queue.settings.get("delivery_paused")),
    }


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, not {value!r}")
