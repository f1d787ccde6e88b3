"""``QueueRedriveOperator``: messages move from a dead-letter queue to another, and nothing is lost on the way."""

from __future__ import annotations

import json
import re
import threading
import time
from contextvars import ContextVar

import pytest
from airflow import DAG

from airflow_provider_cfqueues.engines.redriving.options import RedriveOptions
from airflow_provider_cfqueues.engines.redriving.pace import Pace
from airflow_provider_cfqueues.engines.redriving.redrive import Redrive
from airflow_provider_cfqueues.exceptions import (
    InvalidRequestError,
    NotFoundError,
    OverQuotaError,
    PermissionDeniedError,
    ProcessingFailedError,
    RateLimitedError,
)
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator, QueueRedriveOperator
from airflow_provider_cfqueues.outcomes import Reject

QUEUES = ["failed", "orders"]
WHERE = ContextVar("where", default="elsewhere")


@pytest.fixture
def failed(cf):
    return cf.queues["failed"]


def wants_orders(message):
    return message.body["type"] == "order"


def takes_the_type_out(message):
    return message.body.pop("type") == "order"


def is_in_the_task(message):
    return WHERE.get() == "in the task"


def takes_its_time(message):
    time.sleep(0.03)
    return True


def operator(**arguments):
    arguments = {"queue_name": "failed", "target_queue_name": "orders", "idle_timeout": 0, **arguments}
    return QueueRedriveOperator(task_id="redrive", **arguments)


def redrive(**arguments):
    """Run the operator; each pulled message ends in exactly one of its counts."""
    report = operator(**arguments).execute({})
    ends = ("moved", "renewed", "returned", "expired", "unconfirmed")
    assert report["pulled"] == sum(report[end] for end in ends)
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
    assert calls(cf, "batch").count("batch") == 10 + 10  # ten to send them here


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
        "its body could not be decoded: a body of",
        "a json body that is a int cannot be sent",
        "its body could not be decoded: the body ",
        "its body could not be decoded: the body ",
    ]
    assert logged().count("stays in queue") == 5
    assert bodies(cf) == [({"fine": True}, "json")]
    assert state(cf, "failed")["states"]["delayed"] == 5


def test_a_message_without_a_content_type_is_not_guessed_at(cf, failed):
    cf.send(failed, '{"a": 1}', content_type="text", metadata={})
    assert redrive(fail_on="none")["not_moved"][0]["reason"].startswith("a body of content type None cannot be sent")


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


def test_a_filter_sees_the_context_variables_of_the_task(cf, failed):
    CloudflareQueuesHook().send(failed, ["a"])
    token = WHERE.set("in the task")
    assert redrive(match=f"function:{__name__}.is_in_the_task")["moved"] == 1
    WHERE.reset(token)


def test_what_a_filter_does_to_a_body_is_not_in_its_copy(cf, failed):
    CloudflareQueuesHook().send(failed, [{"type": "order"}])
    assert redrive(match=f"function:{__name__}.takes_the_type_out")["moved"] == 1
    assert bodies(cf) == [({"type": "order"}, "json")]


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


def test_what_cannot_be_kept_is_said_loudly_while_there_is_time(cf, failed, logged):
    cf.send(failed, "AP8=", content_type="bytes")
    for _ in range(3):
        report = redrive(fail_on="none")
        cf.advance(300)
    assert (report["unmovable"], report["returned"], report["unconfirmed"]) == (1, 0, 1)
    assert state(cf, "failed")["states"]["leased"] == 1
    reason = "delivered 3 times, and it could not be copied: Cloudflare may DELETE it when its lease ends"
    assert re.search(rf"Queue failed: Message \w+ .* {reason}", logged())
    CloudflareQueuesHook().update_pull_consumer(failed, consumer_max_retries=100)
    cf.advance(600)
    assert state(cf, "failed")["states"]["ready"] == 1


def test_where_deliveries_end_in_another_dead_letter_queue_that_is_said_and_nothing_renewed(cf, failed, logged):
    CloudflareQueuesHook().update_pull_consumer(failed, dead_letter_queue="lost", consumer_max_retries=1)
    CloudflareQueuesHook().send(failed, ["keep"])
    assert redrive(match="literal:other")["renewed"] == 0
    reason = "Cloudflare moves it to 'lost' now, or after its next delivery"
    assert re.search(rf"Queue failed: Message \w+ .* {reason}", logged())


def test_what_was_rejected_is_moved_as_the_message_that_it_was(cf, failed):
    def reject(message):
        raise Reject("not today")

    CloudflareQueuesHook().send(cf.queues["orders"], ["text", {"n": 1}])
    cf.send(cf.queues["orders"], "AP8=", content_type="bytes")
    arguments = {"queue_name": "orders", "dead_letter_queue": "failed", "idle_timeout": 0, "settle_interval": 0.05}
    QueueProcessOperator(task_id="process", handler=reject, fail_on="none", **arguments).execute({})
    report = redrive()
    assert (report["moved"], report["unmovable"]) == (2, 1)
    assert bodies(cf) == [("text", "text"), ({"n": 1}, "json")]


def test_what_was_rejected_can_be_moved_as_it_lies_there(cf, failed):
    def reject(message):
        raise Reject("not today")

    CloudflareQueuesHook().send(cf.queues["orders"], ["text"])
    arguments = {"queue_name": "orders", "dead_letter_queue": "failed", "idle_timeout": 0, "settle_interval": 0.05}
    QueueProcessOperator(task_id="process", handler=reject, fail_on="none", **arguments).execute({})
    redrive(unwrap=False)
    ((body, content_type),) = bodies(cf)
    assert (body["body"], body["reason"], content_type) == ("text", "not today", "json")


def test_a_message_that_only_looks_like_what_was_rejected_is_moved_as_it_is(cf, failed):
    own = {"id": "7", "queue_id": "billing", "body": "hello", "content_type": "text", "metadata": {}}
    own |= {"attempts": 2, "reason": "late"}
    CloudflareQueuesHook().send(failed, [{"body": own}])
    redrive()
    assert bodies(cf) == [(own, "json")]


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


REFUSED = {"success": False, "errors": [{"code": 10253, "message": "free tier limit exceeded"}]}
BAD = {"success": False, "errors": [{"code": 10204, "message": "too large"}]}


def test_a_target_that_refuses_costs_one_batch_one_delivery(cf, failed):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(250)])
    cf.add_fault("batch", status=429, body=REFUSED)
    with pytest.raises(OverQuotaError) as error:
        redrive()
    assert error.value.progress is None  # it has positions, which mean nothing to anybody here
    assert state(cf, "failed")["totals"]["delivered"] == 100
    assert state(cf, "failed")["states"]["ready"] == 250


def test_nothing_is_pulled_before_the_target_took_what_was_pulled_before(cf, failed):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(350)])
    cf.add_fault("batch", delay_ms=100)
    cf.add_fault("batch", delay_ms=100, status=429, body=REFUSED)
    with pytest.raises(OverQuotaError):
        redrive()
    assert state(cf, "failed")["totals"]["delivered"] == 200
    assert state(cf, "failed")["states"]["ready"] == 250


def test_a_failing_ack_gives_back_what_was_pulled_beside_it(cf, failed):
    hook = CloudflareQueuesHook()
    hook.send(failed, [{"n": n} for n in range(350)])
    cf.add_fault("ack", status=403, body={"success": False, "errors": [{"code": 10000, "message": "no"}]})
    moving = Redrive(hook, failed, cf.queues["orders"], RedriveOptions(idle_timeout=0))
    with pytest.raises(PermissionDeniedError):
        moving.run()
    report = moving.report.to_xcom()
    assert (report["pulled"], report["unconfirmed"], report["returned"]) == (200, 100, 100)
    assert state(cf, "failed")["states"] == {"ready": 250, "delayed": 0, "leased": 100}


def test_the_next_batch_is_moved_while_the_last_one_is_acked(cf, failed, until):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(200)])
    cf.add_fault("ack", delay_ms=1_500)
    acked = []

    def watch():
        until(lambda: len(calls(cf, "pull")) == 2)
        acked.append(state(cf, "failed")["totals"]["acked"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert redrive()["moved"] == 200
    watcher.join()
    assert acked == [0]


def test_however_often_everything_is_refused_nothing_is_deleted(cf, failed, logged):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(20)])
    cf.add_fault("batch", status=429, body=REFUSED, times=4)  # at the third run, also the copies for its own queue
    for _ in range(3):
        with pytest.raises(OverQuotaError):
            redrive(visibility_timeout=4)  # too short to try it again
    assert state(cf, "failed")["states"]["leased"] == 20
    assert "are left leased until" in logged()
    cf.advance(4)
    assert redrive()["moved"] == 20
    assert state(cf, "failed")["totals"]["exhausted"] == 0


def test_what_a_refusing_target_leaves_on_its_last_delivery_is_renewed(cf, failed):
    CloudflareQueuesHook().update_pull_consumer(failed, consumer_max_retries=1)
    CloudflareQueuesHook().send(failed, ["a"])
    for _ in range(4):
        cf.add_fault("batch", status=429, body=REFUSED)
        with pytest.raises(OverQuotaError):
            redrive()
    assert state(cf, "failed")["totals"]["exhausted"] == 0
    assert redrive()["moved"] == 1


def test_last_deliveries_outwait_a_rate_limit(cf, failed, logged, jumping_time):
    CloudflareQueuesHook().update_pull_consumer(failed, consumer_max_retries=1)
    CloudflareQueuesHook().send(failed, ["a"])
    cf.add_fault("batch", status=429, headers={"retry-after": "300"}, times=2)
    with pytest.raises(RateLimitedError):
        redrive()
    assert "Trying again in 300 s" in logged()
    assert state(cf, "failed")["totals"] | {"acked": 1, "exhausted": 0} == state(cf, "failed")["totals"]
    assert redrive()["moved"] == 1


@pytest.mark.parametrize("asked", ["9" * 15, "9" * 400], ids=["ages", "infinity"])
def test_a_last_delivery_that_cannot_be_saved_is_counted_whatever_the_api_asks_to_wait(cf, failed, asked):
    hook = CloudflareQueuesHook()
    hook.update_pull_consumer(failed, consumer_max_retries=1)
    hook.send(failed, ["a"])
    cf.add_fault("batch", status=429, headers={"retry-after": asked}, body=REFUSED | {"errors": []}, times=9)
    moving = Redrive(hook, failed, cf.queues["orders"], RedriveOptions(idle_timeout=0))
    with pytest.raises(RateLimitedError):
        moving.run()
    assert moving.report.to_xcom()["unconfirmed"] == 1


def test_one_message_that_is_refused_does_not_stop_the_others(cf, failed):
    sent = [{"n": n} for n in range(4)]
    CloudflareQueuesHook().send(failed, sent)
    (first, *_) = CloudflareQueuesHook().peek(failed)
    cf.add_fault("batch", status=413, body=BAD, times=3)  # all four, the first two, the first
    report = redrive()
    assert (report["moved"], report["unmovable"], report["returned"]) == (3, 1, 1)
    assert report["not_moved"] == [{"message_id": first.id, "reason": "Could not send messages: too large"}]
    assert [body for body, _ in bodies(cf)] == sent[1:]


def test_a_target_that_refuses_each_message_ends_the_run(cf, failed):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(50)])
    cf.add_fault("batch", status=400, body=BAD, times=1_000)
    with pytest.raises(InvalidRequestError):
        redrive()
    states = state(cf, "failed")["states"]
    assert (states["delayed"], states["ready"]) == (10, 40)  # ten were tried for themselves
    assert state(cf, "failed")["totals"]["delivered"] == 50


def test_what_was_accepted_before_a_send_failed_is_acked(cf, failed):
    big = ["x" * 100_000, "y" * 100_000, "z" * 100_000]  # two requests
    CloudflareQueuesHook().send(failed, big)
    cf.add_fault("batch", status=200, apply=True, body={"success": True, "result": {}})
    cf.add_fault("batch", status=429, body=REFUSED)
    with pytest.raises(OverQuotaError):
        redrive()
    assert state(cf, "failed")["states"] == {"ready": 1, "delayed": 0, "leased": 0}
    assert state(cf, "orders")["states"]["ready"] == 2


def test_a_run_that_ends_by_its_own_limit_moves_what_it_pulled(cf, failed, jumping_time):
    CloudflareQueuesHook().send(failed, ["a", "b", "c"])
    for _ in range(2):
        report = redrive(messages_per_second=0.1, max_duration=9)
        assert report["moved"] == 1
        assert report["seconds"] < 9  # it does not wait for a turn that it may not use
    totals = state(cf, "failed")["totals"]
    assert (totals["delivered"], totals["retried"]) == (2, 0)


def test_what_is_not_confirmed_is_not_counted_as_moved_or_renewed(cf, failed):
    CloudflareQueuesHook().update_pull_consumer(failed, consumer_max_retries=1)
    CloudflareQueuesHook().send(failed, ["a", "b"])
    body = {"success": True, "result": {"ackCount": 0, "retryCount": 0}}
    cf.add_fault("ack", status=200, body=body, times=2)
    report = redrive(match="literal:a", fail_on="none")
    assert (report["moved"], report["renewed"], report["unconfirmed"], report["sent_not_acked"]) == (0, 0, 2, 1)


def test_a_message_whose_lease_ended_before_it_was_sent_is_not_sent(cf, failed):
    CloudflareQueuesHook().send(failed, ["a", "b"])
    slow = {"match": f"function:{__name__}.takes_its_time", "visibility_timeout": "0.01", "max_messages": 2}
    report = redrive(**slow, fail_on="none")
    assert (report["pulled"], report["expired"]) == (2, 2)
    assert calls(cf, "batch", "ack") == ["batch"]  # the one that sent them here


def test_a_message_whose_lease_ended_before_it_was_sent_counts_for_fail_on(cf, failed):
    CloudflareQueuesHook().send(failed, ["a", "b"])
    slow = {"match": f"function:{__name__}.takes_its_time", "visibility_timeout": "0.01", "max_messages": 2}
    with pytest.raises(ProcessingFailedError, match="2 of 2 messages to move"):
        redrive(**slow)


def test_a_redrive_does_not_warn_that_a_dead_letter_queue_has_none_of_its_own(cf, failed, logged):
    redrive()
    assert "dead-letter queue" not in logged()


def test_a_consumer_that_cannot_be_read_is_taken_to_delete_after_three_deliveries(cf, failed, logged):
    CloudflareQueuesHook().send(failed, [{"type": "letter"}])
    refusal = {"success": False, "errors": [{"code": 10000, "message": "no"}]}
    cf.add_fault("consumers", status=403, body=refusal, times=3)
    stays = {"match": f"function:{__name__}.wants_orders", "max_messages": 1, "unmatched_delay_seconds": 0}
    reports = [redrive(**stays) for _ in range(3)]
    assert [(report["renewed"], report["returned"]) for report in reports] == [(0, 1), (0, 1), (1, 0)]
    assert state(cf, "failed")["backlog_count"] == 1
    assert "The pull consumer of queue failed could not be read" in logged()


def test_leases_last_as_long_as_asked_for(cf, failed):
    redrive()
    redrive(visibility_timeout="1200")
    pulls = [request for request in cf.requests() if request["path"].endswith("/pull")]
    assert [pull["body"]["visibility_timeout_ms"] for pull in pulls] == [600_000, 1_200_000]


def test_a_filter_that_fails_for_every_message_fails_the_task(cf, failed):
    CloudflareQueuesHook().send(failed, ["a", "b"])
    with pytest.raises(ProcessingFailedError, match=r"2 of 2 messages to move .* TypeError") as error:
        redrive(match=f"function:{__name__}.wants_orders")
    assert error.value.queue == "failed"
    assert state(cf, "failed")["states"]["delayed"] == 2


def test_a_hundred_of_the_messages_that_stay_are_listed(cf, failed):
    CloudflareQueuesHook().send(failed, ["a"] * 101)
    report = redrive(match=f"function:{__name__}.wants_orders", fail_on="none")
    assert (report["unmovable"], len(report["not_moved"])) == (101, 100)


@pytest.mark.parametrize(("fail_on", "fails"), [("any", True), ("all", False), ("none", False), ("0.5", False)])
def test_fail_on_says_how_many_may_stay(cf, failed, fail_on, fails):
    CloudflareQueuesHook().send(failed, ["a", {"type": "order"}])
    try:
        redrive(match=f"function:{__name__}.wants_orders", fail_on=fail_on)
    except ProcessingFailedError:
        assert fails
    else:
        assert not fails


def test_a_message_that_cannot_be_moved_and_stays_leased_counts_once(cf, failed):
    CloudflareQueuesHook().update_pull_consumer(failed, consumer_max_retries=1)
    cf.send(failed, "AP8=", content_type="bytes")
    CloudflareQueuesHook().send(failed, ["a"])
    with pytest.raises(ProcessingFailedError, match="1 of 2 messages to move"):
        redrive(fail_on="any")


def test_an_unmatched_message_that_could_not_be_given_back_does_not_count(cf, failed):
    CloudflareQueuesHook().send(failed, ["a"])
    cf.add_fault("ack", status=200, body={"success": True, "result": {"ackCount": 0, "retryCount": 0}})
    report = redrive(match="literal:b")
    assert (report["unmatched"], report["unconfirmed"]) == (1, 1)


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
        ({"target_queue_name": "failed"}, "The messages of queue failed cannot be moved to the same queue"),
        ({"target_queue_name": None}, "exactly one of target_queue_id and target_queue_name"),
        ({"match": "order"}, "must begin with"),
        ({"messages_per_second": "0"}, "messages_per_second must be above 0"),
        ({"max_duration": -1}, "max_duration must be at least 0 seconds"),
        ({"idle_timeout": -1}, "idle_timeout must be at least 0 seconds"),
        ({"visibility_timeout": 0}, "visibility_timeout must be from 0.001 to 43200"),
        ({"grace": -1}, "grace must be at least 0 seconds"),
        ({"grace": None}, "grace is None: give a value"),
        ({"fail_on": "some"}, "fail_on must be"),
    ],
)
def test_wrong_arguments_pull_nothing(cf, failed, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        redrive(**arguments)
    assert calls(cf, "pull") == []


def test_a_typo_in_match_is_found_when_the_dag_is_parsed_but_for_templates():
    with pytest.raises(ValueError, match="must begin with"):
        operator(match=["literal:a", "jsonpat:$.type"])
    assert operator(match="{{ params.match }}").match == "{{ params.match }}"
    with DAG("redrive", schedule=None):
        other = QueueRedriveOperator(task_id="other", queue_name="a", target_queue_name="b")
        assert operator(match=[other.output]).match == [other.output]


def test_the_rate_is_kept(cf, failed):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(150)])
    report = redrive(messages_per_second=200)
    assert report["moved"] == 150
    assert report["seconds"] >= 0.5  # a hundred at once, the others half a second later


def test_copies_for_its_own_queue_count_for_the_rate(cf, failed, jumping_time):
    CloudflareQueuesHook().update_pull_consumer(failed, consumer_max_retries=1)
    CloudflareQueuesHook().send(failed, ["keep"] * 5)
    report = redrive(match="literal:other", messages_per_second=1)
    assert report["renewed"] == 5
    assert 3 <= report["seconds"] < 10  # a pull does not wait for the copy of the message before


def test_a_low_rate_moves_one_message_at_a_time_and_says_how_far_it_is(cf, failed, jumping_time, logged):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(20)])
    report = redrive(messages_per_second=0.5, max_messages=10)
    pulls = [request["body"] for request in cf.requests() if request["path"].endswith("/pull")]
    assert [pull["batch_size"] for pull in pulls] == [1] * 10
    assert 18 <= report["seconds"] < 20
    (backlog,) = re.findall(r"Moved [56] messages \(0\.\d/s\), .*; backlog: (\d+)", logged())  # after ten seconds
    assert backlog in ("14", "15")


def test_an_empty_queue_is_looked_at_less_and_less_often(cf, failed, jumping_time):
    redrive(idle_timeout=30)
    assert calls(cf, "pull") == ["pull"] * 6  # after 0, 1, 3, 7, 15 and 30 seconds


def test_sends_stay_below_the_limit_of_the_api():
    pace, now, sends = Pace(None), 0.0, []
    while now < 1_000:
        now += pace.seconds_left(now)
        pace.sent(100, now)
        sends.append(now)
    within = 1_001  # of the 1,200 that the API takes in five minutes
    assert all(later - first > 300 for first, later in zip(sends, sends[within:], strict=False))


def test_no_more_is_pulled_than_asked_for(cf, failed):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(20)])
    assert redrive(max_messages="5")["moved"] == 5
    assert state(cf, "failed")["states"] == {"ready": 15, "delayed": 0, "leased": 0}


def test_a_killed_task_acks_what_was_sent_leaves_the_rest_and_the_next_try_goes_on(cf, failed, until):
    CloudflareQueuesHook().send(failed, [{"n": n} for n in range(50)])
    task = operator(messages_per_second=5, grace="3")

    def kill():
        until(lambda: state(cf, "orders")["states"]["ready"])
        task.on_kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(ProcessingFailedError, match=r"was killed: moved (no|\d+) message"):
        task.execute({})
    thread.join()
    moved = state(cf, "orders")["states"]["ready"]
    assert 0 < moved < 50
    assert state(cf, "failed")["states"] == {"ready": 50 - moved, "delayed": 0, "leased": 0}
    assert state(cf, "failed")["totals"]["delivered"] == moved
    assert redrive()["moved"] == 50 - moved
    assert sorted(body["n"] for body, _ in bodies(cf)) == list(range(50))


def test_a_task_that_is_killed_while_it_looks_up_its_queues_pulls_nothing(cf, failed):
    task = operator()
    task.on_kill()
    with pytest.raises(ProcessingFailedError, match="was killed: moved no messages"):
        task.execute({})
    assert calls(cf, "pull") == []


class Slow:
    """What a function in match does, in a test that kills meanwhile."""

    seen = 0
    go_on = threading.Event()
    task = None


def kills_at_the_first(message):
    Slow.seen += 1
    Slow.task.on_kill()
    Slow.go_on.wait()
    return True


@pytest.mark.parametrize("blocks", [False, True])
def test_a_slow_filter_does_not_hold_up_a_kill(cf, failed, blocks):
    CloudflareQueuesHook().send(failed, ["a", "b"])
    Slow.seen = 0
    Slow.go_on = threading.Event()
    Slow.task = operator(match=f"function:{__name__}.kills_at_the_first", grace=0.05 if blocks else 60)
    if not blocks:
        Slow.go_on.set()
    with pytest.raises(ProcessingFailedError, match="was killed: moved no messages"):
        Slow.task.execute({})
    Slow.go_on.set()
    assert Slow.seen == 1
    assert state(cf, "failed")["states"] == {"ready": 2, "delayed": 0, "leased": 0}


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
    cf.advance(600)
    assert redrive()["moved"] == 2
    assert sorted(body for body, _ in bodies(cf)) == ["a", "a", "b", "b"]


def test_a_worker_killed_between_renewal_and_ack_leaves_a_copy(cf, failed, worker, until):
    CloudflareQueuesHook().update_pull_consumer(failed, consumer_max_retries=1)
    CloudflareQueuesHook().send(failed, ["keep"])
    cf.add_fault("ack", status=503, times=2)
    process = worker(REDRIVE.replace('name="orders"', 'name="orders", match="literal:other"'))
    until(lambda: calls(cf, "ack"))
    process.kill()
    process.wait()
    assert state(cf, "failed")["states"] == {"ready": 0, "delayed": 1, "leased": 1}
    cf.advance(600)
    assert {body for body, _ in bodies(cf, "failed")} == {"keep"}
