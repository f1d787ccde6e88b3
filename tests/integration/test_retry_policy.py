"""The retry policy, with errors as the API's answers make them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_cfqueues._compat import AirflowNotFoundException, RetryDecision
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, UnconfirmedLeasesError
from airflow_provider_cfqueues.operators.queues import QueuePullOperator
from airflow_provider_cfqueues.retries import CloudflareQueuesRetryPolicy

needs_policies = pytest.mark.skipif(RetryDecision is None, reason="retry policies came with Airflow 3.3")


def decide(error):
    return CloudflareQueuesRetryPolicy().evaluate(exception=error, try_number=1, max_tries=3)


@pytest.fixture
def failure(cf, queue, connect):
    """Return the error of a pull that the API answers so."""

    def failure(status=None, headers=None, code=1000, **connection):
        if connection:
            connect(cf, **connection)
        if status is not None:
            body = {"success": False, "errors": [{"code": code, "message": "no"}]}
            cf.add_fault("pull", status=status, headers=headers or {}, body=body, times=20)
        with pytest.raises(CloudflareQueuesError) as raised:
            QueuePullOperator(task_id="task", queue_id=queue).execute({})
        return raised.value

    return failure


@pytest.mark.skipif(RetryDecision is not None, reason="Airflow 3.3 has retry policies")
def test_an_older_airflow_says_what_to_use_instead():
    with pytest.raises(RuntimeError, match=r"needs Airflow 3\.3 or later; leave out retry_policy"):
        CloudflareQueuesRetryPolicy()


@needs_policies
def test_a_rate_limit_waits_what_the_api_asked_for(failure):
    decision = decide(failure(429, {"Retry-After": "300"}))
    assert (decision.action.value, decision.retry_delay) == ("retry", timedelta(seconds=300))
    assert decision.reason == "The API asked to wait 300 s"


@needs_policies
@pytest.mark.parametrize(("asked", "wait"), [("120", timedelta(minutes=2)), ("9" * 30, timedelta(days=1))])
def test_a_server_that_asks_to_wait_is_waited_for_a_day_at_the_most(failure, asked, wait):
    assert decide(failure(503, {"Retry-After": asked})).retry_delay == wait


@needs_policies
@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 10000), (403, 10000), (400, 10207), (409, 11009), (429, 10251), (429, 10252), (429, 10253)],
)
def test_what_another_try_cannot_mend_fails_at_once(failure, status, code):
    decision = decide(failure(status, {"Retry-After": "300"}, code=code))
    assert decision.action.value == "fail"
    assert "another try cannot fix this" in decision.reason


@needs_policies
def test_a_connection_that_cannot_be_used_fails_at_once(failure):
    assert decide(failure(password="")).action.value == "fail"


@needs_policies
def test_a_connection_that_is_missing_fails_at_once(cf, queue):
    with pytest.raises(AirflowNotFoundException) as raised:
        QueuePullOperator(task_id="task", queue_id=queue, cloudflare_conn_id="nowhere").execute({})
    decision = decide(raised.value)
    assert (decision.action.value, "nowhere" in decision.reason) == ("fail", True)


@needs_policies
def test_leases_that_were_not_confirmed_fail_at_once():
    assert (
        decide(UnconfirmedLeasesError("The API did not confirm 1 of 1 lease", lease_ids=["l"])).action.value == "fail"
    )


@needs_policies
@pytest.mark.parametrize(("status", "code"), [(404, 10104), (405, 0), (409, 0), (200, 15000)])
def test_others_follow_the_settings_of_the_task(failure, status, code):
    assert decide(failure(status, code=code)) == RetryDecision.default()


@needs_policies
def test_what_is_not_ours_follows_the_settings_of_the_task():
    assert decide(ValueError("no")) == RetryDecision.default()


@needs_policies
def test_an_error_that_came_through_a_trigger_or_as_a_cause_is_judged_as_itself(failure):
    sent = CloudflareQueuesError.from_dict(failure(429, {"Retry-After": "300"}).to_dict())
    assert decide(sent).retry_delay == timedelta(seconds=300)
    wrapped = RuntimeError("the task failed")
    wrapped.__cause__ = sent
    assert decide(wrapped).retry_delay == timedelta(seconds=300)


@needs_policies
def test_a_policy_can_be_stored_and_read():
    assert isinstance(
        CloudflareQueuesRetryPolicy.deserialize(CloudflareQueuesRetryPolicy().serialize()), CloudflareQueuesRetryPolicy
    )
