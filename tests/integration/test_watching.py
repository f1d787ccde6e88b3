"""Watchers of a queue in Airflow's shared streams: what is settled, when, and in how many requests."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
import requests

pytest.importorskip("airflow.triggers.shared_stream", reason="shared streams came with Airflow 3.3")

from airflow.triggers.base import BaseEventTrigger
from jumping_time import run, until
from watchers import Triggerer

from airflow_provider_cfqueues.engines.watching.events import QueueMessageEvent
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger

NAME = "my-queue"


@pytest.fixture
def cf(cf):
    """An emulator whose queue has a dead-letter queue; attempts are not used up in a test that wants a few."""
    cf.create_queue("failed")
    cf.create_queue("orders", dead_letter_queue="failed", max_retries=3)
    return cf


@pytest.fixture
def queue(cf):
    return cf.queues["orders"]


def calls(cf, path):
    return [request["body"] for request in cf.requests() if request["path"].endswith(f"/{path}")]


def states(cf, queue):
    (found,) = (one for one in cf.state()["queues"] if one["id"] == queue)
    return sorted(message["state"] for message in found["messages"])


def bodies_in(cf, name):
    (found,) = (one for one in cf.state()["queues"] if one["name"] == name)
    return [message["body"] for message in found["messages"]]


def has_met_its_fault(cf):
    """Whether the delayed request has arrived."""
    faults = cf.base_url.replace("/client/v4", "/_emulator/faults")
    return requests.post(faults, json=[], timeout=10).json()["faults"] == []


def is_even(message):
    return message.body["n"] % 2 == 0


def fails(message):
    raise RuntimeError("cannot say")


HERE = __name__


def test_a_message_is_acked_once_its_event_is_stored_and_never_before(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        triggerer.stores = False
        watcher = triggerer.watch(queue_name="orders")
        await until(lambda: triggerer._unconfirmed)
        await asyncio.sleep(60)
        assert calls(cf, "ack") == []
        triggerer.stores = True
        triggerer._store()
        await until(lambda: calls(cf, "ack"))
        await triggerer.stop()
        return triggerer.bodies(watcher)

    for number in range(3):
        cf.send(queue, {"n": number})
    assert run(scenario()) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert states(cf, queue) == []


def test_acks_and_retries_of_a_pull_go_in_one_request(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        watcher = triggerer.watch(queue_name="orders", match=f"function:{HERE}.is_even", delay_seconds=30)
        await until(lambda: len(triggerer.bodies(watcher)) == 5 and calls(cf, "ack"))
        await triggerer.stop()

    for number in range(10):
        cf.send(queue, {"n": number})
    run(scenario())
    (ack,) = calls(cf, "ack")
    assert (len(ack["acks"]), len(ack["retries"])) == (5, 5)
    assert {retry["delay_seconds"] for retry in ack["retries"]} == {30}
    assert states(cf, queue) == ["delayed"] * 5


@pytest.mark.parametrize(("unmatched", "left", "copied"), [("ack", [], 0), ("dead_letter", [], 1)])
def test_a_message_that_nobody_wants_goes_where_it_was_said(cf, queue, unmatched, left, copied):
    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name="orders", match="literal:other", unmatched=unmatched)
        await until(lambda: calls(cf, "ack"))
        await triggerer.stop()

    cf.send(queue, {"n": 1})
    run(scenario())
    assert states(cf, queue) == left
    assert len(bodies_in(cf, "failed")) == copied


@pytest.mark.parametrize("unmatched", ["ack", "dead_letter"])
def test_watchers_that_begin_together_are_all_there_before_a_message_that_none_wants_is_gone(cf, queue, unmatched):
    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name="orders", match="literal:a", unmatched=unmatched)
        await asyncio.sleep(5)
        late = triggerer.watch(queue_name="orders", match="literal:b", unmatched=unmatched)
        await until(lambda: not states(cf, queue))
        await triggerer.stop()
        return triggerer.bodies(late)

    cf.send(queue, "b", content_type="text")
    assert run(scenario()) == ["b"]
    assert bodies_in(cf, "failed") == []


def test_before_cloudflare_deletes_a_message_that_no_watcher_wants_it_is_dead_lettered(cf, logged):
    queue = cf.queues[NAME]

    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name=NAME, match="literal:other", delay_seconds=0, dead_letter_queue="failed")
        await until(lambda: not states(cf, queue))
        await triggerer.stop()

    cf.send(queue, {"n": 1})
    run(scenario())
    (copy,) = (json.loads(body) if isinstance(body, str) else body for body in bodies_in(cf, "failed"))
    assert copy["reason"] == "delivered 3 times; no watcher wants it"
    assert copy["attempts"] == 3
    assert "no watcher wants it" in logged()


def test_a_match_pulls_nothing_from_a_queue_that_would_delete_what_it_does_not_want(cf, logged):
    queue = cf.queues[NAME]
    cf.send(queue, {"n": 1})

    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name=NAME, match="literal:other", delay_seconds=0)
        await until(lambda: len(calls(cf, "consumers")) > 1)
        await triggerer.stop()

    run(scenario())
    assert calls(cf, "pull") == []
    assert "With match, Cloudflare would delete messages that do not match" in logged()


def test_a_watcher_may_choose_that_cloudflare_deletes_what_no_watcher_wants(cf, logged):
    queue = cf.queues[NAME]
    cf.send(queue, {"n": 1})

    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name=NAME, match="literal:other", delay_seconds=0, unmatched="retry")
        await until(lambda: len(calls(cf, "ack")) == 3)
        await triggerer.stop()

    run(scenario())
    text = logged()
    assert "delivered 3 times: Cloudflare DELETES it now, or after its next delivery" in text
    assert "delivered 2 times" not in text


def test_a_message_that_is_too_large_for_a_dead_letter_goes_there_bare_at_its_last_delivery(cf):
    queue, large = cf.queues[NAME], "x" * 127_850
    cf.send(queue, large, content_type="text")

    async def scenario():
        triggerer = Triggerer()
        watched = {"match": "literal:other", "delay_seconds": 0, "unmatched": "retry", "dead_letter_queue": "failed"}
        triggerer.watch(queue_name=NAME, **watched)
        await until(lambda: not states(cf, queue))
        await triggerer.stop()

    run(scenario())
    assert bodies_in(cf, "failed") == [large]


def test_a_message_whose_copies_are_refused_stays_leased_at_its_last_delivery(cf, logged):
    queue = cf.queues[NAME]
    cf.send(queue, {"n": 1})
    cf.add_fault("batch", status=404, body={"success": False, "errors": [{"code": 11000, "message": "gone"}]}, times=99)

    async def scenario():
        triggerer = Triggerer()
        watched = {"match": "literal:other", "delay_seconds": 0, "dead_letter_queue": "failed"}
        triggerer.watch(queue_name=NAME, **watched)
        await until(lambda: len([call for call in cf.requests() if call["path"].endswith("/batch")]) >= 4)
        await triggerer.stop()

    run(scenario())
    assert states(cf, queue) == ["leased"]
    assert "it could not be copied: Cloudflare may DELETE it when its lease ends" in logged()


def test_a_message_that_stays_leased_is_named_also_if_the_retry_of_another_fails(cf, logged):
    queue = cf.queues[NAME]
    cf.send(queue, {"n": 1})
    cf.add_fault("batch", status=404, body={"success": False, "errors": [{"code": 11000, "message": "gone"}]}, times=99)

    async def scenario():
        triggerer = Triggerer()
        watched = {"match": "literal:other", "delay_seconds": 60, "dead_letter_queue": "failed"}
        triggerer.watch(queue_name=NAME, **watched)
        for count in (1, 2):
            await until(lambda count=count: len(calls(cf, "ack")) == count)
            if count == 2:  # the third delivery comes with the first one of another
                cf.send(queue, {"n": 2})
                cf.add_fault("ack", status=403, body={"success": False, "errors": []}, times=99)
            cf.advance(61)
        await until(lambda: len(calls(cf, "ack")) > 2)
        await triggerer.stop()

    run(scenario())
    assert "it could not be copied: Cloudflare may DELETE it when its lease ends" in logged()


def test_a_message_that_a_match_fails_for_is_dead_lettered_with_the_reason(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        watcher = triggerer.watch(queue_name="orders", match=f"function:{HERE}.fails")
        await until(lambda: not states(cf, queue))
        await triggerer.stop()
        return triggerer.events[watcher]

    cf.send(queue, {"n": 1})
    assert run(scenario()) == []
    (copy,) = (json.loads(body) if isinstance(body, str) else body for body in bodies_in(cf, "failed"))
    assert "RuntimeError: cannot say" in copy["reason"]


def test_an_event_that_is_not_stored_in_time_brings_its_message_back(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        triggerer.stores = False
        triggerer.watch(queue_name="orders")
        await until(lambda: calls(cf, "ack"))
        await triggerer.stop()
        return triggerer.errors

    cf.send(queue, {"n": 1})
    (error,) = run(scenario())
    assert type(error).__name__ == "AckTimeout"
    (ack,) = calls(cf, "ack")
    assert (len(ack["acks"]), len(ack["retries"])) == (0, 1)


def test_a_watcher_cancelled_before_airflow_took_its_event_over_acks_nothing(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        triggerer.takes.clear()
        watcher = triggerer.watch(queue_name="orders")
        other = triggerer.watch(queue_name="orders", match="literal:other")
        await until(lambda: calls(cf, "pull"))
        await asyncio.sleep(15)
        await triggerer.cancel(watcher)
        await until(lambda: calls(cf, "ack"))
        await triggerer.stop()
        return triggerer.events[watcher] + triggerer.events[other]

    cf.send(queue, {"n": 1})
    assert run(scenario()) == []
    (ack,) = calls(cf, "ack")
    assert (len(ack["acks"]), len(ack["retries"])) == (0, 1)


@pytest.mark.parametrize("end", ["watcher", "triggerer"])
def test_what_ends_before_an_event_is_stored_gives_its_messages_back(cf, queue, logged, end):
    async def scenario():
        triggerer = Triggerer()
        triggerer.stores = False
        watcher = triggerer.watch(queue_name="orders")
        await until(lambda: triggerer._unconfirmed)
        await (triggerer.cancel(watcher) if end == "watcher" else triggerer.stop())

    cf.send(queue, {"n": 1})
    run(scenario())
    (ack,) = calls(cf, "ack")
    assert [retry["delay_seconds"] for retry in ack["retries"]] == [60]
    assert states(cf, queue) == ["delayed"]
    assert "because the watcher stops before Airflow confirmed that the event is stored" in logged()


def test_an_event_that_airflow_takes_while_it_ends_and_does_not_wait_for_acks_nothing(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        triggerer.stores = False
        triggerer.takes.clear()
        triggerer.watch(queue_name="orders")
        await until(lambda: calls(cf, "pull"))
        await asyncio.sleep(15)
        ending = asyncio.create_task(triggerer.stop())
        triggerer.takes.set()
        await ending
        return [seq for _, _, seq in triggerer._unconfirmed]

    cf.send(queue, {"n": 1})
    assert run(scenario()) == [None]
    (ack,) = calls(cf, "ack")
    assert (len(ack["acks"]), len(ack["retries"])) == (0, 1)


def test_a_stream_that_has_room_again_as_its_last_watcher_is_cancelled_ends(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        triggerer.takes.clear()
        watcher = triggerer.watch(queue_name="orders", max_in_flight=1)
        await until(lambda: calls(cf, "pull"))
        await asyncio.sleep(15)
        ending = asyncio.create_task(triggerer.cancel(watcher))
        await asyncio.sleep(30)
        return ending.done()

    cf.send(queue, {"n": 1})
    assert run(scenario())
    assert len(calls(cf, "pull")) == 1


def test_messages_of_a_pull_under_way_are_given_back_at_the_end(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name="orders")
        await until(lambda: has_met_its_fault(cf))
        await triggerer.stop()
        assert triggerer.events[1] == []

    cf.send(queue, {"n": 1})
    cf.add_fault("pull", delay_ms=300)
    run(scenario())
    (ack,) = calls(cf, "ack")
    assert [retry["delay_seconds"] for retry in ack["retries"]] == [0]
    assert states(cf, queue) == ["ready"]


def test_a_watcher_that_is_cancelled_twice_gives_back_what_it_pulled(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        watcher = triggerer.watch(queue_name="orders")
        await until(lambda: has_met_its_fault(cf))
        ending = asyncio.create_task(triggerer.cancel(watcher))
        await asyncio.sleep(0.05)
        await triggerer.cancel(watcher)
        await ending

    cf.send(queue, {"n": 1})
    cf.add_fault("pull", delay_ms=1_000)
    run(scenario())
    (ack,) = calls(cf, "ack")
    assert [retry["delay_seconds"] for retry in ack["retries"]] == [0]


def test_watchers_of_a_queue_share_one_poll_and_are_told_what_has_no_effect(cf, queue, logged):
    async def scenario():
        triggerer = Triggerer()
        watchers = [
            triggerer.watch(queue_name="orders", match=f"literal:{name}", poll_interval=wait)
            for name, wait in (("a", 1), ("b", 1), ("c", 5))
        ]
        await until(lambda: all(triggerer.events[watcher] for watcher in watchers))
        pulls = len(calls(cf, "pull"))
        await until(lambda: not states(cf, queue))
        await triggerer.stop()
        return pulls, [triggerer.bodies(watcher) for watcher in watchers]

    for name in ("a", "b", "c"):
        cf.send(queue, name, content_type="text")
    pulls, bodies = run(scenario())
    assert bodies == [["a"], ["b"], ["c"]]
    assert pulls <= 2
    assert "no effect: poll_interval=5.0 (the stream has 1.0)" in logged()


def test_a_lease_that_a_dag_settles_is_left_alone(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        watcher = triggerer.watch(
            queue_name="orders", settle="task", match=f"function:{HERE}.is_even", visibility_timeout=600
        )
        await until(lambda: triggerer.events[watcher] and calls(cf, "ack"))
        await triggerer.stop()
        return triggerer.events[watcher]

    cf.send(queue, {"n": 1})
    cf.send(queue, {"n": 2})
    (payload,) = run(scenario())
    (ack,) = calls(cf, "ack")
    assert (len(ack["acks"]), len(ack["retries"])) == (0, 1)
    assert states(cf, queue) == ["delayed", "leased"]
    assert payload["messages"][0]["body"] == {"n": 2}
    assert datetime.fromisoformat(payload["messages"][0]["lease_expires_at"]) > datetime.now(timezone.utc) + timedelta(
        seconds=500
    )


@pytest.mark.parametrize("settle", ["event", "task"])
def test_no_more_than_max_in_flight_are_leased(cf, queue, settle):
    async def scenario():
        triggerer = Triggerer()
        triggerer.stores = False
        triggerer.watch(queue_name="orders", settle=settle, max_in_flight=5, batch_size=3)
        await until(lambda: triggerer._unconfirmed)
        await asyncio.sleep(250)
        await triggerer.stop()

    for number in range(9):
        cf.send(queue, {"n": number})
    run(scenario())
    assert [pull["batch_size"] for pull in calls(cf, "pull")] == [3, 2]


def test_settling_is_repeated_while_the_api_fails(cf, queue, logged):
    async def scenario():
        triggerer = Triggerer()
        watcher = triggerer.watch(queue_name="orders")
        await until(lambda: not states(cf, queue))
        await triggerer.stop()
        return triggerer.errors, triggerer.bodies(watcher)

    cf.send(queue, {"n": 1})
    cf.add_fault("ack", status=401, times=25)
    assert run(scenario()) == ([], [{"n": 1}])
    assert len(calls(cf, "ack")) == 26
    assert logged().count("given back") == 1
    assert "Trying again to settle messages of queue orders" in logged()


def test_what_is_not_settled_at_the_end_is_logged_with_the_reason(cf, queue, logged):
    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name="orders")
        await until(lambda: calls(cf, "ack"))
        await triggerer.stop()

    cf.send(queue, {"n": 1})
    cf.add_fault("ack", status=503, times=25)
    run(scenario())
    assert "Trying again to settle messages of queue orders: no answer in time" in logged()
    assert re.search(r"Could not settle 1 message of queue orders .* \(no answer in time\)", logged())


@pytest.mark.parametrize(
    ("unmatched", "does"), [("retry", "give back"), ("ack", "delete"), ("dead_letter", "dead-letter")]
)
def test_a_watcher_that_wants_some_messages_says_what_several_triggerers_would_do(cf, queue, logged, unmatched, does):
    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name="orders", match="literal:a", unmatched=unmatched)
        await until(lambda: calls(cf, "pull"))
        await triggerer.stop()

    run(scenario())
    assert f"in one triggerer: in several, they {does} each other's messages" in logged()


def test_a_failure_is_logged_once_with_the_remedy_and_the_connection_is_read_anew(cf, queue, connect, logged):
    async def scenario():
        triggerer = Triggerer()
        watcher = triggerer.watch(queue_name="orders")
        await asyncio.sleep(1_800)
        failed = len(cf.requests())
        connect(cf)
        await until(lambda: triggerer.events[watcher])
        await triggerer.stop()
        return failed

    cf.send(queue, {"n": 1})
    connect(cf, password="expired-token")
    failed = run(scenario())
    text = logged()
    assert 30 <= failed <= 60
    assert text.count("Queue orders cannot be pulled from") == 1
    assert "Check the API token" in text
    assert "expired-token" not in text
    assert "Queue orders can be pulled from again" in text


@pytest.mark.parametrize(("status", "looks"), [(404, 2), (429, 1)])
def test_a_queue_is_looked_up_again_only_where_that_may_help(cf, queue, logged, status, looks):
    async def scenario():
        triggerer = Triggerer()
        watcher = triggerer.watch(queue_name="orders")
        await until(lambda: triggerer.events[watcher])
        await triggerer.stop()

    cf.send(queue, {"n": 1})
    cf.add_fault("pull", status=status, headers={"retry-after": "90"})
    run(scenario())
    assert len(calls(cf, "consumers")) == looks
    assert logged().count("Queue orders cannot be pulled from") == 1


def test_a_queue_that_is_not_enabled_for_pull_is_asked_less_and_less_often(cf, logged):
    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name="orders", poll_interval=0.5)
        await asyncio.sleep(3_600)
        await triggerer.stop()

    cf.add_fault("pull", status=405, times=1_000, body={"success": False, "errors": [{"code": 0, "message": "no"}]})
    run(scenario())
    assert 60 <= len(calls(cf, "pull")) <= 70
    assert logged().count("Queue orders cannot be pulled from") == 1


def test_a_queue_without_a_pull_consumer_is_said_once(cf, logged):
    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name="bare")
        await asyncio.sleep(3_600)
        await triggerer.stop()

    CloudflareQueuesHook().create_queue("bare")
    run(scenario())
    assert logged().count("Queue bare cannot be pulled from") == 1
    assert logged().count("The pull consumer of queue bare could not be read") == 1


def test_a_long_retry_after_is_waited_for(cf):
    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name="orders")
        await asyncio.sleep(299)
        await triggerer.stop()

    cf.add_fault("pull", status=429, headers={"retry-after": "300"}, times=1_000)
    run(scenario())
    assert len(calls(cf, "pull")) == 1


@pytest.mark.parametrize(("longest", "pulls_per_day"), [(10, 8_645), (60, 1_446), (300, 297)])
def test_an_idle_queue_is_pulled_as_often_as_the_documentation_says(cf, longest, pulls_per_day):
    hours = 1 if longest < 300 else 6

    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name="orders", max_poll_interval=longest)
        await until(lambda: calls(cf, "pull"))
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(3_600 * hours - (asyncio.get_running_loop().time() - began))
        await triggerer.stop()

    run(scenario())
    steady = 3_600 * hours // longest
    assert 0.95 * steady <= len(calls(cf, "pull")) <= 1.05 * steady + 8
    assert abs(pulls_per_day - 86_400 / longest) <= 10


def test_messages_that_nobody_wants_and_that_are_given_back_without_delay_are_not_pulled_again_at_once(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        unwanted = {"match": "literal:other", "unmatched": "retry", "delay_seconds": 0}
        triggerer.watch(queue_name="orders", max_in_flight=1, **unwanted)
        await asyncio.sleep(20)
        await triggerer.stop()

    CloudflareQueuesHook().update_pull_consumer(queue, consumer_max_retries=100)
    cf.send(queue, {"n": 1})
    run(scenario())
    assert 10 <= len(calls(cf, "pull")) <= 30


def test_pulls_do_not_keep_time_with_a_triggerer_that_sends_events_once_a_second(cf):
    """Pulls that do may all come just after it has sent: each message waits another second."""
    quarters = []

    async def scenario():
        triggerer = Triggerer()
        triggerer.watch(queue_name="orders", poll_interval=1, max_poll_interval=1)
        for tick in range(4 * 200):
            await asyncio.sleep(0.25)
            if len(calls(cf, "pull")) > len(quarters):
                quarters.append(tick % 4)
        await triggerer.stop()

    run(scenario())
    moves = sum(one != next_one for one, next_one in pairwise(quarters))
    assert 180 <= len(quarters) <= 220
    assert moves >= 15


def test_neither_log_nor_event_shows_more_than_ids(cf, queue, logged):
    async def scenario():
        triggerer = Triggerer()
        watcher = triggerer.watch(queue_name="orders")
        await until(lambda: triggerer.events[watcher])
        await triggerer.stop()
        return triggerer.events[watcher][0]

    cf.send(queue, {"card": "4111-1111"})
    payload = run(scenario())
    event = QueueMessageEvent(payload)
    message_id, lease_id = payload["messages"][0]["id"], payload["messages"][0]["lease_id"]
    for text in (repr(event), str(event), logged()):
        assert "4111" not in text
        assert lease_id not in text
        assert cf.api_token not in text
    assert message_id in repr(event)


def test_an_event_holds_what_a_pull_gives_or_only_ids_and_leases(cf, queue):
    async def scenario(include_body):
        triggerer = Triggerer()
        watcher = triggerer.watch(queue_id=queue, include_body=include_body)
        await until(lambda: triggerer.events[watcher])
        await triggerer.stop()
        return triggerer.events[watcher][0]

    cf.send(queue, {"n": 1})
    whole = run(scenario(True))
    assert set(whole) == {"queue_id", "queue_name", "pulled_at", "backlog_count", "messages"}
    assert set(whole["messages"][0]) == {
        *("id", "lease_id", "body", "attempts", "timestamp", "content_type", "metadata", "lease_expires_at")
    }
    assert (whole["queue_id"], whole["queue_name"]) == (queue, None)
    assert repr(QueueMessageEvent(whole)).startswith(f"QueueMessageEvent<queue {queue}, ")
    cf.send(queue, {"n": 2})
    short = run(scenario(False))
    assert set(short["messages"][0]) == {"id", "lease_id", "attempts", "timestamp", "content_type", "lease_expires_at"}


def test_a_message_too_large_for_an_event_is_not_acked_but_dead_lettered(cf, queue):
    async def scenario():
        triggerer = Triggerer()
        watcher = triggerer.watch(queue_name="orders", max_event_bytes=2_000)
        await until(lambda: not states(cf, queue))
        await triggerer.stop()
        return triggerer.events[watcher]

    cf.send(queue, {"text": "x" * 3_000})
    assert run(scenario()) == []
    (copy,) = bodies_in(cf, "failed")
    assert "max_event_bytes=2000" in str(copy)


def test_equal_watchers_have_one_hash_whatever_airflow_did_to_their_arguments(cf):
    arguments = {"queue_name": "orders", "match": ["literal:a", "literal:b"], "visibility_timeout": 900}
    classpath, kwargs = QueueMessageTrigger(**arguments).serialize()
    stored = json.loads(json.dumps(kwargs))
    again = QueueMessageTrigger(**stored).serialize()
    assert BaseEventTrigger.hash(classpath, kwargs) == BaseEventTrigger.hash(*again)
    assert QueueMessageTrigger(**stored).shared_stream_key() == QueueMessageTrigger(**arguments).shared_stream_key()
