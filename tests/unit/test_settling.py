"""What counts as confirmed, whatever becomes of a request."""

from __future__ import annotations

import pytest

from airflow_provider_cfqueues.engines.settlement import Happened, Kind, Situation, choose_settlement
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, MalformedResponseError, TransportError
from airflow_provider_cfqueues.models import AckResult, Consumer, Message

SITUATION = Situation(consumer=Consumer(type="http_pull", dead_letter_queue="failed"), can_dead_letter=False)


def settling(*happened):
    messages = [Message(id=f"m{n}", lease_id=f"l{n}", body="x", attempts=1) for n in range(len(happened))]
    settlements = [
        choose_settlement(message, what, SITUATION, reason="", delay_seconds=0)
        for message, what in zip(messages, happened, strict=True)
    ]
    return Settling(settlements, SITUATION)


@pytest.mark.parametrize("error", [TransportError, MalformedResponseError, CloudflareQueuesError])
def test_leases_of_a_request_that_failed_are_not_confirmed_and_are_named(error):
    open_settling = settling(Happened.HANDLED, Happened.NOT_STARTED)
    flow = open_settling.send("orders", None)
    next(flow)
    with pytest.raises(error):
        flow.throw(error("no answer"))
    assert open_settling.counts() == {Kind.UNCONFIRMED: 2}
    named = open_settling.unconfirmed("no answer")
    assert [(message.lease_id, why) for message, why in named] == [("l0", "no answer"), ("l1", "no answer")]


def test_only_leases_that_the_api_confirmed_count_as_settled():
    partly = settling(Happened.HANDLED, Happened.HANDLED, Happened.NOT_STARTED)
    flow = partly.send("orders", None)
    next(flow)
    with pytest.raises(StopIteration):
        flow.send(AckResult(ack_count=1, retry_count=1, warnings={"l1": "late"}, unconfirmed=("l1",)))
    assert partly.counts() == {Kind.ACKED: 1, Kind.RETRIED: 1, Kind.UNCONFIRMED: 1}
    assert [(message.lease_id, why) for message, why in partly.unconfirmed("")] == [("l1", "late")]
