"""``QueueRedriveOperator``: messages move from a dead-letter queue to another, and nothing is lost on the way."""

from __future__ import annotations

import json
import threading

import pytest

from airflow_provider_cfqueues.emulator import Emulator
from airflow_provider_cfqueues.exceptions import NotFoundError, PermissionDeniedError, ProcessingFailedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator, QueueRedriveOperator
from airflow_provider_cfqueues.outcomes import Reject


@pytest.fixture
def cf(connect):
    with Emulator(queues=["failed", "orders"]) as emulator:
        connect(emulator)
        yield emulator


@pytest.fixture
def failed(cf):
    return cf.queues["failed"]


def wants_orders(message):
    return message.body["type"] == "order"


def redrive(**arguments):
    arguments = {"queue_name": "failed", "target_queue_name": "orders", "idle_timeout": 0, **arguments}
    report = QueueRedriveOperator(task_id="redrive", **arguments).execute({})
    return json.loads(json.dumps(report))


def state(cf, name):
    (queue,) = (queue for queue in cf.state()["queues"] if queue["name"] == name)
    return queue


def bodies(cf, name="orders"):
    pulled = CloudflareQueuesHook().pull(cf.queues[name], max_messages=1_000)
    return [(message.body, message.content_type) for message in pulled]


def calls(cf, *names):
    paths = (request["path"].rpartition("/")[2] for request in cf.requests())
    return [name for name in paths if name in names]


def test_messages_are_moved_with_body_and_content_type(cf, failed):
    json_body = {"name": "ä€😀", "big": 2**60, "tiny": 0.1, "nested": [None, True, {"": []}]}
    CloudflareQueuesHook().send(failed, ["text", "", '{"looks": "like json"}', json_body, [1, 2]])
    report = redrive()
    assert {key: report[key] for key in ("pulled", "moved", "returned", "unmovable", "unmatched", "unconfirmed")} == {
        "pulled": 5, "moved": 5, "returned": 0, "unmovable": 0, "unmatched": 0, "unconfirmed": 0,
    }  # fmt: skip
    assert bodies(cf) == [
        ("text", "text"), ("", "text"), ('{"looks": "like json"}', "text"), (json_body, "json"), ([1, 2], "json"),
    ]  # fmt: skip
    assert state(cf, "failed")["totals"]["acked"] == 5


def test_many_messages_are_moved_a_hundred_a_request(cf, failed):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(1_000)])
    assert redrive()["moved"] == 1_000
    assert state(cf, "orders")["states"]["ready"] == 1_000
    assert calls(cf, "batch").count("batch") <= 10 + 20  # ten to send them here


def test_what_http_cannot_carry_stays_and_is_reported(cf, failed, logged):
    cf.send(failed, "AP8=", content_type="bytes")
    cf.send(failed, "/w8=", content_type="v8")
    cf.send(failed, 5, content_type="json")
    cf.send(failed, "no JSON", content_type="text", metadata={"CF-Content-Type": "json"})
    cf.send(failed, "who knows", content_type="text", metadata={})
    cf.send(failed, {"fine": True})
    report = redrive()
    assert (report["moved"], report["unmovable"], report["returned"]) == (1, 5, 5)
    assert [(kept["reason"][:40]) for kept in report["not_moved"]] == [
        "a body of content type 'bytes' cannot be",
        "it could not be decoded: a body of conte",
        "a json body that is a int cannot be sent",
        "it could not be decoded: the body is nei",
        "it could not be decoded: the body is nei",
    ]
    assert logged().count("stays in queue") == 5
    assert bodies(cf) == [({"fine": True}, "json")]
    assert state(cf, "failed")["states"]["delayed"] == 5


def test_a_message_without_a_content_type_is_not_guessed_at(cf, failed):
    cf.send(failed, '{"a": 1}', content_type="text", metadata={})
    assert redrive()["not_moved"][0]["reason"].startswith("a body of content type None cannot be sent")


def test_only_what_matches_is_moved(cf, failed):
    CloudflareQueuesHook().send(failed, ["order", "refund", "order", {"order": 1}])
    report = redrive(match=["literal:order", 'literal:{"order": 1}'])
    assert (report["moved"], report["unmatched"], report["returned"]) == (3, 1, 1)
    assert [body for body, _ in bodies(cf)] == ["order", "order", {"order": 1}]
    assert bodies(cf, "failed") == []
    cf.advance(300)
    assert bodies(cf, "failed") == [("refund", "text")]


def test_a_message_that_the_filter_fails_for_is_not_moved(cf, failed):
    CloudflareQueuesHook().send(failed, ["a", {"type": "order"}])
    report = redrive(match=f"function:{__name__}.wants_orders")
    assert (report["moved"], report["unmovable"]) == (1, 1)
    assert "TypeError" in report["not_moved"][0]["reason"]


def test_a_filter_never_costs_a_message_its_last_delivery(cf, failed):
    CloudflareQueuesHook().send(failed, ["keep"])
    reports = []
    for _ in range(7):  # the emulator's consumer lets a message be delivered four times
        reports.append(redrive(match="literal:other"))
        cf.advance(300)
    assert [report["unmatched"] for report in reports] == [1] * 7
    assert [report["renewed"] for report in reports] == [0, 0, 1, 0, 0, 1, 0]
    assert bodies(cf, "failed") == [("keep", "text")]
    assert state(cf, "failed")["totals"]["exhausted"] == 0


def test_what_cannot_be_kept_is_said_loudly(cf, failed, logged):
    cf.send(failed, "AP8=", content_type="bytes")
    for _ in range(3):
        redrive()
        cf.advance(300)
    assert "It was delivered 3 times: Cloudflare DELETES it soon. Raise max_retries" in logged()


def test_where_deliveries_end_in_another_dead_letter_queue_nothing_is_renewed(cf, failed):
    CloudflareQueuesHook().update_pull_consumer(failed, dead_letter_queue="lost", max_retries=1)
    CloudflareQueuesHook().send(failed, ["keep"])
    assert redrive(match="literal:other")["renewed"] == 0


def test_what_was_rejected_is_moved_as_the_message_that_it_was(cf, failed):
    def reject(message):
        raise Reject("not today")

    CloudflareQueuesHook().send(cf.queues["orders"], ["text", {"n": 1}])
    cf.send(cf.queues["orders"], "AP8=", content_type="bytes")
    arguments = {"queue_name": "orders", "dead_letter_queue": "failed", "idle_timeout": 0, "fail_on": "none"}
    QueueProcessOperator(task_id="process", handler=reject, **arguments).execute({})
    report = redrive()
    assert (report["moved"], report["unmovable"]) == (2, 1)
    assert bodies(cf) == [("text", "text"), ({"n": 1}, "json")]


def test_what_was_rejected_can_be_moved_as_it_lies_there(cf, failed):
    wrapped = dict.fromkeys(["id", "queue_id", "body", "content_type", "metadata", "attempts", "reason"], "x")
    CloudflareQueuesHook().send(failed, [{"body": wrapped}])
    redrive(unwrap=False)
    assert bodies(cf) == [(wrapped, "json")]


def test_a_message_is_acked_only_after_it_was_sent(cf, failed):
    cf.send(failed, "a", content_type="text")
    redrive()
    assert calls(cf, "batch", "ack") == ["batch", "ack"]


def test_a_send_that_is_refused_gives_everything_back_and_fails_as_what_it_is(cf, failed):
    CloudflareQueuesHook().send(failed, ["a", "b"])
    cf.add_fault("batch", status=403, body={"success": False, "errors": [{"code": 10000, "message": "no"}]})
    with pytest.raises(PermissionDeniedError) as error:
        redrive()
    assert error.value.queue == cf.queues["orders"]
    assert state(cf, "failed")["states"] == {"ready": 2, "delayed": 0, "leased": 0}
    assert redrive()["moved"] == 2


def test_what_was_accepted_before_a_send_failed_is_acked(cf, failed):
    big = ["x" * 100_000, "y" * 100_000, "z" * 100_000]  # two requests
    CloudflareQueuesHook().send(failed, big)
    cf.add_fault("batch", status=200, apply=True, body={"success": True, "result": {}})
    cf.add_fault("batch", status=413, body={"success": False, "errors": [{"code": 10205, "message": "large"}]})
    with pytest.raises(Exception, match="large"):
        redrive(messages_per_second=100)
    assert state(cf, "failed")["states"] == {"ready": 1, "delayed": 0, "leased": 0}
    assert state(cf, "orders")["states"]["ready"] == 2


def test_a_lost_answer_duplicates_a_message_rather_than_losing_it(cf, failed):
    CloudflareQueuesHook().send(failed, ["a"])
    cf.add_fault("batch", drop="after")
    assert redrive()["moved"] == 1
    assert bodies(cf) == [("a", "text")] * 2


def test_a_target_that_is_not_there_costs_no_delivery(cf, failed):
    CloudflareQueuesHook().send(failed, ["a"])
    for target in ({"target_queue_name": "nowhere"}, {"target_queue_name": None, "target_queue_id": "0" * 32}):
        with pytest.raises(NotFoundError):
            redrive(**target)
    assert CloudflareQueuesHook().peek(failed)[0].attempts == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_queue_name": "failed"}, "cannot be moved to the same queue"),
        ({"target_queue_name": None}, "exactly one of target_queue_id and target_queue_name"),
        ({"match": "order"}, "must begin with"),
        ({"messages_per_second": "0"}, "messages_per_second must be above 0"),
    ],
)
def test_wrong_arguments_pull_nothing(cf, failed, arguments, message):
    with pytest.raises(ValueError, match=message):
        redrive(**arguments)
    assert calls(cf, "pull") == []


def test_the_rate_is_kept(cf, failed):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(60)])
    report = redrive(messages_per_second=50)
    assert report["moved"] == 60
    assert report["seconds"] >= 1  # fifty at once, the others a second later


def test_no_more_is_pulled_than_asked_for(cf, failed):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(20)])
    assert redrive(max_messages="5")["moved"] == 5
    assert state(cf, "failed")["states"] == {"ready": 15, "delayed": 0, "leased": 0}


def test_a_killed_task_acks_what_was_sent_gives_the_rest_back_and_the_next_try_goes_on(cf, failed, until):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(50)])
    operator = QueueRedriveOperator(
        task_id="redrive", queue_name="failed", target_queue_name="orders", messages_per_second=5
    )

    def kill():
        until(lambda: state(cf, "orders")["states"]["ready"])
        operator.on_kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(ProcessingFailedError, match=r"was killed: \d+ messages are moved"):
        operator.execute({})
    thread.join()
    moved = state(cf, "orders")["states"]["ready"]
    assert 0 < moved < 50
    assert state(cf, "failed")["states"] == {"ready": 50 - moved, "delayed": 0, "leased": 0}
    assert redrive()["moved"] == 50 - moved
    assert sorted(body["n"] for body, _ in bodies(cf)) == list(range(50))


REDRIVE = """
from airflow_provider_cfqueues.operators.queues import QueueRedriveOperator
QueueRedriveOperator(task_id="redrive", queue_name="failed", target_queue_name="orders").execute({})
"""


def test_a_worker_killed_between_send_and_ack_has_its_messages_sent_again(cf, failed, worker, until):
    CloudflareQueuesHook().send(failed, ["a", "b"])
    cf.add_fault("ack", status=503, times=2)  # the ack waits to be repeated while the worker is killed
    process = worker(REDRIVE)
    until(lambda: calls(cf, "ack"))
    process.kill()
    process.wait()
    assert state(cf, "failed")["states"] == {"ready": 0, "delayed": 0, "leased": 2}
    cf.advance(300)
    assert redrive()["moved"] == 2
    assert sorted(body for body, _ in bodies(cf)) == ["a", "a", "b", "b"]
