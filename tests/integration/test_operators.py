"""The operators as a DAG author uses them, outside a task runner: ``execute`` against the emulator."""

from __future__ import annotations

import inspect
import json

import pytest

from airflow_provider_cfqueues.delays import ExponentialDelay
from airflow_provider_cfqueues.exceptions import ServerError, UnconfirmedLeasesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators import queues
from airflow_provider_cfqueues.operators.queues import (
    QueueAckOperator,
    QueueCreateOperator,
    QueueDeleteOperator,
    QueueEnsurePullConsumerOperator,
    QueuePauseOperator,
    QueuePullOperator,
    QueuePurgeOperator,
    QueueRedriveOperator,
    QueueResumeOperator,
    QueueRetryOperator,
    QueueSendOperator,
    QueueSettleOperator,
)

OPERATORS = [
    QueueAckOperator,
    QueueCreateOperator,
    QueueDeleteOperator,
    QueueEnsurePullConsumerOperator,
    QueuePauseOperator,
    QueuePullOperator,
    QueuePurgeOperator,
    QueueRedriveOperator,
    QueueResumeOperator,
    QueueRetryOperator,
    QueueSendOperator,
    QueueSettleOperator,
]
SWITCHES = {"repeat_ambiguous", "wait_for_completion", "deferrable", "unwrap", "grace"}


class TaskInstance:
    """All that the operators ask of one."""

    def __init__(self):
        self.xcoms = {}

    def xcom_push(self, key, value):
        self.xcoms[key] = value


@pytest.fixture
def run(queue):
    def run(kind, context=None, **arguments):
        if "queue_name" not in arguments:
            arguments.setdefault("queue_id", queue)
        return kind(task_id="task", **arguments).execute({} if context is None else context)

    return run


@pytest.fixture
def pulled(run):
    """Messages as XCom holds them."""
    run(QueueSendOperator, messages=["a", "b", "c"])
    return json.loads(json.dumps(run(QueuePullOperator, visibility_timeout=600)))


def acks_sent(cf):
    return [request["body"] for request in cf.requests() if request["path"].endswith("/messages/ack")]


def test_pulled_messages_are_plain_json(run, pulled):
    keys = ["id", "lease_id", "body", "attempts", "timestamp", "content_type", "metadata", "lease_expires_at"]
    assert [list(message) for message in pulled] == [keys] * 3
    assert sorted(message["body"] for message in pulled) == ["a", "b", "c"]


def test_only_what_could_not_be_decoded_has_a_raw_body(cf, run):
    bad = {"id": "i", "lease_id": "l", "body": "/w8=", "metadata": {"CF-Content-Type": "v8"}}
    good = {"id": "j", "lease_id": "m", "body": "AP8=", "metadata": {"CF-Content-Type": "bytes"}}
    cf.add_fault(path="pull", status=200, body={"success": True, "result": {"messages": [bad, good]}})
    first, second = json.loads(json.dumps(run(QueuePullOperator)))
    assert (first["body"], first["raw_body"]) == (None, "/w8=")
    assert "Worker" in first["body_error"]
    assert second["body"] == "AP8="
    assert "raw_body" not in second


def test_an_ack_returns_and_pushes_the_counts(run, pulled):
    ti = TaskInstance()
    result = run(QueueAckOperator, {"ti": ti}, lease_ids=pulled)
    assert result == {"ack_count": 3, "retry_count": 0, "warnings": {}}
    assert ti.xcoms == result


def test_without_xcom_push_nothing_is_pushed(run, pulled):
    ti = TaskInstance()
    run(QueueAckOperator, {"ti": ti}, lease_ids=pulled, do_xcom_push=False)
    assert ti.xcoms == {}


@pytest.mark.parametrize("nothing", [None, [], "", "None", "[]"])
def test_no_leases_succeed_without_a_request(cf, run, nothing):
    ti = TaskInstance()
    for kind in (QueueAckOperator, QueueRetryOperator):
        assert run(kind, {"ti": ti}, lease_ids=nothing) == {"ack_count": 0, "retry_count": 0, "warnings": {}}
    assert ti.xcoms == {"ack_count": 0, "retry_count": 0, "warnings": {}}
    assert cf.requests() == []


def test_a_retry_waits_a_fixed_time(cf, run, pulled):
    assert run(QueueRetryOperator, lease_ids=pulled, delay_seconds="90")["retry_count"] == 3
    assert {retry["delay_seconds"] for retry in acks_sent(cf)[0]["retries"]} == {90}
    assert run(QueuePullOperator) == []
    cf.advance(91)
    assert len(run(QueuePullOperator)) == 3


def test_a_retry_without_a_delay_leaves_it_to_the_consumer(cf, run, pulled):
    run(QueueRetryOperator, lease_ids=pulled)
    assert all("delay_seconds" not in retry for retry in acks_sent(cf)[0]["retries"])


def test_a_retry_waits_by_a_rule(cf, run, pulled):
    run(QueueRetryOperator, lease_ids=pulled, delay_seconds=0)
    again = run(QueuePullOperator)
    assert {message["attempts"] for message in again} == {2}
    run(QueueRetryOperator, lease_ids=again, delay_seconds=ExponentialDelay(initial_seconds=10, factor=5))
    assert {retry["delay_seconds"] for retry in acks_sent(cf)[1]["retries"]} == {50}


def test_settling_acks_and_retries_in_one_request(cf, run, pulled):
    result = run(QueueSettleOperator, ack_lease_ids=pulled[:2], retry_lease_ids=pulled[2]["lease_id"], delay_seconds=5)
    assert result == {"ack_count": 2, "retry_count": 1, "warnings": {}}
    assert len(acks_sent(cf)) == 1


@pytest.mark.parametrize(
    ("fail_on", "leases", "fails"),
    [
        ("all", ["unheard-of"], True),
        ("all", ["unheard-of", "good"], False),
        ("any", ["unheard-of", "good"], True),
        ("any", ["good"], False),
        ("none", ["unheard-of"], False),
    ],
)
def test_when_a_task_fails_is_chosen(run, pulled, fail_on, leases, fails):
    leases = [pulled[0]["lease_id"] if lease == "good" else lease for lease in leases]
    ti = TaskInstance()
    if fails:
        with pytest.raises(UnconfirmedLeasesError, match=r"did not confirm.*unheard-of") as caught:
            run(QueueAckOperator, {"ti": ti}, lease_ids=leases, fail_on=fail_on)
        assert caught.value.lease_ids == ("unheard-of",)
    else:
        run(QueueAckOperator, {"ti": ti}, lease_ids=leases, fail_on=fail_on)
    assert set(ti.xcoms) == {"ack_count", "retry_count", "warnings"}


def test_a_count_that_falls_short_makes_every_lease_suspect(cf, run):
    cf.add_fault(path="ack", status=200, body={"success": True, "result": {"ackCount": 1, "retryCount": 0}})
    with pytest.raises(UnconfirmedLeasesError, match=r"did not confirm 2 of 2 leases .*: first, second\.$"):
        run(QueueAckOperator, lease_ids=["first", "second"], fail_on="any")


def test_a_count_that_is_not_reported_is_none(cf, run):
    cf.add_fault(path="ack", status=200, body={"success": True, "result": {"warnings": {}}})
    assert run(QueueAckOperator, lease_ids=["first"]) == {"ack_count": None, "retry_count": None, "warnings": {}}


def test_a_wrong_fail_on_is_named_before_anything_is_sent(cf, run):
    with pytest.raises(ValueError, match=r"fail_on.*'sometimes'"):
        run(QueueAckOperator, lease_ids=["x"], fail_on="sometimes")
    assert cf.requests() == []


def test_warnings_are_logged_one_line_a_lease_and_late_ones_said_as_such(run, pulled, logged):
    late = {"lease_id": "x" * 100, "lease_expires_at": "2020-01-01T00:00:00+00:00"}
    soon = {"lease_id": "y" * 100, "lease_expires_at": pulled[0]["lease_expires_at"]}
    run(QueueAckOperator, lease_ids=[*pulled, late, soon])
    lines = [line for line in logged().splitlines() if "Lease " in line]
    assert len(lines) == 2
    assert "xxxxxxxx…xxxxxxxxxxxx" in lines[0]
    assert "had ended" in lines[0]
    assert "had ended" not in lines[1]


def test_a_failed_request_lists_its_leases(cf, run):
    cf.add_fault(path="ack", status=404, body={"success": False, "errors": []})
    with pytest.raises(Exception, match=r"1 of 1 leases not confirmed.*the-lease"):
        run(QueueAckOperator, lease_ids=["the-lease"])


def test_a_queue_is_given_by_name(cf, run):
    name = next(iter(cf.queues))
    assert run(QueueSendOperator, queue_name=name, messages="x")["sent_count"] == 1
    assert len(run(QueuePullOperator, queue_name=name)) == 1


@pytest.mark.parametrize("names", [{}, {"queue_id": "a", "queue_name": "b"}, {"queue_id": "", "queue_name": None}])
def test_exactly_one_of_id_and_name_is_given(cf, names):
    with pytest.raises(ValueError, match="exactly one of queue_id and queue_name"):
        QueuePullOperator(task_id="pull", **names).execute({})
    assert cf.requests() == []


def test_sending_reports_what_was_sent(cf, run):
    assert run(QueueSendOperator, messages=["a", {"n": 1}]) == {"sent_count": 2, "backlog_count": 2}
    assert run(QueueSendOperator, messages=None) == {"sent_count": 0, "backlog_count": None}
    run(QueueSendOperator, messages=["later"], delay_seconds="60")
    assert len(run(QueuePullOperator)) == 2


def test_a_send_that_may_have_been_accepted_fails_unless_asked_to_repeat(cf, run):
    cf.add_fault(path="batch", status=500, body="", times=2)
    with pytest.raises(ServerError):
        run(QueueSendOperator, messages="x")
    assert run(QueueSendOperator, messages="x", repeat_ambiguous=True)["sent_count"] == 1


def test_leases_that_end_too_soon_are_warned_of(run, logged):
    run(QueueSendOperator, messages=["x", "y"])
    run(QueuePullOperator, max_messages=1)
    assert logged().count("Set visibility_timeout") == 1
    run(QueuePullOperator, max_messages=1, visibility_timeout=600)
    assert logged().count("Set visibility_timeout") == 1


def test_a_missing_dead_letter_queue_is_warned_of(run, logged):
    run(QueuePullOperator)
    assert "has no dead-letter queue" in logged()


@pytest.mark.parametrize("kind", OPERATORS)
def test_no_argument_has_the_name_of_one_of_airflows(kind):
    from airflow_provider_cfqueues._compat import BaseOperator

    def own_arguments(cls):
        mine = {base for base in cls.__mro__ if base.__module__.startswith("airflow_provider_cfqueues")}
        return {
            name
            for base in mine
            for name, parameter in inspect.signature(inspect.unwrap(base.__init__)).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }

    airflows = set(inspect.signature(inspect.unwrap(BaseOperator.__init__)).parameters)
    try:
        from airflow.sdk import BaseSensorOperator
    except ImportError:
        from airflow.sensors.base import BaseSensorOperator
    airflows |= set(inspect.signature(inspect.unwrap(BaseSensorOperator.__init__)).parameters)
    assert len(airflows) > 40
    assert own_arguments(kind) & airflows == set()


@pytest.mark.parametrize("kind", OPERATORS)
def test_every_argument_but_switches_can_be_templated(kind):
    arguments = {
        name
        for base in kind.__mro__
        if base.__module__.startswith("airflow_provider_cfqueues")
        for name, parameter in inspect.signature(inspect.unwrap(base.__init__)).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert arguments - SWITCHES == set(kind.template_fields)


LISTS = {"messages", "lease_ids", "ack_lease_ids", "retry_lease_ids", "op_args", "op_kwargs"}


@pytest.mark.parametrize("kind", [getattr(queues, name) for name in queues.__all__])
def test_a_page_of_a_task_shows_lists_one_item_a_line_and_each_operator_in_our_colours(kind):
    assert set(kind.template_fields_renderers) == LISTS & set(kind.template_fields)
    assert (kind.ui_color, kind.ui_fgcolor) == ("#fbad41", "#1d1d1d")


def test_the_default_connection_is_the_hooks():
    assert QueuePullOperator(task_id="pull", queue_id="q").cloudflare_conn_id == "cloudflare_default"
    assert CloudflareQueuesHook().cloudflare_conn_id == "cloudflare_default"


def test_every_lease_that_is_not_confirmed_is_in_the_log(cf, run, logged):
    for _ in range(3):
        cf.add_fault(path="ack", status=200, body={"success": True, "result": {"ackCount": 20, "retryCount": 0}})
    leases = [f"lease-{number:03}" for number in range(250)]
    run(QueueAckOperator, lease_ids=leases)
    seen = logged()
    assert all(lease in seen for lease in leases)


def test_what_the_api_said_is_logged_before_it_is_pushed(run, logged):
    class Broken:
        def xcom_push(self, key, value):
            raise RuntimeError("no database")

    with pytest.raises(RuntimeError, match="no database"):
        run(QueueAckOperator, {"ti": Broken()}, lease_ids=["unheard-of"])
    assert "Lease unheard-of" in logged()


def test_an_ack_whose_answer_was_lost_says_that_it_may_be_done(cf, run, pulled, logged):
    cf.add_fault(path="ack", drop="after")
    with pytest.raises(UnconfirmedLeasesError, match="earlier try"):
        run(QueueAckOperator, lease_ids=pulled)
    assert "may have settled these leases" in logged()


def test_a_wrong_delay_is_named_even_without_leases(run):
    with pytest.raises(ValueError, match="delay_seconds"):
        run(QueueRetryOperator, lease_ids=[], delay_seconds="soon")


def test_an_error_names_the_argument_that_is_wrong(run):
    with pytest.raises(TypeError, match="retry_lease_ids"):
        run(QueueSettleOperator, retry_lease_ids=5)


def test_leases_that_had_ended_are_said_so_though_the_api_took_them(cf, run, logged):
    run(QueueSendOperator, messages=["x"])
    pulled = run(QueuePullOperator, visibility_timeout=0.001)
    cf.advance(1)
    assert run(QueueAckOperator, lease_ids=pulled)["ack_count"] == 1
    assert "1 of 1 lease had ended before they were settled" in logged()
