"""hook.pull over HTTP: leases, their end, bodies of each kind, and the look at the consumer."""

from __future__ import annotations

import base64
import itertools
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_cfqueues.exceptions import QueuePausedError, RateLimitedError


def sent_to(cf, path):
    return [request["body"] for request in cf.requests() if request["path"].endswith(f"/{path}")]


def answer_to_pull(cf, *messages, **result):
    body = {"success": True, "errors": [], "messages": [], "result": {"messages": list(messages), **result}}
    cf.add_fault(path="pull", status=200, body=body)


def test_a_message_has_everything_that_the_api_tells(hook, queue):
    before = datetime.now(timezone.utc)
    hook.send(queue, [{"body": {"n": 1}}])
    pulled = hook.pull(queue, max_messages=10, visibility_timeout=600)
    (message,) = pulled
    assert message.body == {"n": 1}
    assert message.content_type == "json"
    assert message.attempts == 1
    assert len(message.id) == 32
    assert message.lease_id.startswith("eyJ")
    assert message.body_error is None
    assert abs(message.timestamp - before) < timedelta(seconds=30)
    assert timedelta(seconds=590) < message.lease_expires_at - before < timedelta(seconds=630)
    assert pulled.backlog.backlog_count is not None
    assert pulled.messages == (message,)
    assert pulled[0] is message


def test_seconds_are_sent_as_milliseconds(hook, cf, queue):
    hook.pull(queue, max_messages=3, visibility_timeout=1.5)
    hook.pull(queue, max_messages=3)
    assert sent_to(cf, "pull") == [{"batch_size": 3, "visibility_timeout_ms": 1500}, {"batch_size": 3}]


def test_more_than_a_hundred_messages_come_in_several_requests(hook, cf, queue):
    hook.send(queue, [f"{number}" for number in range(230)])
    assert len(hook.pull(queue, max_messages=220)) == 220
    assert [body["batch_size"] for body in sent_to(cf, "pull")] == [100, 100, 20]


def test_up_to_a_hundred_messages_are_one_request_though_fewer_are_there(hook, cf, queue):
    hook.send(queue, ["only one"])
    assert len(hook.pull(queue, max_messages=100)) == 1
    assert len(sent_to(cf, "pull")) == 1


def test_an_empty_answer_ends_a_long_pull(hook, cf, queue):
    hook.send(queue, ["only one"])
    assert len(hook.pull(queue, max_messages=1000)) == 1
    assert len(sent_to(cf, "pull")) == 2


def test_wrong_arguments_are_refused_before_anything_is_sent(hook, cf, queue):
    for arguments in ({"max_messages": 0}, {"max_messages": 1, "visibility_timeout": 43_201}):
        with pytest.raises(ValueError, match="must be"):
            hook.pull(queue, **arguments)
    with pytest.raises(ValueError, match="queue_id"):
        hook.pull("../x", max_messages=1)
    assert cf.requests() == []


def test_bodies_of_each_kind_are_decoded_and_the_undecodable_keep_their_raw_body(hook, cf, queue):
    leases = map(str, itertools.count())

    def item(body, content_type):
        metadata = {} if content_type is None else {"CF-Content-Type": content_type}
        return {"lease_id": next(leases), "attempts": 1, "timestamp_ms": 1, "body": body, "metadata": metadata}

    def base64_of(data):
        return base64.b64encode(data).decode()

    answer_to_pull(
        cf,
        item('{"n": 1}', "json"),
        item(base64_of(b'{"n": 2}'), "json"),
        item("plain", "text"),
        item(base64_of(b"\x00\xff"), "bytes"),
        item(base64_of(b'{"n": 3}'), None),
        item("/w8=", "v8"),
        item("{broken", "json"),
    )
    pulled = hook.pull(queue, max_messages=10)
    assert [message.body for message in pulled] == [{"n": 1}, {"n": 2}, "plain", b"\x00\xff", {"n": 3}, None, None]
    assert [message.raw_body for message in pulled if message.body_error] == ["/w8=", "{broken"]
    assert "Worker" in pulled[5].body_error


def test_undecodable_bodies_are_logged_by_message(hook, cf, queue, logged):
    answer_to_pull(cf, {"id": "odd-one", "lease_id": "l", "body": "x", "metadata": {"CF-Content-Type": "v8"}})
    hook.pull(queue, max_messages=1)
    assert "Message odd-one" in logged()


def test_what_the_api_leaves_out_is_none(hook, cf, queue):
    answer_to_pull(cf, {"lease_id": "l"}, message_backlog_count=7)
    pulled = hook.pull(queue, max_messages=1)
    assert (pulled[0].attempts, pulled[0].timestamp, pulled[0].content_type) == (None, None, None)
    assert pulled.backlog.backlog_count == 7


@pytest.mark.parametrize(
    "odd",
    [
        {"timestamp_ms": "yesterday"},
        {"timestamp_ms": 1e20},
        {"attempts": "many"},
        {"attempts": -1},
        {"metadata": "none"},
        {"metadata": [1]},
        {"id": None},
    ],
)
def test_an_odd_field_hides_neither_its_message_nor_the_others(hook, cf, queue, odd):
    item = {"id": "i", "lease_id": "l1", "body": "x", "metadata": {"CF-Content-Type": "text"}}
    answer_to_pull(cf, {**item, **odd}, {**item, "id": "j", "lease_id": "l2"})
    assert [message.lease_id for message in hook.pull(queue, max_messages=10)] == ["l1", "l2"]


@pytest.mark.parametrize("item", [{"id": "i"}, {"id": "i", "lease_id": None}, {"lease_id": 5}, "text", None])
def test_a_message_without_a_lease_is_logged_and_does_not_hide_the_others(hook, cf, queue, logged, item):
    answer_to_pull(cf, item, {"lease_id": "good"})
    assert [message.lease_id for message in hook.pull(queue, max_messages=10)] == ["good"]
    assert ": 1 message came without a lease ID" in logged()


def test_a_consumer_with_an_impossible_timeout_does_not_stop_pulling(hook, cf, queue):
    consumer = {"type": "http_pull", "settings": {"visibility_timeout_ms": 1e300}}
    cf.add_fault(path="consumers", status=200, body={"success": True, "result": [consumer]})
    hook.send(queue, ["x"])
    assert len(hook.pull(queue, max_messages=1)) == 1


def test_a_lease_ends_as_the_consumer_says(hook, cf, queue):
    hook.send(queue, ["x"])
    (message,) = hook.pull(queue, max_messages=1)
    left = message.lease_expires_at - datetime.now(timezone.utc)
    assert timedelta(seconds=20) < left < timedelta(seconds=31)


def test_the_consumer_is_looked_at_once_and_a_missing_dead_letter_queue_is_said_once(hook, cf, queue, logged):
    hook.pull(queue, max_messages=1)
    hook.pull(queue, max_messages=1)
    assert len(sent_to(cf, "consumers")) == 1
    assert logged().count("has no dead-letter queue") == 1
    assert "DELETES" in logged()


def test_a_pull_works_where_the_consumer_may_not_be_looked_at(hook, cf, queue, logged):
    hook.send(queue, ["x"])
    cf.add_fault(path="consumers", status=403, body={"success": False, "errors": []})
    assert len(hook.pull(queue, max_messages=1)) == 1
    assert "The pull consumer of queue" in logged()


def test_a_later_failure_does_not_hide_the_messages_pulled_before(hook, cf, queue, logged):
    hook.send(queue, [f"{number}" for number in range(150)])
    cf.add_fault(path="pull", delay_ms=0)
    cf.add_fault(path="pull", status=429, headers={"Retry-After": "300"}, body={"success": False, "errors": []})
    pulled = hook.pull(queue, max_messages=150)
    assert len(pulled) == 100
    assert isinstance(pulled.error, RateLimitedError)
    assert "Pulled only 100 messages" in logged()


def test_a_paused_queue_is_told_apart(hook, cf, queue):
    cf.add_fault(
        path="pull", status=409, body={"success": False, "errors": [{"code": 0, "message": "queue_delivery_paused"}]}
    )
    with pytest.raises(QueuePausedError, match="resume-delivery"):
        hook.pull(queue, max_messages=1)


def test_a_message_that_is_printed_shows_its_body_and_no_lease(hook, queue):
    hook.send(queue, ["hello"])
    pulled = hook.pull(queue, max_messages=1)
    assert "body='hello'" in repr(pulled[0])
    assert pulled[0].lease_id not in repr(pulled[0]) + repr(pulled)


def test_a_consumer_that_could_not_be_read_beside_a_pull_is_read_when_it_is_asked_for(hook, cf, queue):
    cf.add_fault(path="consumers", status=500)
    hook.pull(queue, max_messages=1)
    assert hook.get_pull_consumer(queue).max_retries == 3
