"""Operators that create, delete, pause and resume queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.exceptions import AlreadyExistsError, NotFoundError
from airflow_provider_cfqueues.operators.base import DeletingOperator, QueueOperator
from airflow_provider_cfqueues.operators.consumers import (
    QueueEnsurePullConsumerOperator as QueueEnsurePullConsumerOperator,  # its earlier path
)

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds
    from airflow_provider_cfqueues.models import Queue

NO_ACCOUNT = 7003
"""The API's code if the account does not exist: then nothing is known about the queue."""


class QueueCreateOperator(QueueOperator):
    """
    Create a queue; :class:`QueueEnsurePullConsumerOperator` makes it one that can be pulled.

    Returns ``{"queue_id", "queue_name", "created", "updated", "settings"}``. If the answer to the create request is
    lost, a queue no older than the request counts as created by it.

    :param queue_name: its name, unique in the account.
    :param delivery_delay: seconds that a message waits unless it says otherwise, 0 to 86,400.
    :param message_retention_period: seconds, 60 to 1,209,600 (14 days), after which a message is deleted.
    :param if_exists: what to do if there is a queue of this name: ``ignore`` (take it as it is, and warn if its
        settings differ), ``update`` (give it these settings), ``fail`` or ``skip`` (the task is skipped).
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
        from airflow_provider_cfqueues._compat import AirflowSkipException

        arguments.parse_choice(self.if_exists, "if_exists", ("ignore", "update", "fail", "skip"))
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
        """Return the existing queue, and whether it was changed."""
        queue = self.hook.get_queue(self.hook.get_queue_id(name))
        others = {key: queue.settings.get(key) for key, value in wanted.items() if queue.settings.get(key) != value}
        if others and self.if_exists == "update":
            self.log.info("Queue %s exists already; its settings are changed: %s became %s", name, others, wanted)
            return self.hook.update_queue(queue.queue_id, **wanted), True
        if others:
            self.log.warning(
                "Queue %s exists already, but these settings differ from the arguments: %s. To change them, set "
                "if_exists='update'",
                name,
                others,
            )
        else:
            self.log.info("Queue %s exists already", name)
        return queue, False


class QueueDeleteOperator(DeletingOperator):
    """
    Delete a queue with all its messages.

    Returns ``{"queue_id", "deleted"}``. The ID is None if there is no queue of this name.

    :param if_missing: what to do if there is no such queue: ``ignore``, ``fail`` or ``skip`` (the task is skipped).
    """

    def _delete(self, queue_id: str) -> None:
        self.hook.delete_queue(queue_id)
        self.log.info("Deleted queue %s", self.queue_name or queue_id)

    def _explain_missing(self, error: NotFoundError) -> str:
        return "" if NO_ACCOUNT in error.codes else f"There is no queue {self.queue_name or self.queue_id}"


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
