"""The trigger that an asset watcher runs: messages of a queue become asset events, and so DAG runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_cfqueues import DEFAULT_CONNECTION
from airflow_provider_cfqueues._compat import (
    AIRFLOW_VERSION,
    HAS_ASSET_WATCHERS,
    HAS_SHARED_STREAMS,
    BaseEventTrigger,
    SharedStreamProducer,
    TriggerEvent,
    conf,
)

if TYPE_CHECKING:
    from airflow_provider_cfqueues.engines.watching.deliveries import Batch
    from airflow_provider_cfqueues.engines.watching.judging import Judge
    from airflow_provider_cfqueues.engines.watching.stream import QueueStream
    from airflow_provider_cfqueues.matching import Match

MAX_BYTES_PER_EVENT = 1_048_576
RUN_SECONDS = 3
"""How long the scheduler commonly takes to create the run of an event: a second or two."""
REFUSAL_SECONDS = 30
"""Seconds that a watcher which cannot start waits before it fails: Airflow starts it again after about a second."""
_MISSING: dict[tuple[Hashable, asyncio.AbstractEventLoop], dict[int, str]] = {}
"""By stream of an event loop: why watchers of it cannot start. Messages that they might want must not be deleted."""


class WrongTriggerArgumentError(ValueError, TypeError):
    """
    An argument of a trigger is wrong.

    A TypeError as well: while a triggerer re-creates triggers, it survives no other kind.
    """


_ALONE: Any = SimpleNamespace(acked=1, failed=0, rejected=0)
"""What happened to a message if one watcher has the stream for itself."""


class QueueMessageTrigger(BaseEventTrigger):
    """
    Watch a queue for an asset: messages become asset events, which start DAG runs.

    The event's payload has ``queue_id`` and ``queue_name`` as given here, ``pulled_at``, ``backlog_count``, and
    ``messages``: up to 1,000, as :class:`~airflow_provider_cfqueues.operators.queues.QueuePullOperator` returns them.
    It never ends. A failure slows it down and is logged once, with what to do, and again if its kind changes.

    With ``settle="event"`` (Airflow 3.3), a message is acked once Airflow has stored its event; with ``dag_ids``, once
    the runs of these DAGs exist. With ``settle="task"``, its lease travels in the event, and a DAG settles it:
    ``QueueAckOperator(lease_ids=event_leases())``. If the run fails, the lease ends and the message is delivered again.

    Airflow 3.0 to 3.3 skips an event that is stored before the run of the last one was created. So the next event waits
    for that run. Give ``dag_ids``: then the watcher knows when the run is there. Without ``dag_ids``, it waits
    ``run_seconds``.

    All watchers of a queue (same connection, and the same ``queue_id`` or ``queue_name``) share one poll, with the
    settings of the first of them. Use different ``match`` only with one triggerer: Airflow spreads watchers over all
    triggerers, and they would take each other's messages. On a shared queue, ``match`` costs other readers deliveries:
    the watcher also leases messages that do not match, and gives them back.

    :param queue_id: ID of the queue. Exactly one of ``queue_id`` and ``queue_name`` is given.
    :param queue_name: name of the queue.
    :param cloudflare_conn_id: the Airflow connection, of type ``cloudflare``.
    :param settle: who settles: ``event`` or ``task``.
    :param batch_size: messages per pull, up to 100. An event holds those of several pulls if more are waiting.
    :param visibility_timeout: seconds that leases last, up to 43,200. None = for ``event`` twice what Airflow and the
        API may take to store, create the run and settle (14 minutes, unless ``[triggerer] shared_stream_ack_timeout``
        says otherwise), for ``task`` 1,800.
    :param poll_interval: seconds between two pulls, up to a tenth more or less at random. It doubles while the queue is
        empty, as each pull is billed.
    :param max_poll_interval: the longest interval. 60 s make 1,440 pulls a day.
    :param match: which messages are wanted, see :mod:`~airflow_provider_cfqueues.matching`; None = all.
    :param unmatched: what happens to a message that no watcher of the queue wants: ``ack`` (it is deleted),
        ``dead_letter`` (copied to the dead-letter queue) or ``retry`` (it is delivered again after ``delay_seconds``,
        until Cloudflare deletes it). None = as ``retry``, but nothing is deleted: after its last delivery, the message
        is in a dead-letter queue. So a watcher with ``match`` pulls nothing as long as there is no dead-letter queue.
    :param delay_seconds: how many seconds a message that is given back waits, up to 86,400; None = the consumer's
        ``retry_delay``.
    :param dead_letter_queue: name of the queue that gets copies; None = the consumer's own.
    :param include_body: whether events hold bodies and metadata. Without them and with ``settle="event"``, the body is
        gone once the event is stored.
    :param max_event_bytes: how large an event may be, as JSON. Further messages go into the next event. A message that
        is larger than this goes to the dead-letter queue, or is given back.
    :param max_in_flight: pull nothing while so many messages are leased and not settled; for ``task``, not settled and
        their leases not ended. None = 10,000.
    :param dag_ids: IDs of the DAGs that are scheduled on the asset. None = not known.
    :param run_seconds: without ``dag_ids``, how long Airflow's scheduler commonly takes to create the run of an event.
        An event that comes within ten times ``run_seconds`` after another one, or after the start, may be in no run: an
        event without messages follows, ten times ``run_seconds`` later. The messages are acked after that.
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
        unmatched: str | None = None,
        delay_seconds: float | None = 60,
        dead_letter_queue: str | None = None,
        include_body: bool = True,
        max_event_bytes: int = MAX_BYTES_PER_EVENT,
        max_in_flight: int | None = None,
        dag_ids: Sequence[str] | None = None,
        run_seconds: float = RUN_SECONDS,
    ) -> None:
        from airflow_provider_cfqueues.engines.watching.options import parse_watch_options
        from airflow_provider_cfqueues.engines.watching.spacing import Spacer

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
            "dag_ids": [dag_ids] if isinstance(dag_ids, str) else dag_ids and list(dag_ids),
            "run_seconds": run_seconds,
        }
        ack_timeout = conf.getfloat("triggerer", "shared_stream_ack_timeout", fallback=300)
        try:
            self._options = parse_watch_options(self._kwargs, ack_timeout=ack_timeout)
        except (TypeError, ValueError) as error:
            raise WrongTriggerArgumentError(*error.args) from error
        self._spacer = Spacer(self._options, log=self.log)
        self._stream: QueueStream | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class and arguments, for Airflow to store and compare."""
        return f"{QueueMessageTrigger.__module__}.{QueueMessageTrigger.__qualname__}", dict(self._kwargs)

    # -- Airflow 3.3 and later: one stream for all watchers of a queue ----------------------------------------------

    def shared_stream_key(self) -> Hashable:
        """
        Return what watchers of the same queue have in common: the connection and the queue.

        None where this watcher cannot start: then Airflow calls ``run``, which says so, and it shares no stream.
        """
        return None if self._start_error() else self._key

    @property
    def _key(self) -> Hashable:
        options = self._options
        return ("cloudflare-queues", options.cloudflare_conn_id, options.queue_id, options.queue_name)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> QueueMessageProducer:
        """
        Return what pulls and settles for all watchers of a queue.

        :param kwargs: the arguments of the first of them.
        """
        return QueueMessageProducer(cls(**kwargs)._open_stream())

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Batch]) -> AsyncIterator[TriggerEvent]:
        """
        Yield an event for each batch that holds messages that this watcher wants.

        :param shared_stream: the messages of the queue.
        """
        judge = self._begin()
        try:
            async for batch in shared_stream:
                async for event in self._make_event(batch, judge):
                    yield event
        finally:
            self._spacer.stop()

    # -- before Airflow 3.3: a stream of its own --------------------------------------------------------------------

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each batch that holds messages that this watcher wants."""
        if (error := self._start_error()) is not None:
            await self._refuse_to_start(error)
        if self._options.settle == "event":
            msg = "settle='event' works only in an AssetWatcher on Airflow 3.3 or later. Elsewhere, use settle='task'"
            raise RuntimeError(msg)
        judge = self._begin()
        self._stream = self._open_stream()
        async for batch in self._stream.batches():
            async for event in self._make_event(batch, judge):
                yield event
            self._stream.resolve(batch, _ALONE)

    async def cleanup(self) -> None:
        """Give back what did not get into an event; what did is left to the DAG."""
        if self._stream is not None:
            await self._stream.aclose()

    # -- what both have in common -----------------------------------------------------------------------------------

    def _open_stream(self) -> QueueStream:
        from airflow_provider_cfqueues.engines.watching.source import HookSource
        from airflow_provider_cfqueues.engines.watching.stream import QueueStream

        return QueueStream(self._options, HookSource(self._options), missing=self._find_missing, log=self.log)

    def _find_missing(self) -> str:
        return next(iter(_MISSING.get((self._key, asyncio.get_running_loop()), {}).values()), "")

    def _start_error(self) -> Exception | None:
        """Return why this watcher cannot start, if it cannot: what it matches by is loaded only where it runs."""
        from airflow_provider_cfqueues.matching import Matcher

        try:
            Matcher(self._options.match)
        except Exception as error:  # noqa: BLE001 - importing a module of the user's may raise anything
            return error
        return None

    async def _refuse_to_start(self, error: Exception) -> NoReturn:
        """Log why, wait a while, and raise. Meanwhile, other watchers keep the messages that this one might want."""
        self.log.error("Watching queue %s cannot start, and nothing is pulled for it: %s", self._options.queue, error)
        loop = asyncio.get_running_loop()
        missing = _MISSING.setdefault((self._key, loop), {})
        missing[id(self)] = f"a watcher of the queue cannot start: {error}"
        try:
            await asyncio.sleep(REFUSAL_SECONDS)
        finally:
            # Airflow starts it again a second later: until then, it is still missing.
            loop.call_later(REFUSAL_SECONDS / 2, missing.pop, id(self), None)
        raise error

    def _begin(self) -> Judge:
        from airflow_provider_cfqueues.engines.watching.judging import Judge

        options = self._options
        self._spacer.start()
        self.log.info("Watching queue %s with %s", options.queue, options)
        if options.match is not None:
            self.log.info(
                "This watcher wants only %s. Run all watchers of queue %s in one triggerer: in several, they %s each "
                "other's messages",
                options.match,
                options.queue,
                {"dead_letter": "dead-letter", "ack": "delete"}.get(str(options.unmatched), "give back"),
            )
        return Judge(options, log=self.log)

    async def _make_event(self, batch: Batch, judge: Judge) -> AsyncIterator[TriggerEvent]:
        """Yield the event of a batch, if there is one, and note which of its messages Airflow took over with it."""

        from airflow_provider_cfqueues._compat.events import count_awaited_events
        from airflow_provider_cfqueues.engines.watching.events import make_event

        wanted = await judge.choose(batch)
        if not wanted and not await self._spacer.must_close():
            return
        spacing = await self._spacer.before_event(is_closing=not wanted)
        event = make_event(batch, wanted, self._options)
        before = count_awaited_events()
        yield event
        # Not before: Airflow may drop an event that was yielded, and yet say that its watcher is through.
        is_left_to_task = self._options.settle == "task"
        after = count_awaited_events()
        if is_left_to_task or before is None or after is None or after > before:
            batch.take(wanted, spacing, left_to_task=is_left_to_task)
            self._spacer.after_event(spacing)


class QueueMessageProducer(SharedStreamProducer):
    """
    Pulls and settles for all watchers of a queue, driven by Airflow's shared stream.

    :param stream: the queue's messages.
    """

    def __init__(self, stream: QueueStream) -> None:
        self._stream = stream

    async def open_stream(self) -> AsyncIterator[tuple[Batch, Batch]]:
        """Yield each batch, as what the watchers see and as what ``advance`` gets back."""
        async for batch in self._stream.batches():
            yield batch, batch

    async def advance(self, batch: Sequence[Any]) -> None:
        """
        Settle the messages that all watchers are done with.

        :param batch: items with ``broker_payload`` and ``outcome``.
        """
        for item in batch:
            self._stream.resolve(item.broker_payload, item.outcome)

    async def aclose(self) -> None:
        """Give back the messages that no watcher has seen, and close the connections."""
        await self._stream.aclose()


def _check_airflow(settle: str) -> None:
    """Say what this Airflow lacks, and what to do instead."""
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
