"""QueueProcessOperator outside a task runner: outcomes, ends, kills; the decorator is in test_dags.py."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import pytest

from airflow_provider_cfqueues._compat import Stats
from airflow_provider_cfqueues.delays import ExponentialDelay
from airflow_provider_cfqueues.engines.processing.results import BrokenHandlerError
from airflow_provider_cfqueues.exceptions import (
    AuthenticationError,
    MalformedResponseError,
    ProcessingFailedError,
)
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
from airflow_provider_cfqueues.outcomes import Ack, Reject, Retry

QUEUES = ["orders", "failed"]


def state(cf, name="orders"):
    return next(queue for queue in cf.state()["queues"] if queue["name"] == name)


def requests_to(cf, path):
    return [request["body"] for request in cf.requests() if request["path"].endswith(f"/{path}")]


def handle_by_path(message):
    """Found by its dotted path."""


def test_what_a_handler_returns_from_is_acked(cf, send, process):
    send("a", "b", "c")
    seen, began = [], time.monotonic()
    report = process(lambda message: seen.append(message.body))
    assert 0 <= report["seconds"] <= time.monotonic() - began + 0.001
    assert sorted(seen) == ["a", "b", "c"]
    assert (report["pulled"], report["handled"], report["acked"], report["failed"]) == (3, 3, 3, 0)
    assert report["attempts"] == {"1": 3}
    assert state(cf)["backlog_count"] == 0


def test_an_empty_queue_is_a_success(process):
    assert process(handle_by_path)["pulled"] == 0


def test_what_a_handler_raises_on_is_delivered_again_after_the_delay(cf, send, process):
    send("good", "bad")

    def handle(message):
        if message.body == "bad":
            raise RuntimeError("no such customer")

    report = process(handle)
    assert (report["acked"], report["retried"], report["failed"]) == (1, 1, 1)
    (left,) = state(cf)["messages"]
    assert (left["state"], left["attempts"]) == ("delayed", 1)
    cf.advance(61)
    assert process(handle_by_path)["acked"] == 1


def test_a_delay_can_follow_the_attempts(cf, send, process):
    send("bad")
    process(lambda message: 1 / 0, delay_seconds=ExponentialDelay(initial_seconds=7), fail_on="none")
    assert requests_to(cf, "ack")[0]["retries"][0]["delay_seconds"] == 7


def test_a_retry_waits_as_asked_and_is_no_failure(cf, send, process):
    send("raised", "returned")

    def handle(message):
        if message.body == "raised":
            raise Retry(delay_seconds=11)
        return Retry(delay_seconds=12)

    report = process(handle, fail_on="any")
    assert (report["retried"], report["failed"]) == (2, 0)
    assert sorted(retry["delay_seconds"] for body in requests_to(cf, "ack") for retry in body["retries"]) == [11, 12]


def test_a_delay_that_is_none_of_the_apis_is_left_to_the_consumer(cf, send, process, logged):
    send("x")
    process(lambda message: Retry(delay_seconds=-1))
    assert "delay_seconds" not in requests_to(cf, "ack")[0]["retries"][0]
    assert "has no valid delay, so it waits for the consumer's retry_delay: " in logged()


def test_a_rejected_message_is_copied_and_then_acked(cf, send, process):
    send({"order": 7})

    handled = []

    def handle(message):
        handled.append(message.id)
        raise Reject("unknown product")

    report = process(handle, dead_letter_queue="failed", fail_on="none")
    assert (report["rejected"], report["failed"], state(cf)["backlog_count"]) == (1, 1, 0)
    (copy,) = CloudflareQueuesHook().pull(cf.queues["failed"], max_messages=10)
    assert copy.body.pop("metadata")["CF-Content-Type"] == "json"
    assert copy.body == {
        "rejected_by": "airflow-provider-cfqueues",
        "id": handled[0],
        "queue_id": cf.queues["orders"],
        "body": {"order": 7},
        "content_type": "json",
        "attempts": 1,
        "reason": "unknown product",
    }
    paths = [request["path"].rsplit("/", 1)[-1] for request in cf.requests()]
    assert paths.index("batch", paths.index("pull")) < paths.index("ack")


def test_a_copy_that_is_not_accepted_leaves_its_message_unacked(cf, send, process):
    send("precious")
    cf.add_fault(path="batch", status=403, body={"success": False, "errors": []})
    with pytest.raises(Exception, match="Queues Write"):
        process(lambda message: Reject("no"), dead_letter_queue="failed")
    assert [message["state"] for message in state(cf)["messages"]] == ["ready"] or state(cf)["backlog_count"] == 1
    assert requests_to(cf, "ack")[0]["acks"] == []


def test_without_a_dead_letter_queue_a_rejected_message_is_given_back(cf, send, process, logged):
    send("precious")
    report = process(lambda message: Reject("no"), fail_on="none")
    assert "(delivery 1 of at most 4) is retried in 60 s: no; rejected, but there is no dead-letter queue" in logged()
    assert (report["rejected"], report["retried"], state(cf)["backlog_count"]) == (0, 1, 1)


def test_a_copy_that_would_be_too_large_with_what_is_known_of_it_is_sent_without_that(cf, send, process):
    large = "x" * 127_890
    send(large)
    report = process(lambda message: Reject("no"), dead_letter_queue="failed", fail_on="none")
    assert (report["rejected"], state(cf)["backlog_count"]) == (1, 0)
    assert [copy.body for copy in CloudflareQueuesHook().pull(cf.queues["failed"], max_messages=1)] == [large]


def test_the_consumers_own_dead_letter_queue_is_used(cf, send, process):
    import requests

    url = f"{cf.base_url}/accounts/{cf.account_id}/queues/{cf.queues['orders']}/consumers"
    headers = {"Authorization": f"Bearer {cf.api_token}"}
    (consumer,) = requests.get(url, headers=headers, timeout=5).json()["result"]
    wanted = {"type": "http_pull", "dead_letter_queue": "failed", "settings": {"max_retries": 5}}
    requests.put(f"{url}/{consumer['consumer_id']}", json=wanted, headers=headers, timeout=5).raise_for_status()
    send("x")
    assert process(lambda message: Reject("no"), fail_on="none")["rejected"] == 1


def test_the_consumers_dead_letter_queue_is_found_though_the_first_look_fails(cf):
    queue = cf.create_queue("invoices", dead_letter_queue="failed")
    CloudflareQueuesHook().send(queue, ["x"])
    cf.add_fault("consumers", status=503)
    arguments = {"handler": lambda message: Reject("no"), "idle_timeout": 0, "fail_on": "none"}
    report = QueueProcessOperator(task_id="process", queue_id=queue, **arguments).execute({})
    assert (report["rejected"], report["retried"]) == (1, 0)


def test_nothing_is_pulled_where_the_look_for_the_dead_letter_queue_fails_for_good(cf, send, process):
    send("x")
    cf.add_fault("consumers", status=200, body="<html>Sign in to the hotel's network</html>")
    with pytest.raises(MalformedResponseError, match="hotel"):
        process(handle_by_path)
    assert requests_to(cf, "pull") == []


def test_a_token_that_may_not_look_at_the_consumer_can_process(cf, send, process):
    send("x")
    cf.add_fault("consumers", status=403, body={"success": False, "errors": []}, times=10)
    assert process(handle_by_path)["acked"] == 1


def test_a_message_that_handlers_saw_too_often_is_rejected_unseen(cf, send, process):
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders"], consumer_max_retries=10)
    send("bad")
    seen = []

    def handle(message):
        seen.append(message.attempts)
        raise RuntimeError

    arguments = {"delay_seconds": 0, "max_attempts": 2, "dead_letter_queue": "failed", "fail_on": "none"}
    reports = [process(handle, **arguments) for _ in range(3)]
    assert seen == [1, 2]
    assert [report["rejected"] for report in reports] == [0, 0, 1]
    (copy,) = CloudflareQueuesHook().pull(cf.queues["failed"], max_messages=10)
    assert copy.body["reason"] == "delivered 3 times (max_attempts=2)"


def test_a_slow_message_does_not_hold_up_the_acks_of_those_before_it(cf, send, process, until):
    send("first", "quick", "slow")

    def handle(message):
        if message.body == "slow":
            until(lambda: sum(len(body["acks"]) for body in requests_to(cf, "ack")) == 2)

    assert process(handle, settle_interval=0, expected_seconds_per_message=0.001)["acked"] == 3


def test_a_body_that_cannot_be_decoded_is_rejected_unseen(cf, process):
    item = {"id": "i", "lease_id": "l", "attempts": 1, "body": "/w8=", "metadata": {"CF-Content-Type": "v8"}}
    cf.add_fault(path="pull", status=200, body={"success": True, "result": {"messages": [item]}})
    seen = []
    report = process(seen.append, dead_letter_queue="failed", fail_on="none")
    assert seen == []
    assert report["unconfirmed"] == 1  # the emulator knows no lease 'l'
    (copy,) = CloudflareQueuesHook().pull(cf.queues["failed"], max_messages=10)
    assert copy.body["body"] == "/w8="
    assert "Worker" in copy.body["reason"]


def test_async_handlers_run_at_once(send, process):
    send(*[str(number) for number in range(8)])
    running, most = 0, 0

    async def handle(message):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    assert process(handle, concurrency=4)["acked"] == 8
    assert 1 < most <= 4


def test_work_that_an_async_handler_returns_is_awaited_before_the_ack(send, process):
    send("order")
    done = []

    async def work(message):
        await asyncio.sleep(0)
        done.append(message.body)

    async def handle(message):
        return work(message)

    assert process(handle)["acked"] == 1
    assert done == ["order"]


def test_sync_handlers_run_at_once(send, process):
    send(*[str(number) for number in range(4)])
    meeting = threading.Barrier(2, timeout=20)
    assert process(lambda message: meeting.wait() and None, concurrency=2)["acked"] == 4


@pytest.mark.parametrize("returned", ["none", "outcomes"])
def test_a_handler_of_batches_gets_lists(cf, send, process, returned):
    send(*[str(number) for number in range(5)])
    sizes = []

    def handle(messages):
        sizes.append(len(messages))
        if returned == "outcomes":
            return [Ack() if message.body != "3" else Retry(5) for message in messages]
        return None

    report = process(handle, batch=True, batch_size=3)
    assert max(sizes) <= 3
    assert report["acked"] + report["retried"] == 5
    assert report["retried"] == (1 if returned == "outcomes" else 0)


async def async_batch(messages):
    return [Reject("no")] * len(messages)


def test_an_async_handler_of_batches_can_reject(send, process):
    send("a", "b")
    assert process(async_batch, batch=True, dead_letter_queue="failed", fail_on="none")["rejected"] == 2


@pytest.mark.parametrize(
    ("wrong", "what"),
    [([Ack()], "list of 1"), (["ok", "ok"], "list of 2"), ("ok", "str of 2"), (5, "int"), ({}, "dict")],
)
def test_a_wrong_list_of_outcomes_gives_all_back_and_fails_the_task(cf, send, process, wrong, what):
    send("a", "b")
    with pytest.raises(BrokenHandlerError, match=rf"one Ack.* for each of its 2 messages, but it returned a {what}\b"):
        process(lambda messages: wrong, batch=True, fail_on="none")
    assert state(cf)["backlog_count"] == 2
    assert requests_to(cf, "ack")[0]["acks"] == []


@pytest.mark.parametrize(
    ("fail_on", "bad", "fails"),
    [
        ("all", 3, True),
        ("all", 2, False),
        ("any", 1, True),
        ("any", 0, False),
        ("none", 3, False),
        (0.5, 2, True),
        ("0.5", 1, False),
        (1, 3, True),
    ],
)
def test_when_the_task_fails_is_chosen(send, process, fail_on, bad, fails):
    send(*["bad"] * bad, *["good"] * (3 - bad))

    def handle(message):
        if message.body == "bad":
            raise RuntimeError("broken")

    if fails:
        with pytest.raises(
            ProcessingFailedError, match=rf"{bad} of 3 messages.*x RuntimeError: broken, for example .* at delivery 1"
        ) as caught:
            process(handle, fail_on=fail_on)
        assert len(caught.value.failures) == bad
    else:
        assert process(handle, fail_on=fail_on)["failed"] == bad


@pytest.mark.parametrize(
    "wrong",
    [
        {"fail_on": "often"},
        {"fail_on": 2},
        {"until": "later"},
        {"concurrency": 0},
        {"grace": -1},
        {"max_duration": -1},
        {"idle_timeout": -1},
        {"settle_interval": -1},
        {"expected_seconds_per_message": "long"},
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_pulled(cf, process, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        process(handle_by_path, **wrong)
    assert requests_to(cf, "pull") == []


def test_it_ends_at_max_messages(cf, send, process):
    send(*[str(number) for number in range(30)])
    assert process(handle_by_path, max_messages=17)["acked"] == 17
    assert state(cf)["states"] == {"ready": 13, "delayed": 0, "leased": 0}


def test_at_max_duration_it_pulls_nothing_more_and_handles_what_it_has(cf, send, process):
    for _ in range(6):
        send(*["x"] * 100)
    cf.add_fault("pull", delay_ms=50, times=100)  # so that the second pull is not answered before the time is up
    report = process(handle_by_path, max_duration=0.01)
    assert report["pulled"] == report["acked"]
    assert state(cf)["totals"]["retried"] == 0  # giving one back would cost it a delivery
    assert report["pulled"] < 600


def test_a_dry_run_handles_and_then_gives_everything_back(cf, send, process):
    send("a", "b")
    seen = []
    report = process(lambda message: seen.append(message.body), dry_run=True)
    assert sorted(seen) == ["a", "b"]
    assert (report["acked"], report["retried"]) == (0, 2)
    assert state(cf)["states"]["ready"] == 2


def test_a_dry_run_ends_when_a_message_comes_again_and_does_not_use_its_deliveries_up(cf, send, process, logged):
    send("a")
    report = process(lambda message: None, dry_run=True, visibility_timeout=0.2, idle_timeout=1, fail_on="none")
    assert report["pulled"] == 2
    assert "The dry run ends: it took longer than its leases, so message " in logged()


def test_a_message_whose_lease_ended_before_its_turn_is_not_handled(cf, process):
    item = {"id": "i", "lease_id": "l", "attempts": 1, "body": "x", "metadata": {"CF-Content-Type": "text"}}
    cf.add_fault(path="pull", status=200, body={"success": True, "result": {"messages": [item]}}, delay_ms=50)
    seen = []
    report = process(seen.append, visibility_timeout=0.001)
    assert (report["pulled"], report["expired"], seen) == (1, 1, [])


def test_results_are_kept_as_far_as_asked(send, process):
    send("a", "b", "c")
    assert len(process(lambda message: message.body.upper(), keep_results=2)["results"]) == 2


def test_further_arguments_come_from_the_task_and_the_context(send, process):
    send("a")
    seen = {}

    def handle(message, table, *, ds, limit=3):
        seen.update(table=table, ds=ds, limit=limit)

    process(handle, {"ds": "2026-11-22", "run_id": "r"}, op_args=["orders"], op_kwargs={"limit": 5})
    assert seen == {"table": "orders", "ds": "2026-11-22", "limit": 5}


def test_an_async_handler_with_further_arguments_is_awaited(cf, send, process):
    send("a")
    seen = []

    async def handle(message, table, *, limit):
        await asyncio.sleep(0)
        seen.append((message.body, table, limit))

    assert process(handle, op_args=["orders"], op_kwargs={"limit": 5})["acked"] == 1
    assert seen == [("a", "orders", 5)]


def test_a_handler_can_be_a_dotted_path(send, process):
    send("a")
    assert process("math.isnan", fail_on="none")["failed"] == 1  # math.isnan takes no message


def test_a_failure_of_the_api_ends_the_run_and_is_raised(cf, send, process):
    send(*[str(number) for number in range(5)])
    cf.add_fault(path="ack", status=401, body={"success": False, "errors": []}, times=100)
    with pytest.raises(AuthenticationError, match="not confirmed"):
        process(handle_by_path)
    assert state(cf)["backlog_count"] == 5


def test_a_run_goes_on_through_answers_that_are_not_the_apis(cf, send, process):
    send("done")
    cf.add_fault("pull", status=200, body="<html>Sign in to the hotel's network</html>")
    cf.add_fault("ack", truncate=20)
    report = process(handle_by_path, fail_on="none")
    assert (report["handled"], state(cf)["totals"]["acked"], state(cf)["backlog_count"]) == (1, 1, 0)
    assert report["unconfirmed"] == 1  # the lease was used by the ack whose answer was cut


def test_messages_without_a_lease_are_logged(cf, process, logged):
    items = [{"id": "a", "body": "x"}, {"id": "b", "lease_id": None, "body": "x"}]
    cf.add_fault(path="pull", status=200, body={"success": True, "result": {"messages": items}})
    assert process(handle_by_path)["pulled"] == 0
    told = "came without a lease ID: they cannot be acked or retried before their next delivery"
    assert f"Queue orders: 2 messages {told}" in logged()


def test_a_kill_settles_what_is_done_and_gives_the_rest_back(cf, send):
    send(*[str(number) for number in range(20)])
    operator = QueueProcessOperator(
        task_id="process", queue_name="orders", handler=lambda message: handle(message), grace=0.2, settle_interval=60
    )
    done, blocked = [], threading.Event()

    def handle(message):
        if len(done) == 3:
            threading.Timer(0, operator.on_kill).start()
            blocked.wait(20)
        done.append(message.id)

    try:
        with pytest.raises(ProcessingFailedError, match=r"killed\. 3 messages handled: 3 are acked"):
            operator.execute({})
    finally:
        blocked.set()
    after = state(cf)
    assert after["totals"]["acked"] == 3
    assert after["states"] == {"ready": 17, "delayed": 0, "leased": 0}


def test_a_task_that_is_killed_before_it_begins_handles_nothing(cf, send):
    send("a")
    operator = QueueProcessOperator(task_id="process", queue_name="orders", handler=handle_by_path)
    operator.on_kill()
    with pytest.raises(ProcessingFailedError, match=r"killed\. No message was pulled"):
        operator.execute({})
    assert state(cf)["totals"]["delivered"] == 0


def test_many_messages_are_acked_in_few_requests(cf, send, process):
    for _ in range(10):
        send(*["x"] * 100)
    assert process(handle_by_path, settle_interval=1)["acked"] == 1000
    sizes = [len(body["acks"]) for body in requests_to(cf, "ack")]
    assert len(sizes) <= 12
    assert max(sizes) == 100


def test_a_thousand_messages_cost_at_most_22_requests_and_3000_operations(cf, send):
    """Of five thousand: the first thousand costs three small pulls more, while the pace of the handler is unknown."""
    send(*[{"order": number} for number in range(5_000)])
    task = QueueProcessOperator(
        task_id="process",
        queue_id=cf.queues["orders"],
        handler=handle_by_path,
        max_messages=5_000,
        settle_interval=5,  # the default is one second, which adds acks on a slow machine
    )
    task.execute({})
    assert len(requests_to(cf, "pull")) + len(requests_to(cf, "ack")) <= 5 * 22
    totals = state(cf)["totals"]
    assert totals["received"] + totals["delivered"] + totals["acked"] == 5 * 3_000


def test_what_handlers_do_goes_to_airflows_metrics(cf, send, process, monkeypatch):
    sent = Counter()
    monkeypatch.setattr(Stats, "incr", lambda name, value=1, *, tags: sent.update({(name, *tags.values()): value}))
    send("a", "b")
    process(lambda message: Retry() if message.body == "a" else None)
    counted = {name.partition(".")[2]: value for (name, queue), value in sent.items() if queue == cf.queues["orders"]}
    assert counted == {"sent": 2, "pulled": 2, "handled": 2, "acked": 1, "retried": 1}


def test_an_idle_queue_is_asked_one_question_at_a_time(cf, process, jumping_time):
    process(print, idle_timeout=30, concurrency=2, expected_seconds_per_message=1, visibility_timeout=300)
    pulls = [request["body"]["batch_size"] for request in cf.requests() if request["path"].endswith("/pull")]
    assert pulls == [100, 50] + [100] * 5  # two at first, then one after 1, 3, 7, 15 and 30 seconds
