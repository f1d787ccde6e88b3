"""How a queue is watched, checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from airflow_provider_cfqueues import arguments
from airflow_provider_cfqueues.client.message_calls import MAX_MESSAGES_PER_PULL

SETTLE_SECONDS = 60
"""How long one settling may take: the tries of one call, as ``clients.RepeatPolicy`` has them."""
TASK_VISIBILITY_SECONDS = 1_800
"""What a DAG run commonly has to be created, run and settle."""
MAX_BYTES_PER_EVENT = 262_144
"""Enough for every message that Cloudflare takes (128 KB), bytes as base64 included."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """
    How a queue is watched.

    :param settle: who settles: ``event`` (the trigger, once the event is stored) or ``task`` (the DAG).
    :param batch_size: messages per pull.
    :param visibility_timeout: seconds that leases last.
    :param poll_interval: seconds between two pulls that gave messages, and after the first that gave none.
    :param max_poll_interval: up to how many seconds the interval grows while the queue is empty.
    :param unmatched: what becomes of a message that no watcher wants: ``retry``, ``dead_letter`` or ``ack``.
    :param delay_seconds: how long a message waits that is given back.
    :param dead_letter_queue: name of the queue that gets copies; None = the consumer's own.
    :param max_in_flight: pull nothing while so many messages are leased and not settled.
    :param max_undecided: pull nothing while the watchers are not through with so many.
    """

    settle: str
    batch_size: int
    visibility_timeout: float
    poll_interval: float
    max_poll_interval: float
    unmatched: str
    delay_seconds: int | None
    dead_letter_queue: str | None
    max_in_flight: int
    max_undecided: int

    def differences(self, other: WatchOptions) -> list[str]:
        """
        Return what differs from other options, in words.

        :param other: the other options.
        """
        return [
            f"{field.name}={getattr(self, field.name)!r} (the stream has {getattr(other, field.name)!r})"
            for field in fields(self)
            if field.name != "settle" and getattr(self, field.name) != getattr(other, field.name)
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
    max_in_flight: Any,
    ack_timeout: float,
    subscriber_queue_size: int,
) -> WatchOptions:
    """
    Check how a queue is to be watched.

    :param ack_timeout: ``[triggerer] shared_stream_ack_timeout``: how long Airflow may take to store an event.
    :param subscriber_queue_size: ``[triggerer] shared_stream_subscriber_queue_size``.
    :raises TypeError: a value is of the wrong type.
    :raises ValueError: a value is out of range or does not fit another.
    """
    by_event = _one_of(settle, "settle", ("event", "task")) == "event"
    wait = _positive(poll_interval, "poll_interval")
    longest_wait = _positive(max_poll_interval, "max_poll_interval")
    if longest_wait < wait:
        msg = f"max_poll_interval ({longest_wait:g} s) must not be below poll_interval ({wait:g} s)"
        raise ValueError(msg)
    needed = ack_timeout + SETTLE_SECONDS
    timeout = arguments.parse_visibility_timeout(visibility_timeout)
    if timeout is None:
        timeout = min(arguments.MAX_VISIBILITY_SECONDS, 2 * needed) if by_event else TASK_VISIBILITY_SECONDS
    if by_event and timeout <= needed:
        msg = (
            f"visibility_timeout ({timeout:g} s) must be above {needed:g} s: Airflow may take "
            f"[triggerer] shared_stream_ack_timeout ({ack_timeout:g} s) to store an event, and settling it may take "
            f"{SETTLE_SECONDS} s. Raise visibility_timeout (up to 43200 s), or lower shared_stream_ack_timeout"
        )
        raise ValueError(msg)
    most = subscriber_queue_size - 1
    if max_in_flight is None:
        in_flight = min(1_000, most) if by_event else 10_000
    else:
        in_flight = arguments.parse_count(max_in_flight, "max_in_flight")
    if by_event and in_flight > most:
        msg = (
            f"max_in_flight ({in_flight}) must be below [triggerer] shared_stream_subscriber_queue_size "
            f"({subscriber_queue_size}): Airflow fails a watcher that more events wait for"
        )
        raise ValueError(msg)
    return WatchOptions(
        settle=settle,
        batch_size=min(MAX_MESSAGES_PER_PULL, arguments.parse_count(batch_size, "batch_size")),
        visibility_timeout=timeout,
        poll_interval=wait,
        max_poll_interval=longest_wait,
        unmatched=_one_of(unmatched, "unmatched", ("retry", "dead_letter", "ack")),
        delay_seconds=arguments.parse_delay(delay_seconds),
        dead_letter_queue=None if dead_letter_queue is None else arguments.parse_name(dead_letter_queue),
        max_in_flight=in_flight,
        max_undecided=most,
    )


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
