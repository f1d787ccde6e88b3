"""How a queue is watched, checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from airflow_provider_cfqueues import arguments
from airflow_provider_cfqueues.client.message_calls import MAX_MESSAGES_PER_PULL
from airflow_provider_cfqueues.engines.unmatched import parse_unmatched

SETTLE_SECONDS = 60
"""How long one settling may take: the tries of one call, as ``client.transport.RepeatPolicy`` has them."""
TASK_VISIBILITY_SECONDS = 1_800
"""Seconds that a DAG run commonly needs to be created, to run and to settle."""
CONFIRM_SECONDS = 60
"""How long the settling of an event waits for the runs of ``dag_ids``."""
MAX_MESSAGES_PER_EVENT = 1_000
"""So that a task can map over them: Airflow's ``[core] max_map_length`` is 1,024."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """
    How a queue is watched.

    :param settle: who settles: ``event`` (the trigger, once the event is stored) or ``task`` (the DAG).
    :param batch_size: messages per pull.
    :param visibility_timeout: seconds that leases last.
    :param poll_interval: seconds between two pulls that gave messages, and after the first that gave none.
    :param max_poll_interval: up to how many seconds the interval grows while the queue is empty.
    :param has_match: whether messages may be pulled that no watcher wants.
    :param unmatched: what becomes of such a message: ``ack``, ``dead_letter``, ``retry``, or None.
    :param delay_seconds: how long a message waits that is given back.
    :param dead_letter_queue: name of the queue that gets copies; None = the consumer's own.
    :param max_event_bytes: how large an event may be, as JSON.
    :param max_in_flight: pull nothing while so many messages are leased and not settled.
    """

    settle: str
    batch_size: int
    visibility_timeout: float
    poll_interval: float
    max_poll_interval: float
    has_match: bool
    unmatched: str | None
    delay_seconds: int | None
    dead_letter_queue: str | None
    max_event_bytes: int
    max_in_flight: int

    def differences(self, other: WatchOptions) -> list[str]:
        """
        Return what differs from other options, in words.

        :param other: the other options.
        """
        return [
            f"{field.name}={getattr(self, field.name)!r} (the stream has {getattr(other, field.name)!r})"
            for field in fields(self)
            if field.name not in ("settle", "has_match") and getattr(self, field.name) != getattr(other, field.name)
        ]


def parse_watch_options(
    *,
    settle: Any,
    batch_size: Any,
    visibility_timeout: Any,
    poll_interval: Any,
    max_poll_interval: Any,
    unmatched: Any,
    delay_seconds: Any,
    dead_letter_queue: Any,
    max_event_bytes: Any,
    max_in_flight: Any,
    ack_timeout: float,
    has_match: bool = False,
) -> WatchOptions:
    """
    Check how a queue is to be watched.

    :param ack_timeout: ``[triggerer] shared_stream_ack_timeout``: how long Airflow may take to store an event.
    :param has_match: whether messages may be pulled that no watcher wants.
    :raises TypeError: a value is of the wrong type.
    :raises ValueError: a value is out of range or does not fit another.
    """
    by_event = _one_of(settle, "settle", ("event", "task")) == "event"
    wait = _positive(poll_interval, "poll_interval")
    longest_wait = _positive(max_poll_interval, "max_poll_interval")
    if longest_wait < wait:
        msg = f"max_poll_interval ({longest_wait:g} s) must not be below poll_interval ({wait:g} s)"
        raise ValueError(msg)
    needed = ack_timeout + CONFIRM_SECONDS + SETTLE_SECONDS
    timeout = arguments.parse_visibility_timeout(visibility_timeout)
    if timeout is None:
        timeout = min(arguments.MAX_VISIBILITY_SECONDS, 2 * needed) if by_event else TASK_VISIBILITY_SECONDS
    if by_event and timeout <= needed:
        msg = (
            f"visibility_timeout ({timeout:g} s) must be above {needed:g} s: Airflow may take "
            f"[triggerer] shared_stream_ack_timeout ({ack_timeout:g} s) to store an event, {CONFIRM_SECONDS} s to "
            f"create its run, and settling it may take {SETTLE_SECONDS} s. Raise visibility_timeout (up to 43200 s), "
            "or lower shared_stream_ack_timeout"
        )
        raise ValueError(msg)
    in_flight = 10_000 if max_in_flight is None else arguments.parse_count(max_in_flight, "max_in_flight")
    return WatchOptions(
        settle=settle,
        batch_size=min(MAX_MESSAGES_PER_PULL, arguments.parse_count(batch_size, "batch_size")),
        visibility_timeout=timeout,
        poll_interval=wait,
        max_poll_interval=longest_wait,
        has_match=has_match,
        unmatched=parse_unmatched(unmatched),
        delay_seconds=arguments.parse_delay(delay_seconds),
        dead_letter_queue=None if dead_letter_queue is None else arguments.parse_name(dead_letter_queue),
        max_event_bytes=arguments.parse_count(max_event_bytes, "max_event_bytes"),
        max_in_flight=in_flight,
    )


def parse_run_seconds(value: Any, ack_timeout: float) -> float:
    """
    Check how long a run is waited for.

    :param value: the seconds.
    :param ack_timeout: ``[triggerer] shared_stream_ack_timeout``: a watcher that starts waits within it.
    :raises TypeError: it is no number.
    :raises ValueError: it is out of range.
    """
    seconds = arguments.parse_seconds(value, "run_seconds")
    if seconds >= ack_timeout:
        msg = (
            f"run_seconds ({seconds:g} s) must be below [triggerer] shared_stream_ack_timeout ({ack_timeout:g} s): "
            "Airflow fails a watcher that takes longer to make an event"
        )
        raise ValueError(msg)
    return seconds


def parse_dag_ids(value: Any) -> list[str] | None:
    """
    Check the names of the DAGs that a watcher's events start.

    :param value: the names; None = not known.
    :raises TypeError: they are no list of text.
    :raises ValueError: there is none.
    """
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(dag_id, str) and dag_id for dag_id in value):
        msg = f"dag_ids must be a list of the IDs of the DAGs that are scheduled on the asset, not {value!r}"
        raise TypeError(msg)
    if not value:
        msg = "dag_ids is an empty list; leave it out if the DAGs are not known"
        raise ValueError(msg)
    return value


def _positive(value: Any, what: str) -> float:
    number = arguments.parse_number(value, what)
    if number <= 0:
        msg = f"{what} must be above 0 seconds, not {number:g}"
        raise ValueError(msg)
    return number


def _one_of(value: Any, what: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        msg = f"{what} must be {' or '.join(map(repr, choices))}, not {value!r}"
        raise ValueError(msg)
    return str(value)
