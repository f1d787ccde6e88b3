"""hook.ack over HTTP: what goes over the wire, and what comes back of every shape seen in the wild."""

from __future__ import annotations

import pytest

from airflow_provider_cfqueues.exceptions import AuthenticationError, PermissionDeniedError, ServerError, TransportError
from airflow_provider_cfqueues.models import AckResult, Lease


def pulled(hook, queue, count, **kwargs):
    hook.send(queue, [f"message {number}" for number in range(count)])
    return hook.pull(queue, max_messages=count, **kwargs)


def answer_to_ack(cf, result, **envelope):
    body = {"success": True, "errors": [], "messages": [], "result": result, **envelope}
    cf.add_fault(path="ack", status=200, body=body)


def sent_to(cf, path):
    return [request["body"] for request in cf.requests() if request["path"].endswith(f"/{path}")]


def test_leases_are_acked_and_retried_in_one_request(hook, cf, queue):
    first, second, third = pulled(hook, queue, 3)
    result = hook.ack(queue, acks=[first.lease_id], retries=[second, (third.lease_id, 60)])
    assert result == AckResult(ack_count=1, retry_count=2, warnings={}, messages=[])
    assert (result.confirmed_count, result.unconfirmed) == (3, ())
    assert sent_to(cf, "ack") == [
        {
            "acks": [{"lease_id": first.lease_id}],
            "retries": [{"lease_id": second.lease_id}, {"lease_id": third.lease_id, "delay_seconds": 60}],
        }
    ]
    assert [message.id for message in hook.pull(queue, max_messages=10)] == [second.id]
    cf.advance(60)
    assert third.id in [message.id for message in hook.pull(queue, max_messages=10)]


def test_without_leases_no_request_is_made(hook, cf, queue):
    assert hook.ack(queue) == AckResult(ack_count=0, retry_count=0, warnings={}, messages=[])
    assert sent_to(cf, "ack") == []


def test_an_explicit_delay_of_zero_is_sent(hook, cf, queue):
    (message,) = pulled(hook, queue, 1)
    hook.ack(queue, retries=[Lease(lease_id=message.lease_id, delay_seconds=0)])
    assert sent_to(cf, "ack")[0]["retries"] == [{"lease_id": message.lease_id, "delay_seconds": 0}]


def test_fractions_of_a_second_are_rounded_up(hook, cf, queue):
    (message,) = pulled(hook, queue, 1)
    hook.ack(queue, retries=[(message.lease_id, 0.2)])
    assert sent_to(cf, "ack")[0]["retries"][0]["delay_seconds"] == 1


def test_a_lease_in_both_lists_is_retried_and_never_acked(hook, cf, queue):
    (message,) = pulled(hook, queue, 1)
    result = hook.ack(queue, acks=[message, message], retries=[(message.lease_id, 60), (message.lease_id, 0)])
    assert (result.ack_count, result.retry_count) == (0, 1)
    assert [again.id for again in hook.pull(queue, max_messages=1)] == [message.id]


def test_an_ack_with_a_delay_is_refused_before_anything_is_sent(hook, cf, queue):
    with pytest.raises(ValueError, match="give these leases as retries"):
        hook.ack(queue, acks=[("lease", 5)])
    assert cf.requests() == []


def test_an_unknown_lease_is_not_confirmed(hook, queue):
    (message,) = pulled(hook, queue, 1)
    result = hook.ack(queue, acks=[message.lease_id, "unheard-of"])
    assert result.ack_count == 1
    assert set(result.warnings) == {"unheard-of"}
    assert result.unconfirmed == ("unheard-of",)
    assert result.confirmed_count == 1


def test_more_than_a_hundred_leases_go_in_several_requests(hook, cf, queue):
    messages = pulled(hook, queue, 250)
    result = hook.ack(queue, acks=messages[:180], retries=[*messages[180:], "unheard-of"])
    assert (result.ack_count, result.retry_count) == (180, 70)
    assert result.confirmed_count == 250
    assert list(result.warnings) == ["unheard-of"]
    assert [len(body["acks"]) + len(body["retries"]) for body in sent_to(cf, "ack")] == [100, 100, 51]


@pytest.mark.parametrize(
    ("wire", "expected", "confirmed", "unconfirmed"),
    [
        (None, AckResult(ack_count=None, retry_count=None), 0, ("a1", "a2", "r1")),
        ({}, AckResult(ack_count=None, retry_count=None), 0, ("a1", "a2", "r1")),
        ([], AckResult(ack_count=None, retry_count=None), 0, ("a1", "a2", "r1")),
        ({"warnings": {}}, AckResult(ack_count=None, retry_count=None), 3, ()),
        ({"ackCount": None, "retryCount": None}, AckResult(ack_count=None, retry_count=None), 3, ()),
        ({"ackCount": 2, "retryCount": 1}, AckResult(ack_count=2, retry_count=1), 3, ()),
        ({"ackCount": 2.0, "retryCount": 1, "warnings": None}, AckResult(ack_count=2, retry_count=1), 3, ()),
        ({"ackCount": 2, "retryCount": 1, "warnings": {}}, AckResult(ack_count=2, retry_count=1), 3, ()),
        ({"ackCount": 2}, AckResult(ack_count=2, retry_count=None), 3, ()),
        (
            {"ackCount": 1, "retryCount": 1, "warnings": {"a1": "late"}},
            AckResult(ack_count=1, retry_count=1, warnings={"a1": "late"}),
            2,
            ("a1",),
        ),
        (
            {"warnings": {"a1": "late"}},
            AckResult(ack_count=None, retry_count=None, warnings={"a1": "late"}),
            2,
            ("a1",),
        ),
        (
            {"ackCount": 1, "retryCount": 1, "warnings": ["one is late"]},
            AckResult(ack_count=1, retry_count=1, warnings={"#0": "one is late"}),
            2,
            ("a1", "a2"),
        ),
        (
            {"ackCount": 2, "retryCount": 1, "warnings": [{"message": "odd"}, "odder"]},
            AckResult(ack_count=2, retry_count=1, warnings={"#0": "odd", "#1": "odder"}),
            3,
            (),
        ),
        ({"ackCount": -1, "retryCount": True}, AckResult(ack_count=None, retry_count=None), 0, ("a1", "a2", "r1")),
        ({"ackCount": "2", "retryCount": 1}, AckResult(ack_count=None, retry_count=1), 1, ("a1", "a2")),
        ({"ackCount": 2, "retryCount": 0.5}, AckResult(ack_count=2, retry_count=None), 2, ("r1",)),
        (
            {"ackCount": 2, "retryCount": 1, "warnings": 5},
            AckResult(ack_count=2, retry_count=1, warnings={"#0": "5"}),
            3,
            (),
        ),
        (
            {"warnings": "one text"},
            AckResult(ack_count=None, retry_count=None, warnings={"#0": "one text"}),
            1,
            ("a1", "a2", "r1"),
        ),
        (
            {"warnings": {"other": "late"}},
            AckResult(ack_count=None, retry_count=None, warnings={"other": "late"}),
            1,
            ("a1", "a2", "r1"),
        ),
        ({"ackCount": 0, "retryCount": 0}, AckResult(ack_count=0, retry_count=0), 0, ("a1", "a2", "r1")),
        ({"ackCount": 1, "retryCount": 1}, AckResult(ack_count=1, retry_count=1), 2, ("a1", "a2")),
    ],
)
def test_every_shape_of_the_result_is_read(hook, cf, queue, wire, expected, confirmed, unconfirmed):
    answer_to_ack(cf, wire)
    result = hook.ack(queue, acks=["a1", "a2"], retries=["r1"])
    assert result == expected
    assert (result.confirmed_count, result.unconfirmed) == (confirmed, unconfirmed)


def test_warnings_that_name_no_lease_and_no_count_leave_all_leases_open(hook, cf, queue):
    answer_to_ack(cf, {"warnings": ["something is off"]})
    result = hook.ack(queue, acks=["a1"])
    assert (result.confirmed_count, result.unconfirmed) == (0, ("a1",))


def test_the_messages_of_the_envelope_are_kept_and_logged(hook, cf, queue, logged):
    answer_to_ack(cf, {"ackCount": 1, "retryCount": 0}, messages=["heads up"])
    assert hook.ack(queue, acks=["a1"]).messages == ["heads up"]
    assert "heads up" in logged()


def test_results_of_several_requests_are_merged(hook, cf, queue):
    answer_to_ack(cf, {"ackCount": 100, "retryCount": 0, "warnings": ["first"]}, messages=["one"])
    answer_to_ack(cf, {"ackCount": 20, "warnings": ["second"]}, messages=["two"])
    result = hook.ack(queue, acks=[f"lease-{number}" for number in range(120)])
    assert result == AckResult(
        ack_count=120, retry_count=None, warnings={"#0": "first", "#1": "second"}, messages=["one", "two"]
    )


def test_a_later_failure_says_what_is_settled_what_is_not_and_what_is_unknown(hook, cf, queue):
    messages = pulled(hook, queue, 250)
    leases = [message.lease_id for message in messages]
    answer_to_ack(cf, {"ackCount": 100, "retryCount": 0})
    cf.add_fault(path="ack", status=200, body="<html>captive portal</html>")
    with pytest.raises(Exception, match="not confirmed") as caught:
        hook.ack(queue, acks=leases)
    progress = caught.value.progress
    assert progress.done == tuple(leases[:100])
    assert progress.unknown == tuple(leases[100:200])
    assert progress.not_done == tuple(leases[200:])
    assert progress.result.ack_count == 100
    assert "150 of 250 leases not confirmed" in str(caught.value)
    assert leases[100][-12:] in str(caught.value)


def test_a_refused_request_leaves_its_leases_certainly_not_settled(hook, cf, queue):
    cf.add_fault(path="ack", status=401, body={"success": False, "errors": [{"code": 10000, "message": "no"}]})
    with pytest.raises(AuthenticationError) as caught:
        hook.ack(queue, acks=["a1"], retries=["r1"])
    assert caught.value.progress.not_done == ("a1", "r1")
    assert caught.value.progress.unknown == ()


@pytest.mark.parametrize("fault", [{"drop": "after"}, {"drop": "before"}, {"status": 503}, {"truncate": True}])
def test_an_ack_whose_answer_was_lost_is_repeated(hook, cf, queue, fault):
    (message,) = pulled(hook, queue, 1)
    cf.add_fault(path="ack", **fault)
    try:
        result = hook.ack(queue, acks=[message])
    except (TransportError, ServerError) as error:  # pragma: no cover - says what failed
        pytest.fail(str(error))
    assert len(sent_to(cf, "ack")) == 2
    assert result.ack_count in (0, 1)


def test_what_answered_requests_warned_of_outlives_a_later_failure(hook, cf, queue, logged):
    bogus = [f"bogus-{number}" for number in range(3)]
    messages = pulled(hook, queue, 177)
    cf.add_fault(path="ack", delay_ms=0)
    cf.add_fault(path="ack", status=403, body={"success": False, "errors": []})
    with pytest.raises(PermissionDeniedError) as caught:
        hook.ack(queue, acks=[*bogus, *messages])
    assert caught.value.progress.unconfirmed == tuple(bogus)
    assert len(caught.value.progress.done) == 97
    assert "83 of 180 leases not confirmed (answered, but not confirmed: bogus-0" in str(caught.value)
    assert logged().count("Lease bogus-") == 3


def test_a_refusal_after_a_lost_answer_leaves_its_leases_unknown(hook, cf, queue):
    (message,) = pulled(hook, queue, 1)
    cf.add_fault(path="ack", drop="after")
    cf.add_fault(path="ack", status=403, body={"success": False, "errors": []})
    with pytest.raises(PermissionDeniedError) as caught:
        hook.ack(queue, acks=[message])
    assert caught.value.maybe_applied
    assert caught.value.progress.unknown == (message.lease_id,)
    assert caught.value.progress.not_done == ()


def test_a_result_tells_that_an_earlier_try_may_have_settled_its_leases(hook, cf, queue):
    first, second = pulled(hook, queue, 2)
    assert not hook.ack(queue, acks=[first]).repeated
    cf.add_fault(path="ack", drop="after")
    result = hook.ack(queue, acks=[second])
    assert result.repeated
    assert result.unconfirmed == (second.lease_id,)
