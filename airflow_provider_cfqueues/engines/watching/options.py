"""How a queue is watched, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from airflow_provider_cfqueues import arguments
from airflow_provider_cfqueues.client.message_calls import MAX_MESSAGES_PER_PULL
from airflow_provider_cfqueues.engines.settlement import UNMATCHED
from airflow_provider_cfqueues.matching import Match, check_match

SETTLE_SECONDS = 60
"""How long one settling may take: the tries of one call, as ``client.transport.RepeatPolicy`` has them."""
TASK_VISIBILITY_SECONDS = 1_800
"""Seconds that a DAG run commonly needs to be created, to run and to settle."""
CONFIRM_SECONDS = 60
"""How long the settling of an event waits for the runs of ``dag_ids``."""
DOUBT = 10
"""So many times ``run_seconds`` after an event, the scheduler has created the run that was due."""
LONGEST_DOUBT = 2 * DOUBT + 4
"""So many times ``run_seconds``, a message may wait for its closing event: a further event may put it off, and then it
waits for the batch before it."""
MAX_MESSAGES_PER_EVENT = 1_000
"""So that a task can map over them: Airflow's ``[core] max_map_length`` is 1,024."""
MAX_IN_FLIGHT = 10_000
OF_ONE_WATCHER = ("settle", "match", "include_body", "dag_ids", "run_seconds")
"""What watchers of one stream may have different values of."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """The arguments of :class:`~airflow_provider_cfqueues.triggers.queues.QueueMessageTrigger`, checked."""

    cloudflare_conn_id: str
    queue_id: str | None
    queue_name: str | None
    settle: str
    batch_size: int
    visibility_timeout: float
    poll_interval: float
    max_poll_interval: float
    match: Match
    unmatched: str | None
    delay_seconds: int | None
    dead_letter_queue: str | None
    include_body: bool
    max_event_bytes: int
    max_in_flight: int
    dag_ids: list[str] | None
    run_seconds: float

    @property
    def queue(self) -> str:
        """What the log calls the queue."""
        return str(self.queue_name or self.queue_id)

    @property
    def needed_lease(self) -> float:
        """How many seconds of its lease a message must have left when it is handed on."""
        confirm = 0 if self.settle == "task" else LONGEST_DOUBT * self.run_seconds + SETTLE_SECONDS
        return max(self.visibility_timeout / 2, confirm)

    def differences(self, other: WatchOptions) -> list[str]:
        """Return which settings of the stream differ from other options, in words."""
        return [
            f"{field.name}={getattr(self, field.name)!r} (the stream has {getattr(other, field.name)!r})"
            for field in fields(self)
            if field.name not in OF_ONE_WATCHER and getattr(self, field.name) != getattr(other, field.name)
        ]


def parse_watch_options(given: Mapping[str, Any], *, ack_timeout: float) -> WatchOptions:
    """
    Check the arguments of a watcher.

    :param given: all of them, by name.
    :param ack_timeout: ``[triggerer] shared_stream_ack_timeout``: how long Airflow may take to store an event.
    :raises TypeError: a value is of the wrong type.
    :raises ValueError: a value is out of range or does not fit another.
    """
    queue_id, queue_name, dead_letter_queue = given["queue_id"], given["queue_name"], given["dead_letter_queue"]
    arguments.require_one(queue_id=queue_id, queue_name=queue_name)
    check_match(given["match"])
    wait, longest_wait = (_parse_interval(given, name) for name in ("poll_interval", "max_poll_interval"))
    if longest_wait < wait:
        msg = f"max_poll_interval ({longest_wait:g} s) must not be below poll_interval ({wait:g} s)"
        raise ValueError(msg)
    in_flight = given["max_in_flight"]
    run_seconds = _parse_run_seconds(given["run_seconds"], ack_timeout)
    return WatchOptions(
        cloudflare_conn_id=given["cloudflare_conn_id"],
        queue_id=arguments.parse_id(queue_id, "queue_id") if queue_id else None,
        queue_name=arguments.parse_name(queue_name) if queue_name else None,
        settle=arguments.parse_choice(given["settle"], "settle", ("event", "task")),
        batch_size=min(MAX_MESSAGES_PER_PULL, arguments.parse_count(given["batch_size"], "batch_size")),
        visibility_timeout=_parse_visibility_timeout(given, ack_timeout, run_seconds),
        poll_interval=wait,
        max_poll_interval=longest_wait,
        match=given["match"],
        unmatched=arguments.parse_optional(arguments.parse_choice, given["unmatched"], "unmatched", choices=UNMATCHED),
        delay_seconds=arguments.parse_delay(given["delay_seconds"]),
        dead_letter_queue=arguments.parse_optional(arguments.parse_name, dead_letter_queue, "dead_letter_queue"),
        include_body=given["include_body"],
        max_event_bytes=arguments.parse_count(given["max_event_bytes"], "max_event_bytes"),
        max_in_flight=MAX_IN_FLIGHT if in_flight is None else arguments.parse_count(in_flight, "max_in_flight"),
        dag_ids=_parse_dag_ids(given["dag_ids"]),
        run_seconds=run_seconds,
    )


def _parse_interval(given: Mapping[str, Any], name: str) -> float:
    seconds = arguments.parse_number(given[name], name)
    if seconds <= 0:
        msg = f"{name} must be above 0 seconds, not {seconds:g}"
        raise ValueError(msg)
    return seconds


def _parse_visibility_timeout(given: Mapping[str, Any], ack_timeout: float, run_seconds: float) -> float:
    timeout = arguments.parse_visibility_timeout(given["visibility_timeout"])
    if given["settle"] == "task":
        return TASK_VISIBILITY_SECONDS if timeout is None else timeout
    confirm = max(CONFIRM_SECONDS, LONGEST_DOUBT * run_seconds)
    needed = ack_timeout + confirm + SETTLE_SECONDS
    if timeout is None:
        timeout = min(arguments.MAX_VISIBILITY_SECONDS, 2 * needed)
    if timeout <= needed:
        msg = (
            f"visibility_timeout ({timeout:g} s) must be above {needed:g} s: Airflow may take "
            f"[triggerer] shared_stream_ack_timeout ({ack_timeout:g} s) to store an event, {confirm:g} s to "
            f"create its run ({LONGEST_DOUBT} times run_seconds, at least {CONFIRM_SECONDS} s), and settling it may "
            f"take {SETTLE_SECONDS} s. Raise visibility_timeout (up to 43200 s), or lower shared_stream_ack_timeout or "
            "run_seconds"
        )
        raise ValueError(msg)
    return timeout


def _parse_run_seconds(value: Any, ack_timeout: float) -> float:
    """Check how long a run is waited for: a watcher that starts waits within Airflow's time-out."""
    seconds = arguments.parse_seconds(value, "run_seconds")
    if seconds >= ack_timeout:
        msg = (
            f"run_seconds ({seconds:g} s) must be below [triggerer] shared_stream_ack_timeout ({ack_timeout:g} s): "
            "Airflow fails a watcher that takes longer to make an event"
        )
        raise ValueError(msg)
    return seconds


def _parse_dag_ids(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(dag_id, str) and dag_id for dag_id in value):
        msg = f"dag_ids must be a list of the IDs of the DAGs that are scheduled on the asset, not {value!r}"
        raise TypeError(msg)
    if not value:
        msg = "dag_ids is an empty list; leave it out if the DAGs are not known"
        raise ValueError(msg)
    return value
