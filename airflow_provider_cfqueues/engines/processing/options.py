"""What a run of the engine is asked to do, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_cfqueues.arguments import MAX_VISIBILITY_SECONDS
from airflow_provider_cfqueues.delays import DelayRule, ExponentialDelay

DEFAULT_VISIBILITY_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class Options:
    """
    How a queue is processed.

    :param max_messages: end after so many messages; None = no limit.
    :param max_duration: pull nothing more after so many seconds, and handle what was pulled; None = no limit.
    :param idle_timeout: end when the queue gave nothing for so many seconds; None = never.
    :param poll_interval: seconds between two looks at an empty queue.
    :param concurrency: how many handlers run at once.
    :param batch_size: for a handler of batches: how many messages it gets at the most; None = one message each.
    :param visibility_timeout: seconds that the leases last.
    :param expected_seconds_per_message: how long a handler takes, if that is known before.
    :param settle_interval: the longest that an outcome waits to be sent, in seconds.
    :param delay: how long a failed message waits until it is delivered again.
    :param max_attempts: after so many deliveries, a message is rejected at its next one, without calling the handler;
        None = no limit.
    :param grace: seconds that running handlers get when the task is killed.
    :param dry_run: give every message back at the end, whatever its outcome.
    :param keep_results: how many results of handlers the report keeps.
    :param ends_task: exceptions of a handler that concern the whole task: the run ends, and raises them.
    """

    max_messages: int | None = None
    max_duration: float | None = None
    idle_timeout: float | None = 5
    poll_interval: float = 1
    concurrency: int = 1
    batch_size: int | None = None
    visibility_timeout: float = DEFAULT_VISIBILITY_SECONDS
    expected_seconds_per_message: float | None = None
    settle_interval: float = 1
    delay: DelayRule | int | None = field(default_factory=ExponentialDelay)
    max_attempts: int | None = None
    grace: float = 3
    dry_run: bool = False
    keep_results: int = 0
    ends_task: tuple[type[Exception], ...] = ()


def choose_visibility_timeout(expected_seconds_per_message: float | None, batch_size: int | None) -> float:
    """
    Return a visibility timeout that suits the time a handler takes.

    Messages are pulled ahead by at most a quarter of it, so four times the longest step, a whole batch, is enough; it
    is never below a minute, so that a slow request costs nothing.

    :param expected_seconds_per_message: how long a handler takes for one message; None = that is not known.
    """
    if expected_seconds_per_message is None:
        return DEFAULT_VISIBILITY_SECONDS
    return min(MAX_VISIBILITY_SECONDS, max(60.0, 4 * expected_seconds_per_message * (batch_size or 1)))
