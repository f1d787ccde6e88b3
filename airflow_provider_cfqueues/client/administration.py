"""Creating, changing and deleting queues and their pull consumers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_cfqueues.client import message_calls, queue_calls
from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.client.flow import API_VISIBILITY_SECONDS, Flow, Known, Pause
from airflow_provider_cfqueues.client.lookup import get_queue_id
from airflow_provider_cfqueues.exceptions import (
    AlreadyExistsError,
    ApiError,
    CloudflareQueuesError,
    MalformedResponseError,
    NotFoundError,
    PullNotEnabledError,
    QueuePausedError,
)
from airflow_provider_cfqueues.models import Consumer, EnsuredConsumer, Lease, PeekedMessage, PullResult, Queue

YOUNG = timedelta(minutes=2)
"""A younger consumer may not be ready: the API answers its pulls with 405 for some seconds."""
SETTLED = timedelta(seconds=30)
"""How old a consumer must be if it cannot be tried with a pull; users have seen it take up to 16 s to work."""
CLOCK_DIFFERENCE = timedelta(minutes=1)
"""How far Cloudflare's clock may be behind this machine's."""
PAUSED = "delivery from the queue is paused. Resume it before you pull"
RISKY = (
    "the next message may have only one delivery left. The task waited until the consumer was "
    f"{SETTLED.seconds} s old instead"
)

log = logging.getLogger(__name__)


def create_queue(name: str, settings: Mapping[str, Any], known: Known) -> Flow[Queue]:
    """
    Create a queue.

    :param name: its name.
    :param settings: the settings that are wanted.
    :param known: what was looked up before; the queue's ID is added to it.
    :raises AlreadyExistsError: there was a queue of this name before.
    """
    began = datetime.now(timezone.utc)
    try:
        queue: Queue = yield queue_calls.create_queue(name, settings)
    except (AlreadyExistsError, MalformedResponseError) as error:
        if not error.maybe_applied:
            raise
        try:
            queue = yield queue_calls.get_queue((yield from get_queue_id(name, known)))
        except NotFoundError:
            raise error from None
        is_older = queue.created_on is not None and queue.created_on < began - CLOCK_DIFFERENCE
        if is_older or any(queue.settings.get(key) != value for key, value in settings.items()):
            raise
        log.warning(
            "The answer to the creation of queue %r was lost. The queue exists now, and counts as created by this task",
            name,
        )
    known.queue_ids[name] = queue.queue_id
    return queue


def delete_queue(queue_id: str, known: Known) -> Flow[None]:
    """
    Delete a queue.

    :param queue_id: ID of the queue.
    :param known: what was looked up before; the queue is taken out of it.
    :raises NotFoundError: there is no such queue, and no earlier try of this call can have deleted it.
    """
    known.queue_ids = {name: known_id for name, known_id in known.queue_ids.items() if known_id != queue_id}
    known.consumers.pop(queue_id, None)
    yield from _delete(queue_calls.delete_queue(queue_id))


def create_pull_consumer(queue_id: str, wanted: Consumer, known: Known) -> Flow[Consumer]:
    """
    Add a pull consumer to a queue that has none.

    :param queue_id: ID of the queue.
    :param wanted: its settings; what is None is left to the API.
    :param known: what was looked up before; the consumer is added to it.
    :raises AlreadyExistsError: the queue has a consumer.
    """
    consumer: Consumer = yield queue_calls.create_consumer(queue_id, wanted)
    known.consumers[queue_id] = consumer
    return consumer


def update_pull_consumer(queue_id: str, wanted: Consumer, known: Known) -> Flow[Consumer]:
    """
    Change settings of a pull consumer; the other settings stay.

    :param queue_id: ID of the queue.
    :param wanted: the settings to change; what is None stays.
    :param known: what was looked up before; the consumer is added to it.
    :raises AlreadyExistsError: the queue has a Worker consumer instead.
    :raises NotFoundError: the queue has no consumer.
    """
    current = yield from _find_pull_consumer(queue_id)
    if current is None:
        raise _no_consumer(queue_id)
    consumer: Consumer = yield queue_calls.replace_consumer(queue_id, replace(current, **_settings(wanted)))
    known.consumers[queue_id] = consumer
    return consumer


def delete_pull_consumer(queue_id: str, known: Known) -> Flow[None]:
    """
    Remove a queue's pull consumer.

    :param queue_id: ID of the queue.
    :param known: what was looked up before; the consumer is taken out of it.
    :raises NotFoundError: the queue has no pull consumer.
    """
    known.consumers.pop(queue_id, None)
    consumers: list[Consumer] = yield queue_calls.list_consumers(queue_id)
    consumer_id = next((consumer.consumer_id for consumer in consumers if consumer.type == "http_pull"), None)
    if consumer_id is None:
        raise _no_consumer(queue_id)
    yield from _delete(queue_calls.delete_consumer(queue_id, consumer_id))


def ensure_pull_consumer(queue_id: str, wanted: Consumer, known: Known) -> Flow[EnsuredConsumer]:
    """
    Make sure that a queue has a pull consumer with these settings, and that pulls work.

    Only a new consumer is tried out, since that costs a delivery: one message is leased and given back at once. Where
    that could be its last, the consumer is given time instead. A paused queue cannot be tried.

    :param queue_id: ID of the queue.
    :param wanted: the settings; what is None stays, or is left to the API.
    :param known: what was looked up before; the consumer is added to it.
    :raises AlreadyExistsError: the queue has a Worker consumer.
    :raises PullNotEnabledError: the queue could still not be pulled when the client ceased to repeat.
    """
    action = "unchanged"
    consumer = yield from _find_pull_consumer(queue_id)
    if consumer is None:
        action = "created"
        try:
            consumer = yield queue_calls.create_consumer(queue_id, wanted)
        except AlreadyExistsError:  # somebody was faster, or an earlier try whose answer was lost
            consumer = yield from _find_pull_consumer(queue_id)
            if consumer is None:
                raise
    if any(getattr(consumer, name) != value for name, value in _settings(wanted).items()):
        action = action if action == "created" else "updated"
        consumer = yield queue_calls.replace_consumer(queue_id, replace(consumer, **_settings(wanted)))
    known.consumers[queue_id] = consumer
    untried = None
    age = timedelta() if action == "created" else _age(consumer)
    if age < YOUNG:
        untried = yield from _try_out(queue_id, consumer, age, known.call(queue_id))
    return EnsuredConsumer(consumer=consumer, action=action, untried=untried)


def _delete(call: Call[None]) -> Flow[None]:
    """Delete something. If it is not there, an earlier try whose answer was lost may have deleted it."""
    try:
        yield call
    except NotFoundError as error:
        if not error.maybe_applied:
            raise


def _find_pull_consumer(queue_id: str) -> Flow[Consumer | None]:
    consumers: list[Consumer] = yield queue_calls.list_consumers(queue_id)
    for consumer in consumers:
        if consumer.type != "http_pull":
            worker = f" {consumer.script_name!r}" if consumer.script_name else ""
            error = AlreadyExistsError(
                f"Could not add a pull consumer: Worker{worker} consumes this queue", queue=queue_id
            )
            script = consumer.script_name or "SCRIPT_NAME"
            error.add(remedy=f"Remove it first: `npx wrangler queues consumer worker remove QUEUE_NAME {script}`.")
            raise error
    return next(iter(consumers), None)


def _no_consumer(queue_id: str) -> NotFoundError:
    error = NotFoundError("The queue has no pull consumer", queue=queue_id)
    error.add(remedy="Check that this is the right queue, or give it a consumer with ensure_pull_consumer.")
    return error


def _age(consumer: Consumer) -> timedelta:
    if consumer.created_on is None:
        return timedelta.max
    return max(timedelta(), datetime.now(timezone.utc) - consumer.created_on)


def _settings(consumer: Consumer) -> dict[str, Any]:
    names = ("batch_size", "max_retries", "retry_delay", "visibility_timeout", "dead_letter_queue")
    return {name: getattr(consumer, name) for name in names if getattr(consumer, name) is not None}


def _try_out(queue_id: str, consumer: Consumer, age: timedelta, name: str) -> Flow[str | None]:
    """Pull one message until that works; return why that could not be tried, None where it worked."""
    if (yield from _may_cost_a_message(queue_id, consumer)):
        yield Pause(seconds=max(timedelta(), SETTLED - age).total_seconds())
        return RISKY
    call = message_calls.pull(queue_id, 1, API_VISIBILITY_SECONDS, API_VISIBILITY_SECONDS)
    try:
        pulled: PullResult = yield replace(call, repeat_also=(PullNotEnabledError,))
    except QueuePausedError:
        return PAUSED
    if pulled:
        try:
            given_back = [Lease(lease_id=message.lease_id, delay_seconds=0) for message in pulled]
            yield message_calls.ack(queue_id, [], given_back)
        except CloudflareQueuesError as error:
            log.warning(
                "The test pull of queue %s could not give its message back, so it is delivered again when its lease "
                "ends: %s",
                name,
                error,
            )
    return None


def _may_cost_a_message(queue_id: str, consumer: Consumer) -> Flow[bool]:
    """Return whether a test pull may use up the last delivery of the next message; if that is unknown, it may."""
    try:
        peeked: list[PeekedMessage] = yield message_calls.peek(queue_id, 1)
    except ApiError as error:
        if error.repeatable:
            raise
        return True
    return any(consumer.is_last_delivery((message.attempts or 0) + 1) for message in peeked)
