"""The trigger that an asset watcher runs: messages of a queue become asset events, and so DAG runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_cfqueues import DEFAULT_CONNECTION, arguments
from airflow_provider_cfqueues._compat import (
    AIRFLOW_VERSION,
    HAS_ASSET_WATCHERS,
    HAS_SHARED_STREAMS,
    BaseEventTrigger,
    SharedStreamProducer,
    TriggerEvent,
    is_event_awaited,
    reject_shared_stream_event,
    triggerer_setting,
)
from airflow_provider_cfqueues.engines.watching.deliveries import Delivery
from airflow_provider_cfqueues.engines.watching.events import EventTooLargeError, make_event
from airflow_provider_cfqueues.engines.watching.options import MAX_BYTES_PER_EVENT, parse_watch_options
from airflow_provider_cfqueues.engines.watching.source import HookSource
from airflow_provider_cfqueues.engines.watching.stream import QueueStream
from airflow_provider_cfqueues.exceptions import MatchFailedError
from airflow_provider_cfqueues.matching import Match, Matcher, check_match

REFUSAL_SECONDS = 30
"""A watcher that cannot begin waits so long before it says so: Airflow begins it again about every second."""


class WrongTriggerArgumentError(ValueError, TypeError):
    """
    An argument of a trigger is wrong.

    A TypeError as well: while a triggerer re-creates triggers, it survives no other kind.
    """


@dataclass(frozen=True)
class _AloneOutcome:
    """How a message was left where one watcher has the stream for itself."""

    acked: int = 1
    failed: int = 0
    rejected: int = 0


class QueueMessageTrigger(BaseEventTrigger):
    """
    Watch a queue for an asset: each message becomes one asset event.

    The event's payload has ``queue_id`` and ``queue_name`` as given here, ``pulled_at``, ``backlog_count``, and
    ``messages``: a list of one message as :class:`~airflow_provider_cfqueues.operators.queues.QueuePullOperator`
    returns it. It runs for ever: failures are logged once, with what to do, and slow it down.

    With ``settle="event"`` (Airflow 3.3 and later) a message is acked once Airflow has stored its event, never before.
    With ``settle="task"`` its lease travels in the event and a DAG settles it:
    ``QueueAckOperator(lease_ids=event_leases())``. Where the run fails, the lease ends and the message comes back.

    All watchers of a queue (same connection, and the same ``queue_id`` or ``queue_name``) share one poll, made as the
    first of them says. Only one triggerer may run watchers with different ``match``: Airflow spreads them over all.

    :param queue_id: ID of the queue. Exactly one of ``queue_id`` and ``queue_name`` is given.
    :param queue_name: name of the queue.
    :param cloudflare_conn_id: the Airflow connection, of type ``cloudflare``.
    :param settle: who settles: ``event`` or ``task``.
    :param batch_size: messages per pull, up to 100.
    :param visibility_timeout: seconds that leases last, up to 43,200. None = for ``event`` twice what Airflow and the
        API may take to store and settle (12 minutes, unless ``[triggerer] shared_stream_ack_timeout`` says otherwise),
        for ``task`` 1,800.
    :param poll_interval: seconds between two pulls. It doubles while the queue is empty, as each pull is billed.
    :param max_poll_interval: where that ends. 60 s make 1,440 pulls a day.
    :param match: which messages are wanted, see :mod:`~airflow_provider_cfqueues.matching`; None = all.
    :param unmatched: what becomes of a message that no watcher of the queue wants: ``retry`` (it comes again after
        ``delay_seconds``; each time counts as a delivery, so before the last it is copied to the dead-letter queue),
        ``dead_letter`` or ``ack`` (it is deleted).
    :param delay_seconds: how long a message waits that is given back, up to 86,400; None = the consumer's.
    :param dead_letter_queue: name of the queue that gets copies; None = the consumer's own.
    :param include_body: whether events hold bodies and metadata. Without them and with ``settle="event"``, the body is
        gone once the event is stored.
    :param max_event_bytes: a message whose event would be larger is dead-lettered, or given back.
    :param max_in_flight: pull nothing while so many messages are leased and not settled; for ``task``, not settled and
        their leases not ended. None = 1,000 for ``event``, 10,000 for ``task``.
    :raises ValueError: an argument is wrong or does not fit Airflow's settings.
    """

    def __init__(
        self,
        *,
        queue_id: str | None = None,
        queue_name: str | None = None,
        cloudflare_conn_id: str = DEFAULT_CONNECTION,
        settle: str = "event",
        batch_size: int = 100,
        visibility_timeout: float | None = None,
        poll_interval: float = 1,
        max_poll_interval: float = 60,
        match: Match = None,
        unmatched: str = "retry",
        delay_seconds: float | None = 60,
        dead_letter_queue: str | None = None,
        include_body: bool = True,
        max_event_bytes: int = MAX_BYTES_PER_EVENT,
        max_in_flight: int | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _check_airflow(settle)
        self._kwargs: dict[str, Any] = {
            "queue_id": queue_id,
            "queue_name": queue_name,
            "cloudflare_conn_id": cloudflare_conn_id,
            "settle": settle,
            "batch_size": batch_size,
            "visibility_timeout": visibility_timeout,
            "poll_interval": poll_interval,
            "max_poll_interval": max_poll_interval,
            "match": list(match) if isinstance(match, Sequence) and not isinstance(match, str) else match,
            "unmatched": unmatched,
            "delay_seconds": delay_seconds,
            "dead_letter_queue": dead_letter_queue,
            "include_body": include_body,
            "max_event_bytes": max_event_bytes,
            "max_in_flight": max_in_flight,
        }
        try:
            self._check_queue()
            check_match(match)
            self._max_event_bytes = arguments.parse_count(max_event_bytes, "max_event_bytes")
            self._options = parse_watch_options(
                settle=settle,
                batch_size=batch_size,
                visibility_timeout=visibility_timeout,
                poll_interval=poll_interval,
                max_poll_interval=max_poll_interval,
                unmatched=unmatched,
                delay_seconds=delay_seconds,
                dead_letter_queue=dead_letter_queue,
                max_in_flight=max_in_flight,
                ack_timeout=triggerer_setting("shared_stream_ack_timeout", 300),
                subscriber_queue_size=int(triggerer_setting("shared_stream_subscriber_queue_size", 1024)),
            )
        except (TypeError, ValueError) as error:
            raise WrongTriggerArgumentError(*error.args) from error
        self._include_body = include_body
        self._queue = str(queue_name or queue_id)
        self._stream: QueueStream | None = None
        self._was_told_of_differences = False

    def _check_queue(self) -> None:
        queue_id, queue_name = self._kwargs["queue_id"], self._kwargs["queue_name"]
        if bool(queue_id) == bool(queue_name):
            msg = f"Give exactly one of queue_id and queue_name, not {queue_id!r} and {queue_name!r}"
            raise ValueError(msg)
        if queue_id:
            arguments.parse_id(queue_id, "queue_id")
        else:
            arguments.parse_name(queue_name)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class and arguments, for Airflow to store and compare."""
        return f"{QueueMessageTrigger.__module__}.{QueueMessageTrigger.__qualname__}", dict(self._kwargs)

    # -- Airflow 3.3 and later: one stream for all watchers of a queue ----------------------------------------------

    def shared_stream_key(self) -> Hashable:
        """Return what watchers of the same queue have in common: the connection and the queue."""
        kwargs = self._kwargs
        return ("cloudflare-queues", kwargs["cloudflare_conn_id"], kwargs["queue_id"], kwargs["queue_name"])

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> QueueMessageProducer:
        """
        Return what pulls and settles for all watchers of a queue.

        :param kwargs: the arguments of the first of them.
        """
        return QueueMessageProducer(cls(**kwargs)._open_stream())

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Delivery]) -> AsyncIterator[TriggerEvent]:
        """
        Yield an event for each message that this watcher wants.

        :param shared_stream: the messages of the queue.
        """
        matcher = await self._begin()
        async for delivery in shared_stream:
            event = self._judge(delivery, matcher)
            if event is not None:
                yield event
                # Not before: Airflow may drop an event that was yielded, and yet say that its watcher is through.
                if self._options.settle == "task":
                    delivery.take(left_to_task=True)
                elif is_event_awaited():
                    delivery.take(left_to_task=False)
            elif delivery.refusals:
                reject_shared_stream_event()

    # -- before Airflow 3.3: a stream of its own --------------------------------------------------------------------

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each message that this watcher wants."""
        if self._options.settle == "event":
            msg = "settle='event' works only where Airflow runs the watcher in a shared stream"
            raise RuntimeError(msg)
        matcher = await self._begin()
        self._stream = self._open_stream()
        async for delivery in self._stream.deliveries():
            event = self._judge(delivery, matcher)
            if event is not None:
                yield event
                delivery.take(left_to_task=True)
            await self._stream.settle([(delivery, _AloneOutcome())])

    async def cleanup(self) -> None:
        """Give back what did not get into an event; what did is left to the DAG."""
        if self._stream is not None:
            await self._stream.aclose()

    # -- what both have in common -----------------------------------------------------------------------------------

    def _open_stream(self) -> QueueStream:
        kwargs = self._kwargs
        source = HookSource(
            kwargs["cloudflare_conn_id"],
            queue_id=kwargs["queue_id"],
            queue_name=kwargs["queue_name"],
            options=self._options,
        )
        return QueueStream(self._options, source, name=self._queue, log=self.log)

    async def _begin(self) -> Matcher:
        self.log.info("Watching queue %s with %s", self._queue, self._options)
        match = self._kwargs["match"]
        if match is not None:
            self.log.info(
                "This watcher wants only %s. All watchers of queue %s must run in one triggerer: with several, one "
                "%s what a watcher in another one wants",
                match,
                self._queue,
                {"retry": "gives back", "dead_letter": "dead-letters", "ack": "deletes"}[self._options.unmatched],
            )
        try:
            return Matcher(match)
        except Exception as error:
            self.log.error("Watching queue %s cannot begin: %s", self._queue, error)  # noqa: TRY400 - it is raised
            await asyncio.sleep(REFUSAL_SECONDS)
            raise

    def _judge(self, delivery: Delivery, matcher: Matcher) -> TriggerEvent | None:
        """Return the event of a message that is wanted, and count; say why it is refused."""
        self._tell_differences(delivery)
        delivery.judged += 1
        try:
            if not matcher.wants(delivery.message):
                return None
            event = make_event(
                delivery,
                queue_id=self._kwargs["queue_id"],
                queue_name=self._kwargs["queue_name"],
                include_body=self._include_body,
                max_bytes=self._max_event_bytes,
            )
        except (MatchFailedError, EventTooLargeError) as error:
            delivery.refusals.append(str(error))
            return None
        delivery.offered += 1
        return event

    def _tell_differences(self, delivery: Delivery) -> None:
        if self._was_told_of_differences or delivery.options is self._options:
            return
        self._was_told_of_differences = True
        if differences := self._options.differences(delivery.options):
            self.log.warning(
                "Queue %s is polled as another watcher of it says; these settings of this one have no effect: %s",
                self._queue,
                ", ".join(differences),
            )


class QueueMessageProducer(SharedStreamProducer):
    """
    Pulls and settles for all watchers of a queue, driven by Airflow's shared stream.

    :param stream: the queue's messages.
    """

    def __init__(self, stream: QueueStream) -> None:
        self._stream = stream

    async def open_stream(self) -> AsyncIterator[tuple[Delivery, Delivery]]:
        """Yield each message, as what the watchers see and as what ``advance`` gets back."""
        async for delivery in self._stream.deliveries():
            yield delivery, delivery

    def get_advance_lane(self, broker_payload: Delivery) -> Hashable:
        """
        Return the pull of a message: what came together is settled together.

        :param broker_payload: the message.
        """
        return broker_payload.pull

    async def advance(self, batch: Sequence[Any]) -> None:
        """
        Settle messages that all watchers are through with.

        :param batch: items with ``broker_payload`` and ``outcome``.
        """
        await self._stream.settle([(item.broker_payload, item.outcome) for item in batch])

    async def aclose(self) -> None:
        """Give back what no watcher got to see, and close the connections."""
        await self._stream.aclose()


def _check_airflow(settle: str) -> None:
    """Say what this Airflow lacks, and the ways out."""
    if not HAS_ASSET_WATCHERS:
        msg = (
            f"QueueMessageTrigger needs asset watchers, so Airflow 3.0 or later (this is {AIRFLOW_VERSION}). In a DAG, "
            "QueueMessageSensor waits for messages and QueueProcessOperator processes them"
        )
        raise WrongTriggerArgumentError(msg)
    if settle == "event" and not HAS_SHARED_STREAMS:
        msg = (
            f"settle='event' needs Airflow 3.3 or later (this is {AIRFLOW_VERSION}), which tells a trigger when its "
            "event is stored. Either upgrade, or use settle='task' and let the DAG settle the messages: "
            "QueueAckOperator(lease_ids=event_leases())"
        )
        raise WrongTriggerArgumentError(msg)
