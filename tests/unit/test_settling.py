"""What counts as confirmed, whatever becomes of a request."""

from __future__ import annotations

from contextlib import suppress

import pytest

from airflow_provider_cfqueues.engines.settlement import Case, Happened, Kind, Situation, choose_settlement
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.exceptions import (
    CloudflareQueuesError,
    InvalidRequestError,
    MalformedResponseError,
    TransportError,
)
from airflow_provider_cfqueues.models import AckResult, Consumer, Message

SITUATION = Situation(consumer=Consumer(type="http_pull", dead_letter_queue="failed"))


def settling(*happened):
    messages = [Message(id=f"m{n}", lease_id=f"l{n}", body="x", attempts=1) for n in range(len(happened))]
    settlements = [
        choose_settlement(Case(message=message, happened=what, delay_seconds=0), SITUATION)
        for message, what in zip(messages, happened, strict=True)
    ]
    return Settling(settlements, SITUATION)


@pytest.mark.parametrize("error", [TransportError, MalformedResponseError, CloudflareQueuesError])
def test_leases_of_a_request_that_failed_are_not_confirmed_and_are_named(error):
    open_settling = settling(Happened.HANDLED, Happened.NOT_STARTED)
    flow = open_settling.send("orders")
    next(flow)
    with pytest.raises(error):
        flow.throw(error("no answer"))
    assert open_settling.counts() == {Kind.UNCONFIRMED: 2}
    named = open_settling.unconfirmed("no answer")
    assert [(message.lease_id, why) for message, why in named] == [("l0", "no answer"), ("l1", "no answer")]


def test_only_leases_that_the_api_confirmed_count_as_settled():
    partly = settling(Happened.HANDLED, Happened.HANDLED, Happened.NOT_STARTED)
    flow = partly.send("orders")
    next(flow)
    with pytest.raises(StopIteration):
        flow.send(AckResult(ack_count=1, retry_count=1, warnings={"l1": "late"}, unconfirmed=("l1",)))
    assert partly.counts() == {Kind.ACKED: 1, Kind.RETRIED: 1, Kind.UNCONFIRMED: 1}
    assert [(message.lease_id, why) for message, why in partly.unconfirmed("")] == [("l1", "late")]


def test_what_takes_several_requests_is_counted_together():
    many = settling(*[Happened.HANDLED] * 150)
    flow = many.send("orders")
    next(flow)
    flow.send(AckResult(ack_count=100))
    with pytest.raises(StopIteration):
        flow.send(AckResult(ack_count=49, unconfirmed=("l149",)))
    assert many.counts() == {Kind.ACKED: 149, Kind.UNCONFIRMED: 1}


@pytest.mark.parametrize(
    ("warnings", "why"),
    [({}, "the API counted fewer leases than it was sent"), ({"#0": "busy", "#1": "later"}, "busy; later")],
)
def test_leases_that_the_counts_lack_are_named_with_what_the_api_said(warnings, why):
    short = settling(Happened.HANDLED, Happened.HANDLED)
    flow = short.send("orders")
    next(flow)
    with pytest.raises(StopIteration):
        flow.send(AckResult(ack_count=1, retry_count=0, warnings=warnings, unconfirmed=("l0", "l1")))
    assert [(message.lease_id, said) for message, said in short.unconfirmed("")] == [("l0", why), ("l1", why)]


def refuse_copies(happened, attempts, **arguments):
    """Settle a message while every copy of it is refused; return the settling, and the calls that it made."""
    situation = Situation(consumer=Consumer(type="http_pull", max_retries=3), dead_letter_queue_id="failed")
    message = Message(id="m", lease_id="l", body="x", raw_body='"x"', attempts=attempts)
    one = Settling([choose_settlement(Case(message=message, happened=happened, **arguments), situation)], situation)
    flow, calls = one.send("orders"), []
    with suppress(StopIteration):
        call = next(flow)
        while True:
            calls.append(call)
            call = flow.send(AckResult()) if call.operation == "ack" else flow.throw(InvalidRequestError("too large"))
    return one, calls


def test_a_rejected_message_whose_copy_is_refused_waits_as_long_as_was_asked_for():
    _, calls = refuse_copies(Happened.REJECTED, 1, delay_seconds=30)
    assert calls[-1].payload == {"acks": [], "retries": [{"lease_id": "l", "delay_seconds": 30}]}
    assert len(calls) > 1


def test_a_message_whose_lease_is_over_is_not_sent_again_though_its_copy_is_refused():
    one, calls = refuse_copies(Happened.NOT_STARTED, 3, is_over=True)
    assert one.counts() == {Kind.EXPIRED: 1}
    assert {"orders" in call.path for call in calls} == {False}


def test_a_message_that_the_api_may_have_given_back_is_not_copied_after_all():
    message = Message(id="a", lease_id="lease", body="x", attempts=1)
    situation = Situation(consumer=SITUATION.consumer, dead_letter_queue_id="failed")
    one = choose_settlement(Case(message=message, happened=Happened.REJECTED, delay_seconds=0), situation)
    rejected, operations = Settling([one], situation), []
    for _ in range(2):
        with suppress(TransportError):
            flow = rejected.send("orders")
            call = next(flow)
            while True:
                operations.append(call.operation)
                call = flow.throw(TransportError("no answer"))
        rejected.try_again()
    assert operations == ["send", "ack", "ack"]
