"""Answers that the API should not give: what can be used of them is used, and what cannot is said."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.exceptions import MalformedResponseError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator, QueuePullOperator
from airflow_provider_cfqueues.outcomes import Reject


def message(number, **fields):
    known = {"id": f"id{number}", "lease_id": f"lease{number}", "body": "x", "attempts": 1}
    return {**known, "metadata": {"CF-Content-Type": "text"}, **fields}


def answer(cf, path, result, **around):
    cf.add_fault(
        path=path, status=200, body={"success": True, "errors": [], "messages": [], "result": result, **around}
    )


def acked(cf):
    bodies = [request["body"] for request in cf.requests() if request["path"].endswith("/ack")]
    return [lease["lease_id"] for body in bodies for lease in body["acks"]]


@pytest.mark.parametrize(
    ("result", "around"),
    [
        ({"metadata": "odd"}, {}),
        ({"metadata": {"metrics": {"other": 1}}}, {}),
        ({"metadata": {"metrics": [1]}}, {}),
        ({"metadata": {"metrics": {"backlog_count": "many"}}}, {}),
        ({}, {"messages": 5}),
        ({}, {"result_info": "odd"}),
    ],
)
def test_an_odd_field_beside_the_messages_does_not_hide_them_and_is_logged_once(
    hook, cf, queue, logged, result, around
):
    answer(cf, "pull", {"messages": [message(1), message(2)], **result}, **around)
    pulled = hook.pull(queue, max_messages=5)
    assert [one.id for one in pulled] == ["id1", "id2"]
    assert pulled.backlog is None
    assert logged().count("of an answer of the API") == 1


def test_an_odd_backlog_does_not_fail_a_send(hook, cf, queue):
    answer(cf, "batch", {"metadata": {"metrics": 7}})
    assert hook.send(queue, ["x"]).sent_count == 1


def test_a_backlog_that_is_no_number_is_not_taken_for_an_empty_queue(hook, cf, queue):
    answer(cf, "metrics", {"backlog_count": "many"})
    with pytest.raises(MalformedResponseError, match="backlog_count"):
        hook.get_metrics(queue)


@pytest.mark.parametrize("second", [message(1), message(2, lease_id="lease1"), message(1, lease_id="lease2")])
def test_a_message_that_comes_twice_in_one_pull_is_handled_and_acked_once(cf, queue, logged, second):
    answer(cf, "pull", {"messages": [message(1), second, message(3)]})
    handled = []
    operator = QueueProcessOperator(
        task_id="process", queue_id=queue, handler=lambda one: handled.append(one.id), max_messages=3, idle_timeout=0
    )
    with pytest.raises(Exception, match="not confirmed"):  # the emulator does not know these leases
        operator.execute({})
    assert handled == ["id1", "id3"]
    assert acked(cf) == ["lease1", "lease3"]
    (told,) = [line for line in logged().splitlines() if "Each is handled once" in line]
    assert ": a pull got 1 message twice." in told
    assert f"end by themselves: {second['lease_id']}" in told


def test_more_messages_than_asked_for_are_all_there_and_it_is_logged_once(hook, cf, queue, logged):
    answer(cf, "pull", {"messages": [message(number) for number in range(250)]})
    assert len(hook.pull(queue, max_messages=3)) == 250
    assert logged().count("got 250 messages; it asked for 3") == 1


def test_what_is_odd_in_an_answer_names_the_queue_as_it_was_given(cf, queue, logged):
    odd = [message(1), message(1), message(2, lease_id=None)]
    answer(cf, "pull", {"messages": odd})
    QueuePullOperator(task_id="pull", queue_name="my-queue", max_messages=2).execute({})
    log = logged()
    for remark in ("a pull got 3 messages; it asked for 2", "a pull got 1 message twice.", "1 message came without"):
        assert log.count(f"Queue my-queue: {remark}") == 1


def test_messages_without_an_id_are_not_taken_for_one(hook, cf, queue):
    answer(cf, "pull", {"messages": [message(1, id=""), message(2, id=None), message(3, id="")]})
    assert [one.lease_id for one in hook.pull(queue, max_messages=3)] == ["lease1", "lease2", "lease3"]


def test_an_empty_lease_is_none(hook, cf, queue):
    answer(cf, "pull", {"messages": [message(1, lease_id=""), message(2)]})
    pulled = hook.pull(queue, max_messages=3)
    assert [one.lease_id for one in pulled] == ["lease2"]
    assert pulled.without_lease == 1


def test_a_lease_that_no_codec_accepts_does_not_fail_those_beside_it(hook, cf, queue):
    answer(cf, "ack", {"ackCount": 1, "retryCount": 0, "warnings": {"\ud800x": "malformed"}})
    result = hook.ack(queue, acks=["good", "\ud800x"])
    assert result.confirmed_count == 1
    assert result.unconfirmed == ("\ud800x",)


def test_a_message_whose_body_no_codec_accepts_is_copied_to_the_dead_letter_queue(cf, queue):
    CloudflareQueuesHook().create_queue("failed")
    answer(cf, "pull", {"messages": [message(1, body="a\ud800b")]})
    answer(cf, "batch", {})
    operator = QueueProcessOperator(
        task_id="process",
        queue_id=queue,
        handler=lambda one: Reject("broken"),
        dead_letter_queue="failed",
        max_messages=1,
    )
    with pytest.raises(Exception, match="not confirmed"):  # the emulator does not know the lease
        operator.execute({})
    assert acked(cf) == ["lease1"]


def test_lineage_counts_what_was_confirmed_not_what_the_api_claims(hook, cf, queue):
    answer(cf, "ack", {"ackCount": 99, "retryCount": 7})
    hook.ack(queue, acks=["a", "b", "c"])
    assert hook.hook.traffic.to_list()[0]["moved"] == {"acked": 3, "retried": 0, "unconfirmed": 0}


@pytest.mark.parametrize(("concurrency", "at_once"), [(1, [1]), (250, [100, 100, 50])])
def test_answers_to_pulls_that_cannot_be_read_slow_a_run_down_and_end_it_after_the_third(
    cf, queue, logged, jumping_time, concurrency, at_once
):
    cf.add_fault(path="pull", status=200, body="<html>", times=1_000)
    operator = QueueProcessOperator(task_id="process", queue_id=queue, handler=print, concurrency=concurrency)
    with pytest.raises(MalformedResponseError, match="3 answers in a row"):
        operator.execute({})
    asked = [request["body"]["batch_size"] for request in cf.requests() if request["path"].endswith("/pull")]
    assert asked[: len(at_once)] == at_once
    assert len(asked) == len(at_once) + 2
    assert f"Cloudflare may have leased up to {sum(asked[:-1])} messages" in logged()


def test_an_answer_that_cannot_be_read_costs_a_run_no_more_than_time(cf, queue, jumping_time):
    CloudflareQueuesHook().send(queue, ["x"])
    cf.add_fault(path="pull", status=200, body="<html>", times=2)
    operator = QueueProcessOperator(task_id="process", queue_id=queue, handler=print, idle_timeout=0)
    assert operator.execute({})["acked"] == 1


def test_only_answers_in_a_row_that_cannot_be_read_count(cf, queue, jumping_time):
    async def pull():
        hook = CloudflareQueuesHook()
        pulling = HookQueue(hook, queue, visibility_timeout=30)
        for _ in range(2):
            cf.add_fault(path="pull", status=200, body="<html>", times=2)
            assert not await pulling.pull(100)
        cf.add_fault(path="pull", status=200, body="<html>", times=3)
        with pytest.raises(MalformedResponseError, match=r"3 answers in a row .* may have leased up to 300 messages"):
            await pulling.pull(100)
        await hook.aclose()

    asyncio.run(pull())
