"""Sensors: wait until a queue has messages, or until its backlog is as wanted."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_cfqueues._compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.operators.base import QueueOperator

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds
    from airflow_provider_cfqueues.engines import probing
    from airflow_provider_cfqueues.matching import Match

SECONDS_FOR_THE_TRIGGER = 60
"""The trigger ends at the sensor's timeout. So many seconds later Airflow ends the task, if no triggerer runs."""


class _QueueSensor(QueueOperator, BaseSensorOperator):
    """
    A sensor on one queue, on a worker or deferred to the triggerer.

    It pokes on the worker first, and defers only if it has to wait.

    :param deferrable: wait in the triggerer, where waiting takes no worker slot. Default: ``[operators]
        default_deferrable`` of the Airflow configuration.
    """

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable

    @abstractmethod
    def _probe(self) -> probing.Probe:
        """Return what is asked at each poke."""

    def _result(self, found: Any, context: Context) -> Any:
        return found

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask once."""
        probe = self._probe()
        found = self.hook.run(probe.ask(self.hook))
        if found is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._result(probe.to_xcom(found), context))

    def execute(self, context: Context) -> Any:
        """Wait, here or in the triggerer."""
        if not self.deferrable:
            return super().execute(context)

        from airflow_provider_cfqueues.triggers.sensing import TRIGGERS

        try:
            poked = self.poke(context)
        except CloudflareQueuesError as error:
            if not self.silent_fail:
                self._fail(error)
            self.log.error("Sensor poke failed: %s", error)  # noqa: TRY400 - the text says what is needed
        else:
            if poked.is_done:
                return poked.xcom_value
        probe = self._probe()
        backing_off = self.max_wait.total_seconds() if self.max_wait else self.timeout
        self.defer(
            trigger=TRIGGERS[type(probe)](
                cloudflare_conn_id=self.cloudflare_conn_id,
                poke_interval=self.poke_interval,
                max_poke_interval=backing_off if self.exponential_backoff else self.poke_interval,
                end=time.time() + self.timeout,
                silent_fail=self.silent_fail,
                queue_name=self.queue_name,
                **asdict(probe),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + SECONDS_FOR_THE_TRIGGER),
        )
        return None

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """
        Return what the trigger found, or raise the trigger's error.

        :param context: the task's context.
        :param event: the trigger's event.
        """
        self.hook.traffic.add_list(event.get("traffic", ()), name=self.queue_name)
        if "error" in event:
            self._fail(CloudflareQueuesError.from_dict(event["error"]))
        if "found" not in event:
            queue = self.queue_name or self.queue_id
            msg = (
                f"Sensor has timed out: within {self.timeout:g} s, queue {queue!r} never had what the sensor waits for"
            )
            raise AirflowSensorTimeout(msg)
        return self._result(event["found"], context)

    def _fail(self, error: CloudflareQueuesError) -> NoReturn:
        """Raise an error; Airflow's own ``never_fail`` covers only what ``poke`` raises when it is not deferrable."""
        if self.never_fail:
            msg = f"Skipping due to never_fail: {error}"
            raise AirflowSkipException(msg) from error
        raise error


class QueueMessageSensor(_QueueSensor):
    """
    Wait until messages are there, and return them leased, or only look at them.

    The messages are as :class:`~airflow_provider_cfqueues.operators.queues.QueuePullOperator` returns them. Tasks
    downstream process and settle them. With ``lease=False``, they have no ``lease_id`` and no ``lease_expires_at``. If
    the sensor fails after it found messages (in its callback, for instance), they are delivered again when their leases
    end.

    On a shared queue, ``match`` costs the other readers deliveries. A pull cannot choose, so the sensor also leases
    messages that do not match, and gives them back. Each time counts as one of the deliveries that the consumer's
    ``max_retries`` allows. After the last one, Cloudflare moves a message to the consumer's dead-letter queue, or
    deletes it if there is none. So if there is no dead-letter queue, a sensor with ``match`` fails before it pulls
    anything. It peeks first, and pulls only if something may match.

    :param lease: lease the messages. False = only look: wait until a peek at the first 100 messages of the queue finds
        some, and leave them for a later task such as ``QueueProcessOperator``.
    :param max_messages: how many messages at most. Bodies have up to 128 KB and go through Airflow's database, twice if
        the sensor is deferred.
    :param visibility_timeout: seconds that the leases last, up to 43,200 (12 hours); None = the consumer's setting
        (30 s unless changed).
    :param match: which messages are wanted, such as ``jsonpath:$.type == "order"``; see
        :mod:`~airflow_provider_cfqueues.matching`.
    :param unmatched: what happens to a message that was leased and does not match: ``ack`` (it is deleted),
        ``dead_letter`` (copied to the dead-letter queue) or ``retry`` (given back, even if Cloudflare then deletes it).
        None = given back. If this may be its last delivery and the consumer has no dead-letter queue, the message is
        copied to ``dead_letter_queue``.
    :param unmatched_delay_seconds: how long a message that was leased and does not match stays away, in seconds, up to
        86,400.
    :param dead_letter_queue: name of the queue that gets copies; None = the consumer's own.
    :param messages_callback: called with the messages and the context, on a worker; what it returns is the XCom.
    """

    template_fields: Sequence[str] = (
        *QueueOperator.template_fields,
        "max_messages",
        "visibility_timeout",
        "unmatched_delay_seconds",
        "dead_letter_queue",
    )
    shallow_copy_attrs: Sequence[str] = ("messages_callback",)

    def __init__(
        self,
        *,
        lease: bool = True,
        max_messages: int | str = 100,
        visibility_timeout: Seconds | None = None,
        match: Match = None,
        unmatched: str | None = None,
        unmatched_delay_seconds: Seconds = 300,
        dead_letter_queue: str | None = None,
        messages_callback: Callable[[list[dict[str, Any]], Context], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        from airflow_provider_cfqueues.matching import check_match

        super().__init__(**kwargs)
        check_match(match)  # no template: what is wrong in it is wrong now
        self.lease = lease
        self.max_messages = max_messages
        self.visibility_timeout = visibility_timeout
        self.match = match
        self.unmatched = unmatched
        self.unmatched_delay_seconds = unmatched_delay_seconds
        self.dead_letter_queue = dead_letter_queue
        self.messages_callback = messages_callback

    def _probe(self) -> probing.MessageProbe:
        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues.engines import probing
        from airflow_provider_cfqueues.engines.settlement import UNMATCHED

        return probing.MessageProbe(
            queue_id=self.find_queue(),
            lease=self.lease,
            max_messages=arguments.parse_count(self.max_messages, "max_messages"),
            visibility_timeout=arguments.parse_visibility_timeout(self.visibility_timeout),
            match=self.match,
            unmatched=arguments.parse_optional(arguments.parse_choice, self.unmatched, "unmatched", choices=UNMATCHED),
            unmatched_delay_seconds=arguments.parse_delay(self.unmatched_delay_seconds, "unmatched_delay_seconds") or 0,
            dead_letter_queue=arguments.parse_optional(
                arguments.parse_name, self.dead_letter_queue, "dead_letter_queue"
            ),
        )

    def _result(self, found: list[dict[str, Any]], context: Context) -> Any:
        from airflow_provider_cfqueues.operators.leases import warn_of_short_leases
        from airflow_provider_cfqueues.texts import counted

        self.log.info("Found %s", counted(len(found), "message"))
        if self.lease:
            warn_of_short_leases(self, [datetime.fromisoformat(message["lease_expires_at"]) for message in found])
        return found if self.messages_callback is None else self.messages_callback(found, context)


class QueueBacklogSensor(_QueueSensor):
    """
    Wait until the backlog of a queue is large, small or old enough. No message is leased.

    Give at least one condition. The sensor is done as soon as one of them holds: ``at_least=1000, older_than=3600``
    waits for a full batch, but not for more than an hour. Returns ``{"backlog_count", "backlog_bytes",
    "oldest_message_timestamp"}``. Cloudflare calls its metrics best effort: a count can lag, and is 0 if it is not
    known.

    :param at_least: the queue has so many messages or more.
    :param at_most: the queue has so many messages or fewer.
    :param older_than: the oldest message was sent more than so many seconds ago; a number or a timedelta.
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "at_least", "at_most", "older_than")

    def __init__(
        self,
        *,
        at_least: int | str | None = None,
        at_most: int | str | None = None,
        older_than: Seconds | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.at_least = at_least
        self.at_most = at_most
        self.older_than = older_than

    def _probe(self) -> probing.BacklogProbe:
        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues.engines import probing

        if self.at_least is None and self.at_most is None and self.older_than is None:
            msg = "Give at least one of at_least, at_most and older_than"
            raise ValueError(msg)
        return probing.BacklogProbe(
            queue_id=self.find_queue(),
            at_least=arguments.parse_optional(arguments.parse_number, self.at_least, "at_least"),
            at_most=arguments.parse_optional(arguments.parse_number, self.at_most, "at_most"),
            older_than=arguments.parse_optional(arguments.parse_seconds, self.older_than, "older_than"),
        )
