"""Operators that pull, settle and send messages of a Cloudflare queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
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

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds
    from airflow_provider_cfqueues.delays import DelayRule
    from airflow_provider_cfqueues.models import AckResult, Lease

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

LEASES_PER_LINE = 50


class _SettlingOperator(QueueOperator):
    """
    Settles leases and reports what the API confirmed.

    :param fail_on: when the task fails: ``all`` (leases were given and none was confirmed), ``any`` (one was not
        confirmed) or ``none``.
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "fail_on")

    def __init__(self, *, fail_on: str = "all", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fail_on = fail_on

    def _settle(
        self, context: Context, *, acks: Any = None, retries: Any = None, delay: Any = None, prefix: bool = False
    ) -> dict[str, Any]:
        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues.exceptions import UnconfirmedLeasesError, list_leases
        from airflow_provider_cfqueues.models import AckResult

        if self.fail_on not in ("all", "any", "none"):
            raise ValueError(f"fail_on must be 'all', 'any' or 'none', not {self.fail_on!r}")
        to_ack = arguments.parse_leases(acks, "ack_lease_ids" if prefix else "lease_ids")
        to_retry = arguments.parse_leases(retries, "retry_lease_ids" if prefix else "lease_ids")
        to_retry = arguments.delay_leases(to_retry, delay)
        if not to_ack and not to_retry:
            if acks is None and retries is None:
                self.log.warning("lease_ids is None: nothing is settled. Did a task return None, not an empty list?")
            else:
                self.log.info("No leases were given: nothing to settle")
            return self._push(context, AckResult())
        result = self.hook.ack(self.find_queue(), acks=to_ack, retries=to_retry)
        leases = {lease.lease_id: lease for lease in [*to_ack, *to_retry]}
        self._log_result(leases, result)
        report = self._push(context, result)
        if (self.fail_on == "any" and result.unconfirmed) or (self.fail_on == "all" and not result.confirmed_count):
            raise UnconfirmedLeasesError(
                f"Leases not confirmed: {len(result.unconfirmed)} of {len(leases)}",
                details=f"Not confirmed: {list_leases(result.unconfirmed)}.",
                lease_ids=result.unconfirmed,
                conn_id=self.cloudflare_conn_id,
                queue=self.queue_id or self.queue_name,
                messages=list(result.warnings.values()),
            )
        return report

    def _push(self, context: Context, result: AckResult) -> dict[str, Any]:
        report = {"ack_count": result.ack_count, "retry_count": result.retry_count, "warnings": result.warnings}
        if "ti" in context and self.do_xcom_push:
            for key, value in report.items():
                context["ti"].xcom_push(key=key, value=value)
        return report

    def _log_result(self, leases: Mapping[str, Lease], result: AckResult) -> None:
        """Log everything that is known, before anything else can fail."""

        from airflow_provider_cfqueues.exceptions import list_leases, shorten_lease
        from airflow_provider_cfqueues.texts import counted

        acks, retries = result.ack_count, result.retry_count
        self.log.info(
            "The API counted %s and %s",
            "an unknown number of acks" if acks is None else counted(acks, "ack"),
            "an unknown number of retries" if retries is None else counted(retries, "retry", "retries"),
        )
        now = datetime.now(timezone.utc)
        for lease_id, text in result.warnings.items():
            lease = leases.get(lease_id)
            ended = lease is not None and lease.lease_expires_at is not None and lease.lease_expires_at < now
            note = " (the lease had ended before it was settled)" if ended else ""
            self.log.warning("Lease %s: %s%s", shorten_lease(lease_id), text, note)
        late = [
            lease
            for lease_id, lease in leases.items()
            if lease.lease_expires_at and lease.lease_expires_at < now and lease_id not in result.warnings
        ]
        if late:
            self.log.warning(
                "%d of %s had ended before they were settled: their messages may have been delivered again. Raise "
                "visibility_timeout on the pull",
                len(late),
                counted(len(leases), "lease"),
            )
        for start in range(0, len(result.unconfirmed), LEASES_PER_LINE):
            line = result.unconfirmed[start : start + LEASES_PER_LINE]
            self.log.warning("Leases not confirmed: %s", list_leases(line))
        if result.unconfirmed and result.repeated:
            self.log.warning("An earlier try of the request got no answer: it may have settled these leases")


class QueueAckOperator(_SettlingOperator):
    """
    Ack messages: they are done and leave the queue.

    Returns ``{"ack_count", "retry_count", "warnings"}``, and pushes each of the three as a separate XCom. A count
    that the API did not report is None.

    :param lease_ids: the leases, as XCom holds them: lease IDs or messages of :class:`QueuePullOperator`, one or a
        list, lists of lists, the output of a mapped task, or a string that a template rendered to. Without leases, the
        task succeeds and makes no request.
    """

    template_fields: Sequence[str] = (*_SettlingOperator.template_fields, "lease_ids")
    template_fields_renderers: ClassVar[dict[str, str]] = {"lease_ids": "json"}

    def __init__(self, *, lease_ids: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lease_ids = lease_ids

    def execute(self, context: Context) -> dict[str, Any]:
        """Ack the leases."""
        return self._settle(context, acks=self.lease_ids)


class QueueRetryOperator(_SettlingOperator):
    """
    Give messages back: they are delivered again, now or after a delay.

    It does what you say, even at a message's last delivery. Cloudflare then moves the message to the consumer's
    dead-letter queue, or deletes it if there is none.

    Returns and pushes the same as :class:`QueueAckOperator`.

    :param lease_ids: as for :class:`QueueAckOperator`.
    :param delay_seconds: seconds from 0 to 86,400 until the messages are delivered again, or a rule for each message,
        such as :class:`~airflow_provider_cfqueues.delays.ExponentialDelay`. None = the consumer's ``retry_delay``. A
        lease with its own delay keeps it.
    """

    template_fields: Sequence[str] = (*_SettlingOperator.template_fields, "lease_ids", "delay_seconds")
    template_fields_renderers: ClassVar[dict[str, str]] = {"lease_ids": "json"}

    def __init__(self, *, lease_ids: Any, delay_seconds: Seconds | DelayRule | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lease_ids = lease_ids
        self.delay_seconds = delay_seconds

    def execute(self, context: Context) -> dict[str, Any]:
        """Give the leases back."""
        return self._settle(context, retries=self.lease_ids, delay=self.delay_seconds)


class QueueSettleOperator(_SettlingOperator):
    """
    Ack some messages and give others back, in as few requests as possible.

    Returns and pushes the same as :class:`QueueAckOperator`. A lease in both lists is retried. Like
    :class:`QueueRetryOperator`, it gives a message back even at its last delivery.

    :param ack_lease_ids: leases of messages that are done, as for :class:`QueueAckOperator`.
    :param retry_lease_ids: leases of messages to deliver again, as for :class:`QueueAckOperator`.
    :param delay_seconds: for the retries, as for :class:`QueueRetryOperator`.
    """

    template_fields: Sequence[str] = (
        *_SettlingOperator.template_fields,
        "ack_lease_ids",
        "retry_lease_ids",
        "delay_seconds",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"ack_lease_ids": "json", "retry_lease_ids": "json"}

    def __init__(
        self,
        *,
        ack_lease_ids: Any = None,
        retry_lease_ids: Any = None,
        delay_seconds: Seconds | DelayRule | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ack_lease_ids = ack_lease_ids
        self.retry_lease_ids = retry_lease_ids
        self.delay_seconds = delay_seconds

    def execute(self, context: Context) -> dict[str, Any]:
        """Settle the leases."""
        return self._settle(
            context,
            acks=self.ack_lease_ids,
            retries=self.retry_lease_ids,
            delay=self.delay_seconds,
            prefix=True,
        )


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
        from airflow_provider_cfqueues.texts import counted

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
        from airflow_provider_cfqueues.texts import counted

        messages = arguments.parse_messages(self.messages, self.delay_seconds)
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
