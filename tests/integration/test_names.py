"""What the log, XCom and the error of QueueProcessOperator say: names for what is open, and no line twice."""

from __future__ import annotations

import re
import signal
import time

import pytest

from airflow_provider_cfqueues.client.repeating import Told
from airflow_provider_cfqueues.exceptions import AuthenticationError, ProcessingFailedError
from airflow_provider_cfqueues.operators.queues import QueueRedriveOperator
from airflow_provider_cfqueues.outcomes import Reject, Retry

QUEUES = ["orders", "failed"]

UNAUTHORIZED = {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}


class TaskInstance:
    """Keeps what is pushed."""

    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


def fail(message):
    raise RuntimeError(f"out of stock: {message.body}")


def counts(acks):
    return {"success": True, "errors": [], "messages": [], "result": {"ackCount": acks, "retryCount": 0}}


def test_a_message_that_the_api_does_not_confirm_is_named_with_lease_and_the_apis_text(cf, process, logged):
    lease = "lease-id" + "x" * 80 + "the-end-of-it"
    item = {"id": "i", "lease_id": lease, "attempts": 1, "body": "x", "metadata": {"CF-Content-Type": "text"}}
    cf.add_fault(path="pull", status=200, body={"success": True, "result": {"messages": [item]}})
    report = process(lambda message: None, fail_on="none")
    assert (report["unconfirmed"], report["unconfirmed_ids"], report["unconfirmed_more"]) == (1, ["i"], 0)
    (warning,) = [
        line for line in logged().splitlines() if "the API did not confirm the ack or retry of 1 message" in line
    ]
    assert re.search(
        r"Queue orders: the API did not confirm the ack or retry of 1 message \(.*lease.*\)\. If it is not settled, it "
        r"is delivered again when its lease ends, by [\d:]{8} UTC\. That is harmless if the work is safe to repeat\. "
        r"Message: i \(lease lease-id…he-end-of-it\)",
        warning,
    )
    assert lease not in logged()


def test_many_that_are_not_confirmed_are_bounded_and_the_rest_is_counted(cf, send, process):
    for _ in range(2):
        send(*["x"] * 60)
    cf.add_fault("ack", status=200, body=counts(0), times=10)
    context = {"ti": TaskInstance()}
    with pytest.raises(ProcessingFailedError, match=r"120 messages are not confirmed .* and 20 more") as caught:
        process(lambda message: None, context, fail_on="any", settle_interval=5)
    assert "failed" not in str(caught.value).partition(" (fail_on")[0]
    report = context["ti"].pushed["report"]
    assert (report["unconfirmed"], len(report["unconfirmed_ids"]), report["unconfirmed_more"]) == (120, 100, 20)


def test_after_an_outage_table_xcom_and_error_have_the_same_numbers(cf, send, process, logged):
    send("a", "b", "c")
    cf.add_fault("ack", status=401, body=UNAUTHORIZED, times=100)
    context = {"ti": TaskInstance()}
    with pytest.raises(AuthenticationError) as caught:
        process(lambda message: None, context, settle_interval=0)
    report = context["ti"].pushed["report"]
    count = report["unconfirmed"]
    assert count == report["pulled"] >= 1
    assert re.search(rf"  not confirmed +{count}\n", logged())
    assert re.search(f": {count} (is|are) not confirmed", str(caught.value))
    _, _, after_the_remedy = str(caught.value).partition(AuthenticationError.remedy)
    for message_id in report["unconfirmed_ids"]:
        assert message_id in after_the_remedy
        assert f"{message_id} (lease " in logged()


def test_the_numbers_of_failures_are_the_same_in_table_xcom_and_error(cf, send, process, logged):
    send("a", "b", "good")
    cf.add_fault("ack", status=200, body=counts(0), times=10)
    context = {"ti": TaskInstance()}
    with pytest.raises(ProcessingFailedError, match=r"^2 of 3 messages failed and 1 message is not confirmed"):
        process(lambda message: None if message.body == "good" else fail(message), context, fail_on=0.9)
    report = context["ti"].pushed["report"]
    assert (report["failed"], report["unconfirmed"]) == (2, 3)
    assert re.search(r"  failed +2\n", logged())


def test_a_task_that_reaches_its_time_out_pushes_its_report(send, process):
    class TimedOut(BaseException):
        pass

    def time_out(*_):
        raise TimedOut

    send("a")
    context = {"ti": TaskInstance()}
    before = signal.signal(signal.SIGALRM, time_out)
    try:
        with pytest.raises(TimedOut):
            process(lambda message: signal.setitimer(signal.ITIMER_REAL, 0.1), context, until="forever")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert context["ti"].pushed["report"]["acked"] == 1


def test_a_redrive_names_what_is_not_confirmed(cf, send, logged):
    send("a", "b")
    cf.add_fault("ack", status=200, body=counts(0))
    operator = QueueRedriveOperator(
        task_id="r", queue_name="orders", target_queue_name="failed", idle_timeout=0, fail_on="any"
    )
    with pytest.raises(
        ProcessingFailedError,
        match=r"not confirmed\. 2 of them were sent to the target, .* \(.*run the task again.*: [0-9a-f, ]{66}",
    ):
        operator.execute({})
    assert (
        "Queue orders: the API did not confirm the ack or retry of 2 messages (the API counted fewer leases than it "
        "was sent). If they" in logged()
    )


def test_the_first_traceback_of_each_failure_is_logged_and_repeats_are_one_line_with_a_count(send, process, logged):
    send(*[str(number) for number in range(20)], "other")

    def handle(message):
        if message.body == "other":
            raise KeyError("customer")
        fail(message)

    process(handle, fail_on="none")
    log = logged()
    assert log.count("raise RuntimeError(") == 1
    assert log.count('raise KeyError("customer")') == 1
    assert "handling.py" not in log.replace("loc=", "")
    assert "(delivery 1 of at most 4) is retried in 60 s: RuntimeError: out of stock: " in log
    assert re.search(
        r"19 more messages failed like message \w+ \(the last one is retried in 60 s: RuntimeError: out of stock: ", log
    )


def test_reasons_that_are_all_different_do_not_fill_the_log(send, process, logged):
    for start in (0, 100):
        send(*[f"customer {number}" for number in range(start, start + 100)])

    def handle(message):
        raise Reject(f"unknown {message.body}")

    process(handle, fail_on="none", dead_letter_queue="failed")
    assert 100 <= logged().count(" is moved to 'failed': unknown customer ") < 110
    assert re.search(
        r"9\d more messages failed like message \w+ \(the last one is moved to 'failed': unknown ", logged()
    )


def test_a_message_that_fails_again_and_again_is_counted_once_and_is_not_one_of_the_others(send, process, logged):
    send("a", "b", "c")
    process(fail, fail_on="none", delay_seconds=0, max_messages=6)
    (line,) = [line for line in logged().splitlines() if "like message" in line]
    first = re.search(r"2 more messages failed like message (\w+) ", line)[1]
    listed = re.search(r"out of stock: \w\): ([\w, ]+)", line)[1].split(", ")
    assert (len(listed), len(set(listed)), first in listed) == (2, 2, False)
    assert f"Message {first} again (delivery 2 of at most 4) is retried in 0 s: RuntimeError: out of stock" in logged()


def test_the_remedy_is_about_what_became_of_the_messages_that_failed(send, process, cf):
    send(*["x"] * 8)

    def reject(message):
        raise Reject("no quantity")

    with pytest.raises(
        ProcessingFailedError, match=r"8 messages are copied to the dead-letter queue\. Look at rejected"
    ) as caught:
        process(reject, dead_letter_queue="failed")
    assert "delay" not in str(caught.value)
    send(*["x"] * 3)
    with pytest.raises(
        ProcessingFailedError, match=r"Fix the cause\. 3 messages are delivered again after a delay\."
    ) as caught:
        process(fail)
    assert "dead-letter" not in str(caught.value)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (None, "2 messages handled: 2 are acked"),
        (Retry(7), "2 messages handled: 2 are delivered again after a delay"),
        (Reject("no"), "2 of 2 messages failed: 2 are copied to the dead-letter queue"),
    ],
    ids=["ack", "retry", "reject"],
)
def test_the_last_line_says_how_the_run_went(send, process, logged, outcome, says):
    send("a", "b")
    process(lambda message: outcome, fail_on="none", dead_letter_queue="failed")
    assert says in logged().strip().splitlines()[-1]


def test_the_last_line_of_a_run_without_messages_says_so(send, process, logged):
    process(print)
    assert "No message was pulled" in logged().strip().splitlines()[-1]


def test_a_message_whose_turn_came_too_late_is_delivered_again(send, process, logged):
    send("a", "b")
    process(lambda message: time.sleep(1.05), visibility_timeout=1, fail_on="none", max_messages=2)
    log = logged()
    again = "(delivery 1 of at most 4) was not handled: its lease ended before a handler took it; it is delivered again"
    assert again in log
    assert "1 handled message needed longer than its lease" in log
    last = "1 message handled: 1 is acked; 1 more delivery was skipped, as its lease ended before the handler began"
    assert last in log.strip().splitlines()[-1]


def test_failures_in_different_places_are_different(send, process, logged):
    send("a", "b")

    def handle(message):
        if message.body == "a":
            raise RuntimeError("one")
        raise RuntimeError("another")

    process(handle, fail_on="none")
    assert "like message" not in logged()


@pytest.mark.parametrize(
    ("outcome", "arguments", "text"),
    [
        (Reject("no"), {"dead_letter_queue": "failed"}, "(delivery 1 of at most 4) is moved to 'failed': no"),
        (Retry(7), {}, "(delivery 1 of at most 4) is retried in 7 s: asked for a retry"),
        (Retry(), {"delay_seconds": None}, "(delivery 1 of at most 4) is retried in 0 s: asked for a retry"),
    ],
    ids=["reject", "delay", "no delay"],
)
def test_the_line_of_a_message_says_where_it_goes_and_when(send, process, logged, outcome, arguments, text):
    send("a")
    process(lambda message: outcome, fail_on="none", **arguments)
    assert text in logged()


def test_a_retry_that_is_worth_no_line_has_none(send, process, logged):
    send("a")
    process(lambda message: Retry(reason=None))
    assert "is retried in" not in logged()


def test_the_error_of_a_task_groups_what_failed_alike_whatever_the_texts_say(send, process):
    """As the log does: by the exception's type and place. An error of HTTP has another URL in each text."""
    for _ in range(2):
        send(*[f"customer {number}" for number in range(70)])
    send(*["odd"] * 3)

    def handle(message):
        if message.body == "odd":
            raise Reject("no quantity")
        fail(message)

    with pytest.raises(ProcessingFailedError, match="143 of 143 messages failed") as caught:
        process(handle)
    assert re.search(
        r": 140 x RuntimeError: out of stock: customer \d+, for example \w+ at delivery 1; 3 x no quantity, for",
        str(caught.value),
    )
    assert "see the log" not in str(caught.value)


def test_the_error_of_a_task_is_short_though_no_two_messages_failed_alike(send, process):
    for start in (0, 100):
        send(*[f"customer {number}" for number in range(start, start + 100)])

    def handle(message):
        raise Reject(f"unknown {message.body}")

    with pytest.raises(ProcessingFailedError, match=r"; 197 more, see the log") as caught:
        process(handle)
    assert len(str(caught.value)) < 2_000


def test_messages_that_are_retried_as_asked_are_not_said_to_have_failed(send, process, logged):
    send("a", "b", "c")
    process(lambda message: Retry(7))
    assert re.search(
        r"2 more messages like message \w+ \(the last one is retried in 7 s: asked for a retry\)", logged()
    )


def test_requests_have_no_lines_of_their_own_in_the_log(send, process, caplog):
    caplog.set_level("INFO")
    send("a")
    process(lambda message: None)
    assert {record.name.partition(".")[0] for record in caplog.records} & {
        "httpx",
        "httpcore",
        "h11",
        "urllib3",
    } == set()


def test_requests_that_fail_alike_are_one_line_a_minute_with_a_count():
    told = Told()
    assert [told.how_often("503", now) for now in (0, 1, 30, 59.9)] == [0, None, None, None]
    assert told.how_often("refused", 30) == 0
    assert [told.how_often("503", now) for now in (60, 61)] == [3, None]
    assert told.how_often("503", 200) == 1
