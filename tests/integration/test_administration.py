"""The hook's calls about queues, consumers and purges, sync and async, over HTTP against the emulator."""

from __future__ import annotations

import pytest

from airflow_provider_cfqueues.client import administration
from airflow_provider_cfqueues.client.flow import Known
from airflow_provider_cfqueues.client.transport import Client, RepeatPolicy
from airflow_provider_cfqueues.exceptions import (
    AlreadyExistsError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    QueuePausedError,
    ServerError,
)
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Consumer, PurgeStatus

NOT_ENABLED = {
    "success": False,
    "errors": [{"code": 0, "message": "messages cannot be pulled unless http_pull mode is enabled"}],
}


def test_a_look_at_messages_leases_none(cf, hook, queue):
    hook.send(queue, ["a", {"b": 1}])
    cf.send(queue, "AP8=", content_type="bytes")
    first, second = hook.peek(queue), hook.peek(queue)
    assert [message.body for message in first] == ["a", {"b": 1}, b"\x00\xff"]
    assert [message.id for message in first] == [message.id for message in second]
    assert {message.attempts for message in second} == {0}
    assert all(message.ref for message in first)
    assert len(hook.pull(queue, max_messages=10)) == 3


def test_a_look_shows_as_many_as_asked_for_and_what_could_not_be_decoded(cf, hook, queue):
    cf.send(queue, "/w8=", content_type="v8")
    hook.send(queue, ["a", "b"])
    (message,) = hook.peek(queue, max_messages=1)
    plain = message.to_xcom()
    assert list(plain) == [
        "id", "body", "attempts", "timestamp", "content_type", "metadata", "raw_body", "body_error",
    ]  # fmt: skip
    assert (plain["body"], plain["raw_body"]) == (None, "/w8=")
    with pytest.raises(ValueError, match="from 1 to 100, not 101"):
        hook.peek(queue, max_messages=101)


def test_a_queue_is_created_read_and_deleted(cf, hook):
    created = hook.create_queue("new", delivery_delay=5, message_retention_period="3600")
    assert [request["method"] for request in cf.requests()] == ["POST"]
    assert hook.get_queue_id("new") == created.queue_id == cf.queues["new"]
    found = hook.get_queue(created.queue_id)
    assert found.settings == {"delivery_delay": 5, "delivery_paused": False, "message_retention_period": 3600}
    assert (found.consumers_total_count, hook.get_queue(cf.queues["my-queue"]).consumers_total_count) == (0, 1)
    hook.delete_queue(created.queue_id)
    assert "new" not in cf.queues
    with pytest.raises(NotFoundError, match="no queue named 'new'"):
        hook.get_queue_id("new")


def test_a_name_that_is_taken_is_told_apart_from_a_paused_queue(hook):
    with pytest.raises(AlreadyExistsError, match="already taken"):
        hook.create_queue("my-queue")


@pytest.mark.parametrize("lost", [{"drop": "after"}, {"truncate": True}])
def test_a_queue_whose_answer_was_lost_is_created(cf, hook, logged, lost):
    cf.add_fault("queues", **lost)
    assert hook.create_queue("new", delivery_delay=5).queue_id == cf.queues["new"] == hook.get_queue_id("new")
    assert "The answer to the creation of queue 'new' was lost" in logged()


UNKNOWN = {"status": 500, "body": {"success": False, "errors": [{"code": 15000, "message": "Unknown"}]}}


def test_a_queue_that_was_there_before_a_lost_answer_is_not_taken_for_its_result(cf, hook, queue):
    cf.add_fault("queues", **UNKNOWN)
    old = {"queue_id": queue, "queue_name": "my-queue", "created_on": "2026-01-01T00:00:00Z", "settings": {}}
    cf.add_fault(queue, status=200, body={"success": True, "result": old})
    with pytest.raises(AlreadyExistsError):
        hook.create_queue("my-queue")


def test_a_queue_with_other_settings_than_wanted_is_not_taken_for_the_result_of_a_lost_answer(cf, hook):
    cf.add_fault("queues", **UNKNOWN)
    with pytest.raises(AlreadyExistsError):
        hook.create_queue("my-queue", delivery_delay=5)


def test_an_answer_from_elsewhere_that_made_no_queue_is_told_as_what_it_is(cf, hook):
    cf.add_fault("queues", status=200, body="<html>log in</html>")
    with pytest.raises(MalformedResponseError):
        hook.create_queue("new")
    assert "new" not in cf.queues


def test_a_deletion_whose_answer_was_lost_is_done(cf, hook, queue):
    cf.add_fault(queue, drop="after")
    hook.delete_queue(queue)
    assert cf.queues == {}
    with pytest.raises(NotFoundError):
        hook.delete_queue(queue)


@pytest.mark.parametrize("code", [11005, 11017])
def test_a_queue_in_use_is_not_deleted_whatever_the_status(cf, hook, queue, code):
    body = {"success": False, "errors": [{"code": code, "message": "in use by the Worker 'shop'"}]}
    cf.add_fault(queue, status=409, body=body)
    with pytest.raises(InvalidRequestError, match="in use by the Worker 'shop'"):
        hook.delete_queue(queue)


def test_delivery_is_paused_and_resumed_with_the_other_settings_kept(hook, queue):
    hook.update_queue(queue, delivery_delay=7)
    assert hook.pause_delivery(queue).settings["delivery_paused"] is True
    with pytest.raises(QueuePausedError):
        hook.pull(queue, max_messages=1)
    resumed = hook.resume_delivery(queue)
    assert (resumed.settings["delivery_paused"], resumed.settings["delivery_delay"]) == (False, 7)
    assert len(hook.pull(queue, max_messages=1)) == 0


def test_a_purge_deletes_all_messages_and_tells_when_it_is_done(hook, queue):
    assert hook.get_purge_status(queue) == PurgeStatus(completed=False)
    hook.send(queue, ["a", {"body": "b", "delay_seconds": 60}])
    hook.purge(queue)
    status = hook.get_purge_status(queue)
    assert status.completed
    assert status.started_at
    assert hook.get_metrics(queue).backlog_count == 0


@pytest.mark.parametrize(
    ("result", "completed"),
    [
        ({"completed": "true"}, True),
        ({"completed": True}, True),
        ({"completed": "2026-11-22T17:00:00Z"}, True),
        ({"complete": True}, True),
        ({"completed": "false"}, False),
        ({"completed": ""}, False),
        ({"completed": None}, False),
        ({"completed": "in progress"}, False),
        ({}, False),
        (None, False),
    ],
)
def test_a_purge_is_done_only_where_the_api_says_so(cf, hook, queue, result, completed):
    cf.add_fault("purge", status=200, body={"success": True, "result": result})
    assert hook.get_purge_status(queue).completed is completed


def test_a_pull_consumer_is_created_listed_and_changed(cf, hook):
    queue = hook.create_queue("new").queue_id
    assert hook.list_consumers(queue) == []
    created = hook.create_pull_consumer(
        queue, consumer_max_retries="5", visibility_timeout=90, dead_letter_queue="failed"
    )
    assert (created.max_retries, created.visibility_timeout, created.dead_letter_queue) == (5, 90, "failed")
    changed = hook.update_pull_consumer(queue, batch_size=20, consumer_retry_delay=3)
    assert (changed.batch_size, changed.retry_delay) == (20, 3)
    assert (changed.max_retries, changed.visibility_timeout, changed.dead_letter_queue) == (5, 90, "failed")
    assert hook.list_consumers(queue) == [changed]
    with pytest.raises(AlreadyExistsError):
        hook.create_pull_consumer(queue)


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [(1_500, 1.5), (43_200_000, 43_200), (43_200_001, None), (0, None), (-1, None), ("1", None), (None, None)],
)
def test_a_visibility_timeout_that_the_api_does_not_have_counts_as_not_reported(cf, hook, queue, milliseconds, seconds):
    consumer = {"type": "http_pull", "settings": {"visibility_timeout_ms": milliseconds}}
    cf.add_fault("consumers", status=200, body={"success": True, "result": [consumer]})
    assert hook.list_consumers(queue)[0].visibility_timeout == seconds


@pytest.mark.parametrize("lost", [False, True])
def test_a_pull_consumer_is_deleted_once_and_the_messages_stay(cf, hook, queue, lost):
    hook.send(queue, ["a"])
    assert hook.get_pull_consumer(queue) is not None
    (consumer,) = hook.list_consumers(queue)
    if lost:
        cf.add_fault(consumer.consumer_id, drop="after")
    hook.delete_pull_consumer(queue)
    assert hook.list_consumers(queue) == []
    assert hook.get_pull_consumer(queue) is None
    assert hook.get_metrics(queue).backlog_count == 1


def test_a_consumer_that_somebody_else_deleted_meanwhile_cannot_be_deleted(cf, hook, queue):
    (consumer,) = hook.list_consumers(queue)
    cf.add_fault(consumer.consumer_id, status=404, body={"success": False, "errors": []})
    with pytest.raises(NotFoundError):
        hook.delete_pull_consumer(queue)


def test_a_consumer_that_is_not_there_can_be_neither_changed_nor_deleted(hook):
    queue = hook.create_queue("new").queue_id
    with pytest.raises(NotFoundError, match="no pull consumer"):
        hook.update_pull_consumer(queue, batch_size=20)
    with pytest.raises(NotFoundError, match="no pull consumer"):
        hook.delete_pull_consumer(queue)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 101},
        {"consumer_max_retries": -1},
        {"consumer_max_retries": 1.5},
        {"consumer_retry_delay": 86_401},
    ],
)
def test_settings_out_of_range_are_refused_before_a_request(cf, hook, queue, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        hook.ensure_pull_consumer(queue, **settings)
    assert cf.requests() == []


def test_a_wanted_consumer_is_created_and_tried_out_until_the_api_lets_it_pull(cf, hook):
    queue = hook.create_queue("new").queue_id
    hook.send(queue, ["a"])
    cf.add_fault("pull", status=405, body=NOT_ENABLED)
    settings = {"consumer_max_retries": 3, "consumer_retry_delay": 600, "dead_letter_queue": "failed"}
    ensured = hook.ensure_pull_consumer(queue, **settings)
    assert (ensured.action, ensured.untried) == ("created", None)
    assert (ensured.consumer.max_retries, ensured.consumer.dead_letter_queue) == (3, "failed")
    assert [request["status"] for request in cf.requests() if request["path"].endswith("/pull")] == [405, 200]
    (message,) = hook.pull(queue, max_messages=1)  # given back at once, whatever the consumer's delay is
    assert message.attempts == 2


def test_a_new_consumer_is_not_tried_out_on_a_message_that_it_could_cost_its_last_delivery_but_given_time(cf):
    hook = CloudflareQueuesHook()
    queue = hook.create_queue("new").queue_id
    hook.send(queue, ["a"])
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    client = Client(hook.get_conn().settings, sleep=sleep)
    wanted = Consumer(type="http_pull", max_retries=1)
    for action in ("created", "unchanged"):
        ensured = client.run(administration.ensure_pull_consumer(queue, wanted, Known()))
        assert ensured.action == action
        assert "the next message may have only one delivery left" in ensured.untried
    client.close()
    assert (waits[0], waits[1] < 30) == (30, True)
    assert [message.attempts for message in hook.pull(queue, max_messages=1)] == [1]


def test_a_look_that_fails_for_long_is_no_reason_to_pull_what_may_be_a_last_delivery(cf, queue):
    client = Client(CloudflareQueuesHook().get_conn().settings, policy=RepeatPolicy(max_seconds=0))
    cf.add_fault("peek", status=500, body={"success": False, "errors": []})
    with pytest.raises(ServerError):
        client.run(administration.ensure_pull_consumer(queue, Consumer(type="http_pull"), Known()))
    client.close()
    assert [request for request in cf.requests() if request["path"].endswith("/pull")] == []


@pytest.mark.parametrize(("status", "code"), [(403, 10000), (404, 7003), (405, 7001)])
def test_where_nobody_may_peek_a_new_consumer_is_given_time_as_a_pull_could_cost_a_message(cf, hook, status, code):
    queue = hook.create_queue("new").queue_id
    hook.create_pull_consumer(queue, consumer_max_retries=3)
    hook.send(queue, ["a"])
    for _ in range(3):
        hook.ack(queue, retries=[(hook.pull(queue, max_messages=1)[0].lease_id, 0)])
    hook.delete_pull_consumer(queue)
    cf.add_fault("peek", status=status, body={"success": False, "errors": [{"code": code, "message": "no"}]})
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    client = Client(hook.get_conn().settings, sleep=sleep)
    ensured = client.run(administration.ensure_pull_consumer(queue, Consumer(type="http_pull", max_retries=3), Known()))
    client.close()
    assert (ensured.action, waits) == ("created", [30])
    assert "may have only one delivery left" in ensured.untried
    assert [message.body for message in hook.peek(queue)] == ["a"]


def test_the_consumer_of_a_paused_queue_is_made_and_not_waited_for(cf, hook, logged):
    queue = hook.create_queue("new").queue_id
    hook.pause_delivery(queue)
    assert "delivery from the queue is paused" in hook.ensure_pull_consumer(queue).untried
    assert "was not test-pulled: delivery from the queue is paused" in logged()
    assert len(hook.list_consumers(queue)) == 1


def test_a_message_that_tried_a_consumer_out_and_could_not_be_given_back_fails_nothing(cf, hook, logged):
    queue = hook.create_queue("new").queue_id
    hook.send(queue, ["a"])
    cf.add_fault("ack", status=403, body={"success": False, "errors": []})
    assert hook.ensure_pull_consumer(queue).untried is None
    assert "could not give its message back, so it is delivered again when its lease ends" in logged()


def test_a_setting_that_is_none_is_named_by_python(hook, queue):
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_retry'"):
        hook.ensure_pull_consumer(queue, max_retry=3)


def test_a_fraction_of_a_second_is_rounded_up(cf, hook):
    settings = hook.create_queue("new", delivery_delay=4.2, message_retention_period="61.5").settings
    assert (settings["delivery_delay"], settings["message_retention_period"]) == (5, 62)


@pytest.mark.parametrize("created", [{"created_on": "2026-01-01T00:00:00Z"}, {}], ids=["old", "of unknown age"])
def test_a_wanted_consumer_that_is_there_is_left_alone_and_nothing_is_pulled(cf, hook, queue, created):
    hook.send(queue, ["a"])
    old = {"type": "http_pull", "consumer_id": "c", "settings": {"max_retries": 3}, **created}
    cf.add_fault("consumers", status=200, body={"success": True, "result": [old]}, times=2)
    assert hook.ensure_pull_consumer(queue).action == "unchanged"
    assert hook.ensure_pull_consumer(queue, consumer_max_retries="3").action == "unchanged"
    assert {request["method"] for request in cf.requests()} == {"POST", "GET"}
    assert hook.peek(queue)[0].attempts == 0


def test_a_consumer_with_other_settings_is_changed(hook, queue):
    ensured = hook.ensure_pull_consumer(queue, consumer_max_retries=9)
    assert (ensured.action, ensured.consumer.max_retries, ensured.consumer.batch_size) == ("updated", 9, 10)


def test_a_consumer_that_somebody_else_made_meanwhile_is_taken(cf, hook, queue):
    cf.add_fault("consumers", status=200, body={"success": True, "result": []})
    ensured = hook.ensure_pull_consumer(queue, batch_size=50)
    assert (ensured.action, ensured.consumer.batch_size) == ("created", 50)  # it may be ours, with its answer lost


def test_a_consumer_that_is_there_only_when_one_is_created_is_an_error(cf, hook, queue):
    none = {"status": 200, "body": {"success": True, "result": []}}
    taken = {"status": 409, "body": {"success": False, "errors": [{"code": 11004, "message": "has a consumer"}]}}
    for answer in (none, taken, none):
        cf.add_fault("consumers", **answer)
    with pytest.raises(AlreadyExistsError, match="has a consumer"):
        hook.ensure_pull_consumer(queue)


@pytest.mark.parametrize(
    ("script", "named"), [({"script_name": "shop"}, " 'shop'"), ({"script": "shop"}, " 'shop'"), ({}, "")]
)
def test_a_worker_consumer_is_in_the_way(cf, hook, queue, script, named):
    worker = {"type": "worker", "consumer_id": "c", **script}
    cf.add_fault("consumers", status=200, body={"success": True, "result": [worker]})
    with pytest.raises(
        AlreadyExistsError, match=rf"Worker{named} consumes this queue.*wrangler queues consumer worker remove"
    ):
        hook.ensure_pull_consumer(queue, batch_size=50)
