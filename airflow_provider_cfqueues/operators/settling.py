"""Operators that settle leases: ack, retry, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_cfqueues.exceptions import UnconfirmedLeasesError, list_leases, shorten_lease
from airflow_provider_cfqueues.operators.base import QueueOperator
from airflow_provider_cfqueues.texts import counted

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds
    from airflow_provider_cfqueues.delays import DelayRule
    from airflow_provider_cfqueues.models import AckResult, Lease

LEASES_PER_LINE = 50


class _SettlingOperator(QueueOperator):
    """
    Settles leases and reports what the API confirmed.

    :param fail_on: when the task fails: ``all`` (leases were given and none was confirmed), ``any`` (one was not
        confirmed) or ``none``.
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "fail_on")
    _acks: ClassVar[str] = ""
    _retries: ClassVar[str] = ""
    """The names of the arguments that hold the leases."""
    delay_seconds: Seconds | DelayRule | None = None

    def __init__(self, *, fail_on: str = "all", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fail_on = fail_on

    def execute(self, context: Context) -> dict[str, Any]:
        """Settle the leases."""
        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues.models import AckResult

        arguments.parse_choice(self.fail_on, "fail_on", ("all", "any", "none"))
        acks, retries = getattr(self, self._acks, ()), getattr(self, self._retries, ())
        to_ack = arguments.parse_leases(acks, self._acks)
        to_retry = arguments.delay_leases(arguments.parse_leases(retries, self._retries), self.delay_seconds)
        leases = {lease.lease_id: lease for lease in [*to_ack, *to_retry]}
        nones = [name for name, value in ((self._acks, acks), (self._retries, retries)) if arguments.is_none(value)]
        for name in nones:
            self.log.warning("%s is None: nothing is settled for it. Did a task return None, not an empty list?", name)
        if not leases:
            if not nones:
                self.log.info("No leases were given: nothing to settle")
            return self._push(context, AckResult())
        result = self.hook.ack(self.find_queue(), acks=to_ack, retries=to_retry)
        self._log_result(leases, result)
        report = self._push(context, result)
        if (self.fail_on == "any" and result.unconfirmed) or (self.fail_on == "all" and not result.confirmed_count):
            raise UnconfirmedLeasesError(
                f"The API did not confirm {len(result.unconfirmed)} of {counted(len(leases), 'lease')}",
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
        acks, retries = result.ack_count, result.retry_count
        self.log.info(
            "The API counted %s and %s",
            "an unknown number of acks" if acks is None else counted(acks, "ack"),
            "an unknown number of retries" if retries is None else counted(retries, "retry", "retries"),
        )
        now = datetime.now(timezone.utc)
        ended = {
            lease_id for lease_id, lease in leases.items() if lease.lease_expires_at and lease.lease_expires_at < now
        }
        for lease_id, text in result.warnings.items():
            note = " (the lease had ended before it was settled)" if lease_id in ended else ""
            self.log.warning("Lease %s: %s%s", shorten_lease(lease_id), text, note)
        if late := ended - result.warnings.keys():
            self.log.warning(
                "%d of %s had ended before they were settled: their messages may have been delivered again. Raise "
                "visibility_timeout on the pull",
                len(late),
                counted(len(leases), "lease"),
            )
        for start in range(0, len(result.unconfirmed), LEASES_PER_LINE):
            line = result.unconfirmed[start : start + LEASES_PER_LINE]
            self.log.warning("The API did not confirm: %s", list_leases(line))
        if result.unconfirmed and result.repeated:
            self.log.warning("An earlier try of the request got no answer: it may have settled these leases")


class QueueAckOperator(_SettlingOperator):
    """
    Ack messages: they are done and leave the queue.

    Returns ``{"ack_count", "retry_count", "warnings"}``, and pushes each of the three as a separate XCom. A count
    that the API did not report is None.

    :param lease_ids: the leases, as XCom holds them: lease IDs or messages of
        :class:`~airflow_provider_cfqueues.operators.queues.QueuePullOperator`, one or a list, lists of lists, the
        output of a mapped task, or a string that a template rendered to. Without leases, the task succeeds and makes
        no request.
    """

    template_fields: Sequence[str] = (*_SettlingOperator.template_fields, "lease_ids")
    template_fields_renderers: ClassVar[dict[str, str]] = {"lease_ids": "json"}
    _acks = "lease_ids"

    def __init__(self, *, lease_ids: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lease_ids = lease_ids


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
    _retries = "lease_ids"

    def __init__(self, *, lease_ids: Any, delay_seconds: Seconds | DelayRule | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lease_ids = lease_ids
        self.delay_seconds = delay_seconds


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
    _acks = "ack_lease_ids"
    _retries = "retry_lease_ids"

    def __init__(
        self,
        *,
        ack_lease_ids: Any = (),
        retry_lease_ids: Any = (),
        delay_seconds: Seconds | DelayRule | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ack_lease_ids = ack_lease_ids
        self.retry_lease_ids = retry_lease_ids
        self.delay_seconds = delay_seconds
