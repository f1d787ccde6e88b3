"""All operators of Cloudflare queues; those that pull and send are defined here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_cfqueues.operators.administration import (
    QueueCreateOperator,
    QueueDeleteOperator,
    QueuePauseOperator,
    QueueResumeOperator,
)
from airflow_provider_cfqueues.operators.base import QueueOperator
from airflow_provider_cfqueues.operators.consumers import (
    QueueDeletePullConsumerOperator,
    QueueEnsurePullConsumerOperator,
)
from airflow_provider_cfqueues.operators.leases import warn_of_short_leases
from airflow_provider_cfqueues.operators.process import QueueProcessOperator
from airflow_provider_cfqueues.operators.purge import QueuePurgeOperator
from airflow_provider_cfqueues.operators.redrive import QueueRedriveOperator
from airflow_provider_cfqueues.operators.runs import QueueTriggerDagRunsOperator
from airflow_provider_cfqueues.operators.settling import QueueAckOperator, QueueRetryOperator, QueueSettleOperator
from airflow_provider_cfqueues.texts import counted

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds

__all__ = [
    "QueueAckOperator",
    "QueueCreateOperator",
    "QueueDeleteOperator",
    "QueueDeletePullConsumerOperator",
    "QueueEnsurePullConsumerOperator",
    "QueuePauseOperator",
    "QueueProcessOperator",
    "QueuePullOperator",
    "QueuePurgeOperator",
    "QueueRedriveOperator",
    "QueueResumeOperator",
    "QueueRetryOperator",
    "QueueSendOperator",
    "QueueSettleOperator",
    "QueueTriggerDagRunsOperator",
]


class QueuePullOperator(QueueOperator):
    """
    Lease messages, for tasks downstream to process and settle.

    Returns a list of ``{"id", "lease_id", "body", "attempts", "timestamp", "content_type", "metadata",
    "lease_expires_at"}``: times are ISO 8601 strings, a ``bytes`` body is base64. A message whose body could not be
    decoded also has ``raw_body`` and ``body_error``.

    Choose a ``visibility_timeout`` longer than the tasks downstream need until they settle, waiting for a worker and
    retries included.

    :param max_messages: how many messages at most.
    :param visibility_timeout: seconds that the leases last, up to 43,200 (12 hours); None = the consumer's setting
        (30 s unless changed).
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "max_messages", "visibility_timeout")

    def __init__(
        self, *, max_messages: int | str = 100, visibility_timeout: Seconds | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.max_messages = max_messages
        self.visibility_timeout = visibility_timeout

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Pull the messages."""
        pulled = self.hook.pull(
            self.find_queue(),
            max_messages=self.max_messages,
            visibility_timeout=self.visibility_timeout,
        )
        backlog = pulled.backlog.backlog_count if pulled.backlog else "unknown"
        self.log.info("Pulled %s; backlog of the queue: %s", counted(len(pulled), "message"), backlog)
        warn_of_short_leases(self, [message.lease_expires_at for message in pulled])
        return [message.to_xcom() for message in pulled]


class QueueSendOperator(QueueOperator):
    """
    Send messages.

    Returns ``{"sent_count", "backlog_count"}``. The events of assets in ``outlets`` have the same two as ``extra``.

    :param messages: a list of strings (text), JSON objects or arrays, or mappings with ``body`` and optionally
        ``content_type`` (``text`` or ``json``) and ``delay_seconds``; one string or mapping is one message. Without
        messages, the task succeeds and makes no request.
    :param delay_seconds: seconds, 0 to 86,400, before a message without its own delay can be delivered; None = the
        queue's ``delivery_delay``.
    :param repeat_ambiguous: send again also if the messages may have been accepted. This can duplicate them.
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "messages", "delay_seconds")
    template_fields_renderers: ClassVar[dict[str, str]] = {"messages": "json"}

    def __init__(
        self,
        *,
        messages: Any,
        delay_seconds: Seconds | None = None,
        repeat_ambiguous: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.messages = messages
        self.delay_seconds = delay_seconds
        self.repeat_ambiguous = repeat_ambiguous

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the messages."""
        from airflow_provider_cfqueues import arguments

        messages = arguments.parse_messages(self.messages, self.delay_seconds)
        if self.messages is None:
            self.log.warning("messages is None: nothing is sent. Did a task return None, not an empty list?")
        sent = self.hook.send(self.find_queue(), messages, repeat_ambiguous=self.repeat_ambiguous) if messages else None
        backlog = sent.backlog.backlog_count if sent and sent.backlog else None
        self.log.info("Sent %s", counted(len(messages), "message"))
        counts = {"sent_count": sent.sent_count if sent else 0, "backlog_count": backlog}
        self._add_to_events(context, counts)
        return counts

    def _add_to_events(self, context: Context, counts: dict[str, Any]) -> None:
        """Let the events of the assets in ``outlets`` carry the counts; outside a task there are no events."""
        from airflow_provider_cfqueues._compat import Asset

        if (events := context.get("outlet_events")) is not None:
            for outlet in self.outlets:
                if isinstance(outlet, Asset):
                    events[outlet].extra.update(counts)
