"""A stream of its own, as a watcher has it before Airflow 3.3, and what a trigger refuses on each Airflow."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from jumping_time import run, until

from airflow_provider_cfqueues._compat import HAS_ASSET_WATCHERS, HAS_SHARED_STREAMS
from airflow_provider_cfqueues.engines.watching.options import parse_watch_options
from airflow_provider_cfqueues.engines.watching.source import HookSource
from airflow_provider_cfqueues.engines.watching.spacing import Spacing
from airflow_provider_cfqueues.engines.watching.stream import QueueStream
from airflow_provider_cfqueues.exceptions import shorten_lease
from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger

watchers_exist = pytest.mark.skipif(not HAS_ASSET_WATCHERS, reason="asset watchers came with Airflow 3.0")
HERE = __name__


def is_even(message):
    return message.body["n"] % 2 == 0


def calls(cf, path):
    return [request["body"] for request in cf.requests() if request["path"].endswith(f"/{path}")]


def states(cf):
    return sorted(message["state"] for message in cf.state()["queues"][0]["messages"])


def stream_of(queue, *, now=lambda: datetime.now(timezone.utc), **settings):
    options = parse_watch_options(
        {
            "cloudflare_conn_id": "cloudflare_default",
            "queue_id": queue,
            "queue_name": None,
            "settle": "task",
            "batch_size": 100,
            "visibility_timeout": 600,
            "poll_interval": 1,
            "max_poll_interval": 60,
            "match": None,
            "unmatched": "retry",
            "delay_seconds": 60,
            "dead_letter_queue": None,
            "include_body": True,
            "max_event_bytes": 1_000_000,
            "max_in_flight": None,
            "dag_ids": None,
            "run_seconds": 3,
            **settings,
        },
        ack_timeout=300,
    )
    return QueueStream(options, HookSource(options), now=now, log=logging.getLogger(__name__))


class Alone:
    """How a message was left by the only watcher."""

    acked, failed, rejected = 1, 0, 0


def go_through(batch, *, left_to_task=False):
    """Do what a watcher does that wants every message of a batch, and whose event Airflow takes."""
    for delivery in batch.deliveries:
        delivery.judged = delivery.offered = 1
    batch.take(batch.deliveries, Spacing(watcher=SimpleNamespace(is_removed=False)), left_to_task=left_to_task)


def loop_clock():
    began = datetime.now(timezone.utc) - timedelta(seconds=asyncio.get_running_loop().time())
    return lambda: began + timedelta(seconds=asyncio.get_running_loop().time())


def test_settling_ends_with_the_leases_and_the_log_names_them(cf, queue, logged):
    async def scenario():
        stream = stream_of(queue, now=loop_clock())
        batches = stream.batches()
        batch = await batches.__anext__()
        go_through(batch)
        began = asyncio.get_running_loop().time()
        stream.resolve(batch, Alone())
        await until(lambda: "before the leases ended" in logged())
        seconds = asyncio.get_running_loop().time() - began
        await stream.aclose()
        return batch.deliveries[0].message.lease_id, seconds

    cf.send(queue, {"n": 1})
    cf.add_fault("ack", status=401, times=1_000)
    lease_id, seconds = run(scenario())
    assert 590 <= seconds <= 610
    text = logged()
    assert f"unless that was its last delivery: {shorten_lease(lease_id)}" in text
    assert text.count(f"Trying again to settle messages of queue {queue}") == 1


def test_messages_that_wait_for_half_of_their_lease_are_given_back(cf, queue, logged):
    async def scenario():
        stream = stream_of(queue, now=loop_clock(), max_event_bytes=10_000)
        began = asyncio.get_running_loop().time()
        batches = stream.batches()
        await batches.__anext__()  # its watcher takes its time
        following = asyncio.ensure_future(batches.__anext__())
        await until(lambda: calls(cf, "ack"))
        seconds = asyncio.get_running_loop().time() - began
        following.cancel()
        await asyncio.wait({following})
        await stream.aclose()
        return seconds

    for number in range(3):
        cf.send(queue, {"n": number, "text": "x" * 6_000})
    assert 300 <= run(scenario()) <= 320
    assert [retry["delay_seconds"] for retry in calls(cf, "ack")[0]["retries"]] == [60, 60]
    assert f"Giving back 2 messages of queue {queue}: Airflow took too long to create the runs" in logged()


def seconds_to_the_second_batch(cf, queue, **settings):
    """Return how long the second batch takes while no ack gets through."""

    async def scenario():
        stream = stream_of(queue, now=loop_clock(), **settings)
        began = asyncio.get_running_loop().time()
        batches = stream.batches()
        for number in range(2):
            cf.send(queue, {"n": number})
            batch = await batches.__anext__()
            go_through(batch)
            stream.resolve(batch, Alone())
        seconds = asyncio.get_running_loop().time() - began
        await stream.aclose()
        return seconds

    cf.add_fault("ack", status=401, times=1_000)
    return run(scenario())


def test_a_pull_that_cannot_be_settled_does_not_hold_up_the_next(cf, queue):
    assert seconds_to_the_second_batch(cf, queue) < 20
    assert len({lease["lease_id"] for ack in calls(cf, "ack") for lease in ack["acks"]}) == 2


def test_a_message_that_cannot_be_settled_counts_as_in_flight_until_its_lease_ends(cf, queue):
    assert 590 <= seconds_to_the_second_batch(cf, queue, max_in_flight=1) <= 620


def test_a_lease_that_a_dag_settles_counts_until_it_ends(cf, queue):
    async def scenario():
        seen = []
        stream = stream_of(queue, now=loop_clock(), max_in_flight=2)

        async def watch():
            async for batch in stream.batches():
                go_through(batch, left_to_task=True)
                seen.extend(asyncio.get_running_loop().time() for _ in batch.deliveries)
                stream.resolve(batch, Alone())

        watching = asyncio.create_task(watch())
        await until(lambda: len(seen) == 4)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await stream.aclose()
        return [second - seen[0] for second in seen]

    for number in range(4):
        cf.send(queue, {"n": number})
    first, second, third, fourth = run(scenario())
    assert second - first < 5
    assert 595 <= third <= 610
    assert fourth - third < 5


def test_an_end_waits_only_seconds_for_an_api_that_does_not_answer(cf, queue):
    async def scenario():
        stream = stream_of(queue, now=loop_clock())
        batches = stream.batches()
        batch = await batches.__anext__()
        batch.deliveries[0].judged = 1
        stream.resolve(batch, Alone())
        await until(lambda: calls(cf, "ack"))
        began = asyncio.get_running_loop().time()
        await stream.aclose()
        return asyncio.get_running_loop().time() - began

    cf.send(queue, {"n": 1})
    cf.add_fault("ack", status=503, times=1_000)
    assert run(scenario()) < 15


@watchers_exist
def test_without_a_shared_stream_leases_travel_to_the_dag_and_the_rest_is_given_back(cf, queue):
    async def scenario():
        trigger = QueueMessageTrigger(
            queue_id=queue, settle="task", match=f"function:{HERE}.is_even", unmatched="retry"
        )
        payloads = []

        async def watch():
            async for event in trigger.run():
                payloads.append(event.payload)

        watching = asyncio.create_task(watch())
        await until(lambda: payloads and calls(cf, "ack"))
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await trigger.cleanup()
        return payloads

    for number in range(4):
        cf.send(queue, {"n": number})
    payloads = run(scenario())
    assert [[message["body"] for message in payload["messages"]] for payload in payloads] == [[{"n": 0}, {"n": 2}]]
    assert [(len(ack["acks"]), len(ack["retries"])) for ack in calls(cf, "ack")] == [(0, 2)]
    assert states(cf) == ["delayed", "delayed", "leased", "leased"]


@watchers_exist
def test_what_did_not_get_into_an_event_is_given_back_by_cleanup(cf, queue):
    async def scenario():
        trigger = QueueMessageTrigger(queue_id=queue, settle="task", max_event_bytes=1_500)
        events = trigger.run()
        await events.__anext__()
        await trigger.cleanup()

    for number in range(3):
        cf.send(queue, {"n": number})
    run(scenario())
    assert states(cf) == ["leased", "ready", "ready"]


@watchers_exist
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "exactly one of queue_id and queue_name"),
        ({"queue_id": "a", "queue_name": "b"}, "exactly one of queue_id and queue_name"),
        ({"queue_id": "../b"}, "queue_id must be"),
        ({"queue_name": "orders", "settle": "never"}, "settle must be 'event' or 'task'"),
        ({"queue_name": "orders", "unmatched": "drop"}, "unmatched must be"),
        ({"queue_name": "orders", "poll_interval": 0}, "poll_interval must be above 0"),
        ({"queue_name": "orders", "poll_interval": "often"}, "poll_interval must be"),
        ({"queue_name": "orders", "max_event_bytes": 0}, "max_event_bytes must be"),
        ({"queue_name": "orders", "max_in_flight": 0}, "max_in_flight must be"),
        ({"queue_name": "orders", "max_poll_interval": 0}, "max_poll_interval must be above 0 seconds"),
        ({"queue_name": "orders", "poll_interval": 9, "max_poll_interval": 5}, "must not be below poll_interval"),
        ({"queue_name": "orders", "match": "order"}, "must begin with 'literal:'"),
        ({"queue_name": "orders", "batch_size": 0}, "batch_size must be"),
        ({"queue_name": "orders", "delay_seconds": -1}, "delay_seconds must be"),
        ({"queue_name": "orders", "dead_letter_queue": " "}, "dead_letter_queue must be"),
        ({"queue_name": "orders", "dag_ids": []}, "^dag_ids is an empty list"),
        ({"queue_name": "orders", "dag_ids": [1]}, "dag_ids must be a list of the IDs"),
        ({"queue_name": "orders", "run_seconds": -1}, "run_seconds must be"),
        ({"queue_name": "orders", "run_seconds": 300}, "must be below .* shared_stream_ack_timeout"),
        ({"queue_name": "orders", "match": "jsonpath:$.["}, "is not a JSONPath"),
    ],
)
def test_what_cannot_work_is_refused_in_a_way_that_a_triggerer_survives(arguments, text):
    with pytest.raises(ValueError, match=text) as caught:
        QueueMessageTrigger(**{"settle": "task", **arguments})
    assert isinstance(caught.value, TypeError)


@pytest.mark.skipif(not HAS_SHARED_STREAMS, reason="settle='event' came with Airflow 3.3")
def test_a_lease_that_ends_before_airflow_gives_up_storing_is_refused():
    with pytest.raises(ValueError, match=r"visibility_timeout \(300 s\) .* shared_stream_ack_timeout \(300 s\)"):
        QueueMessageTrigger(queue_name="orders", visibility_timeout=300)


@pytest.mark.skipif(not HAS_SHARED_STREAMS, reason="settle='event' came with Airflow 3.3")
def test_a_lease_that_ends_before_a_closing_event_is_due_is_refused():
    arguments = {"queue_name": "orders", "run_seconds": 200}
    with pytest.raises(ValueError, match=r"must be above 5160 s.* 4800 s to create its run .*lower .*run_seconds"):
        QueueMessageTrigger(**arguments, visibility_timeout=5_160)
    QueueMessageTrigger(**arguments)


@pytest.mark.skipif(HAS_SHARED_STREAMS or not HAS_ASSET_WATCHERS, reason="for Airflow 3.0 to 3.2")
def test_before_3_3_settling_on_the_event_is_an_error_that_names_both_ways_out():
    with pytest.raises(ValueError, match=r"needs Airflow 3.3 .* upgrade, or use settle='task' .*event_leases"):
        QueueMessageTrigger(queue_name="orders")


@pytest.mark.skipif(HAS_ASSET_WATCHERS, reason="for Airflow 2")
def test_on_airflow_2_the_error_names_what_to_use_instead():
    with pytest.raises(ValueError, match=r"needs asset watchers, so Airflow 3.0 .* QueueMessageSensor"):
        QueueMessageTrigger(queue_name="orders")
