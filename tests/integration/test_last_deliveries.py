"""What becomes of a message at what may be its last delivery: nothing gives it back that could delete it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from jumping_time import run

from airflow_provider_cfqueues._compat import AirflowFailException
from airflow_provider_cfqueues.engines.processing.engine import Engine
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Kind, Situation
from airflow_provider_cfqueues.exceptions import OverQuotaError, PermissionDeniedError, ProcessingFailedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Consumer
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator, QueuePullOperator, QueueRetryOperator
from airflow_provider_cfqueues.outcomes import Ack, Reject

QUEUES = ["orders", "failed"]

FULL = {"success": False, "errors": [{"code": 10251, "message": "full"}]}
NO = {"success": False, "errors": []}


@pytest.fixture
def orders(cf):
    """ID of a queue whose consumer has no dead-letter queue, and lets a message be delivered once."""
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders"], consumer_max_retries=1)
    return cf.queues["orders"]


@pytest.fixture
def process(orders, process):
    return lambda handler, **arguments: process(handler, **{"delay_seconds": 0, "fail_on": "none", **arguments})


def state(cf, name="orders"):
    return next(queue for queue in cf.state()["queues"] if queue["name"] == name)


def fates(report):
    return {kind.value: report[kind.value] for kind in Kind if report[kind.value]}


def copies(cf, name="failed"):
    return [message.body for message in CloudflareQueuesHook().pull(cf.queues[name], max_messages=100)]


def fail(message):
    raise RuntimeError("no such customer")


def reject(message):
    raise Reject("no such customer")


def do_nothing(message):
    """Succeed."""


def test_a_handler_that_fails_costs_the_message_and_the_log_says_it_loudly(send, process, logged):
    send("a")
    report = process(fail)
    assert (fates(report), report["exhausted"]) == ({"retried": 1}, 1)
    assert "delivered once: Cloudflare DELETES it now, or after its next delivery. Set a dead-letter" in logged()


def test_a_message_that_failed_goes_to_the_dead_letter_queue_of_the_task(cf, send, process):
    send("a")
    report = process(fail, dead_letter_queue="failed")
    assert (fates(report), report["exhausted"]) == ({"rejected": 1}, 0)
    assert [copy["reason"] for copy in copies(cf)] == ["delivered once; RuntimeError: no such customer"]


def test_a_message_that_cloudflare_moves_itself_is_left_to_it(orders, send, process, logged):
    CloudflareQueuesHook().update_pull_consumer(orders, dead_letter_queue="failed")
    send("a")
    report = process(fail)
    assert (fates(report), report["exhausted"]) == ({"retried": 1}, 1)
    assert "Cloudflare moves it to 'failed' now, or after its next delivery" in logged()


def test_a_dry_run_leaves_it_leased_and_names_it(cf, send, process, logged):
    send("a")
    report = process(do_nothing, dry_run=True)
    assert (fates(report), report["exhausted"]) == ({"unconfirmed": 1}, 1)
    assert state(cf)["states"]["leased"] == 1
    assert f"Message {state(cf)['messages'][0]['id']} (delivery 1 of at most 2) is left leased until" in logged()
    assert "a dry run copies nothing: Cloudflare may DELETE it when its lease ends" in logged()


def test_a_rejected_message_stays_leased_if_no_dead_letter_queue_can_keep_it(cf, send, process, logged):
    send("a")
    assert fates(process(reject)) == {"unconfirmed": 1}
    assert state(cf)["states"]["leased"] == 1
    assert "there is no dead-letter queue: Cloudflare may DELETE it when its lease ends" in logged()


def test_a_rejected_message_that_stays_leased_is_one_failure(send, process):
    send("a")
    with pytest.raises(ProcessingFailedError, match="1 of 1 message failed"):
        process(reject, fail_on="any")


def test_a_message_whose_copy_is_refused_stays_leased_and_the_run_fails(cf, send, process, logged):
    send("a")
    cf.add_fault("batch", status=429, body=FULL, times=100)
    with pytest.raises(OverQuotaError):
        process(fail, dead_letter_queue="failed", visibility_timeout=4)
    assert state(cf)["states"]["leased"] == 1
    assert "it could not be copied: Cloudflare may DELETE it when its lease ends" in logged()


class JumpingClock:
    """Tells leases the time of an event loop that jumps."""

    def __init__(self):
        self._began, self._zero = datetime.now(timezone.utc), None

    def __call__(self):
        now = asyncio.get_running_loop().time()
        self._zero = now if self._zero is None else self._zero
        return self._began + timedelta(seconds=now - self._zero)


@pytest.mark.parametrize("beside", [[], ["done"]], ids=["alone", "beside an ack that fails"])
def test_a_refused_copy_is_tried_again_until_the_lease_ends(cf, orders, send, beside):
    send("a", *beside)
    cf.add_fault("batch", status=429, body=FULL, times=7)  # at five seconds each
    if beside:
        cf.add_fault("ack", status=403, body=NO)
    hook = CloudflareQueuesHook()
    situation = Situation(consumer=Consumer(type="http_pull", max_retries=1), dead_letter_queue_id=cf.queues["failed"])
    queue = HookQueue(hook, orders, visibility_timeout=60, situation=situation)

    async def reject_a(messages):  # a batch, so that one request settles both
        return [Reject("no such customer") if message.body == "a" else Ack() for message in messages]

    async def processed():
        options = Options(idle_timeout=0, visibility_timeout=60, batch_size=2)
        engine = Engine(queue, reject_a, options, now=JumpingClock())
        await engine.run()
        await hook.aclose()
        return engine

    engine = run(processed())
    assert engine.report.fates == Counter([Kind.REJECTED, *(Kind.ACKED for _ in beside)])
    assert isinstance(engine.state.error, PermissionDeniedError if beside else OverQuotaError)
    assert [copy["reason"] for copy in copies(cf)] == ["no such customer"]


def test_a_message_that_stays_leased_is_named_also_if_the_ack_of_another_fails(cf, send, process, logged):
    send("a", "done")
    cf.add_fault("batch", status=429, body=FULL, times=100)
    cf.add_fault("ack", status=403, body=NO, times=100)
    with pytest.raises(PermissionDeniedError):
        process(lambda _: [Reject("no"), Ack()], batch=True, dead_letter_queue="failed", visibility_timeout=4)
    assert "it could not be copied: Cloudflare may DELETE it when its lease ends" in logged()


@pytest.fixture
def stop_early(orders):
    """Run a task that is killed while it handles its first message; the others do not have their turn."""

    def stop_early(count, raises=ProcessingFailedError, **arguments):
        handling, killed = threading.Event(), threading.Event()

        def handle(message):
            handling.set()
            killed.wait(20)

        def kill():
            handling.wait(20)
            operator.on_kill()
            killed.set()

        operator = QueueProcessOperator(
            task_id="process",
            queue_id=orders,
            handler=handle,
            expected_seconds_per_message=0,
            max_messages=count,
            **{"grace": 20, **arguments},
        )
        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(raises):
            operator.execute({})
        thread.join()
        return fates(operator._engine.report.to_xcom())

    return stop_early


def test_messages_whose_turn_did_not_come_are_sent_to_their_queue_again_and_then_acked(
    cf, orders, send, stop_early, logged
):
    send("first", "a", "b", "c")
    before = {message["id"] for message in state(cf)["messages"]}
    assert stop_early(4) == {"acked": 1, "renewed": 3}
    after = state(cf)
    assert after["states"] == {"ready": 3, "delayed": 0, "leased": 0}
    assert before.isdisjoint(message["id"] for message in after["messages"])
    assert {message["attempts"] for message in after["messages"]} == {0}
    assert sorted(copies(cf, "orders")) == ["a", "b", "c"]
    assert f"Queue {orders}: 3 messages (" in logged()
    assert "delivered once, so a copy is sent to its queue: the copy has a new ID, and its age" in logged()


def test_messages_whose_turn_did_not_come_go_to_the_dead_letter_queue_that_was_given(cf, send, stop_early):
    send("first", "a", "b")
    assert stop_early(3, dead_letter_queue="failed") == {"acked": 1, "rejected": 2}
    kept = copies(cf)
    assert sorted(copy["body"] for copy in kept) == ["a", "b"]
    assert {copy["reason"] for copy in kept} == {"delivered once; the run ended before a handler took it"}


def test_a_message_whose_handler_did_not_end_in_time_goes_there_with_that_reason(cf, send, orders):
    send("a")
    stuck = threading.Event()

    def handle(message):
        operator.on_kill()
        stuck.wait(20)

    given = {"queue_id": orders, "handler": handle, "grace": 0.1, "dead_letter_queue": "failed"}
    operator = QueueProcessOperator(task_id="process", **given)
    with pytest.raises(ProcessingFailedError):
        operator.execute({})
    stuck.set()
    assert [copy["reason"] for copy in copies(cf)] == ["delivered once; the run ended before its handler did"]


def test_a_run_that_fails_gives_back_what_waits_before_the_last_handler_has_ended(cf, send, process):
    """Else their leases could end meanwhile, and nothing could save them."""
    send("long", "fails", "a", "b")
    waits, seen = threading.Event(), {}

    def handle(message):
        if message.body == "fails":
            waits.wait(20)
            raise AirflowFailException("no")
        waits.set()
        deadline = time.monotonic() + 20
        while seen.get("leased") != 1 and time.monotonic() < deadline:
            seen.update(state(cf)["states"])

    with pytest.raises(AirflowFailException):
        process(handle, concurrency=2, max_messages=4, expected_seconds_per_message=1)
    assert seen["leased"] == 1
    assert sorted(copies(cf, "orders")) == ["a", "b", "fails"]


def test_a_body_that_http_cannot_carry_stays_leased_and_is_named(cf, orders, stop_early, logged):
    cf.send(orders, "first", content_type="text")
    cf.send(orders, "AP8=", content_type="bytes")
    assert stop_early(2) == {"acked": 1, "unconfirmed": 1}
    assert state(cf)["states"]["leased"] == 1
    assert f"Message {state(cf)['messages'][0]['id']} (delivery 1) is left leased until" in logged()


def test_a_dead_letter_queue_that_refuses_does_not_keep_what_had_no_turn_from_being_sent_again(cf, send, stop_early):
    send("first", "a")
    cf.add_fault("batch", status=403, body=NO)
    assert stop_early(2, PermissionDeniedError, dead_letter_queue="failed") == {"acked": 1, "renewed": 1}
    assert copies(cf, "orders") == ["a"]


def test_a_message_whose_lease_is_over_is_not_sent_again(cf, send, process, logged):
    send("a")
    cf.add_fault("pull", delay_ms=50)
    report = process(do_nothing, visibility_timeout=0.001, max_messages=1)
    assert (report["handled"], fates(report)) == (0, {"expired": 1})
    assert [request for request in cf.requests() if request["path"].endswith("/batch")][1:] == []
    why = "its lease ended before a handler took it; delivered once: Cloudflare DELETES it now, or after its next"
    assert f"was not handled: {why}" in logged()
    assert "it is delivered again" not in logged()


def test_a_message_whose_lease_is_over_is_kept_in_the_dead_letter_queue_of_the_task(cf, send, process):
    send("a")
    cf.add_fault("pull", delay_ms=50)
    report = process(do_nothing, visibility_timeout=0.001, dead_letter_queue="failed", max_messages=1)
    assert (report["handled"], report["expired"]) == (0, 0)
    assert [copy["reason"] for copy in copies(cf)] == ["delivered once; its lease ended before a handler took it"]


def test_a_consumer_that_cannot_be_read_is_taken_to_delete_after_three_deliveries(cf, orders, send, process):
    CloudflareQueuesHook().update_pull_consumer(orders, consumer_max_retries=100)
    cf.add_fault("consumers", status=403, body=NO, times=100)
    send("a")
    ends = [fates(process(fail, dead_letter_queue="failed")) for _ in range(3)]
    assert ends == [{"retried": 1}, {"retried": 1}, {"rejected": 1}]


def test_a_retry_of_yours_is_a_retry_even_at_the_last_delivery(cf, orders, send):
    send("a")
    leased = QueuePullOperator(task_id="pull", queue_id=orders, max_messages=1).execute({})
    QueueRetryOperator(task_id="retry", queue_id=orders, lease_ids=leased, delay_seconds=0).execute({})
    assert (state(cf)["totals"]["retried"], state(cf)["totals"]["acked"]) == (1, 0)


def test_a_task_that_is_killed_while_nothing_can_be_copied_says_until_when_messages_can_be_saved(
    cf, send, stop_early, logged
):
    send("first", "a", "b")
    cf.add_fault("batch", status=503, body=NO, times=1_000)
    assert stop_early(3, grace=0.5) == {"acked": 1, "unconfirmed": 2}
    (line,) = (line for line in logged().splitlines() if "are left leased until" in line)
    assert "it could not be copied: Cloudflare may DELETE it when its lease ends" in line
    assert [message["id"] in line for message in state(cf)["messages"]] == [True, True]
