"""QueuePurgeOperator and its trigger, outside a task runner, against the emulator."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_cfqueues.exceptions import (
    CloudflareQueuesError,
    PermissionDeniedError,
    PurgeTimeoutError,
    ServerError,
)
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueuePurgeOperator
from airflow_provider_cfqueues.triggers.purging import QueuePurgeTrigger

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:  # before 3.2
    from airflow.exceptions import TaskDeferred

OLD = {"started_at": "2026-01-01T00:00:00Z", "completed": "true"}
NEW = {"started_at": "2026-11-22T00:00:00Z", "completed": "true"}
RUNNING = {**NEW, "completed": "false"}
LIMITED = {"status": 429, "body": {"success": False, "errors": [{"code": 10250, "message": "overloaded"}]}}
REFUSED = {"status": 403, "body": {"success": False, "errors": [{"code": 10000, "message": "no"}]}}


class Store:
    """Airflow's task_state_store, without Airflow: JSON values by key, the same for each try of a task."""

    def __init__(self):
        self.values, self.retention = {}, None

    def get(self, key):
        return json.loads(self.values.get(key, "null"))

    def set(self, key, value, *, retention):
        self.values[key], self.retention = json.dumps(value), retention

    def delete(self, key):
        self.values.pop(key, None)


def run(context=None, **arguments):
    result = QueuePurgeOperator(task_id="task", **arguments).execute(context or {})
    assert json.loads(json.dumps(result)) == result
    return result


def purges(cf, *answers):
    """Let the API answer the look before a purge, the purge and the looks after it: by the results given, or fail."""
    for answer in answers:
        fault = answer if "status" in answer else {"status": 200, "body": {"success": True, "result": answer}}
        cf.add_fault("purge", apply=fault["status"] == 200, **fault)


def methods(cf):
    return [request["method"] for request in cf.requests() if request["path"].endswith("/purge")]


def waiting(queue):
    return [message.body for message in CloudflareQueuesHook().peek(queue)]


def test_a_purge_says_how_many_messages_waited(queue):
    CloudflareQueuesHook().send(queue, ["a", "b"])
    report = run(queue_name="my-queue")
    assert report.pop("started_at")
    assert report == {"queue_id": queue, "backlog_count": 2, "completed": True}
    assert CloudflareQueuesHook().get_metrics(queue).backlog_count == 0


def test_a_purge_is_waited_for_and_the_one_before_it_does_not_count(cf, queue):
    purges(cf, OLD, {}, OLD, NEW)
    report = run(queue_id=queue, poll_interval=1)
    assert (report["started_at"], report["completed"]) == (NEW["started_at"], True)
    assert methods(cf) == ["GET", "POST", "GET", "GET"]


def test_two_purges_within_what_the_api_resolves_are_both_done(cf, queue):
    now = {"started_at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "completed": "true"}
    purges(cf, now, {}, now)
    assert run(queue_id=queue)["completed"] is True


def test_a_purge_need_not_be_waited_for(cf, queue):
    purges(cf, OLD, {}, OLD)
    assert run(queue_id=queue, wait_for_completion=False)["completed"] is False


def test_a_purge_that_takes_too_long_fails_the_task(cf, queue):
    purges(cf, OLD, {}, RUNNING)
    with pytest.raises(PurgeTimeoutError, match=r"is not done 0 s .* \(completion_timeout is 0 s\)") as failed:
        run(queue_id=queue, completion_timeout=0)
    assert (failed.value.queue, failed.value.conn_id) == (queue, "cloudflare_default")
    assert "Before 3.3, it purges again" in str(failed.value)


@pytest.mark.parametrize("trouble", [LIMITED, {"status": 502, "body": "<html>"}, {"status": 200, "body": "<html>"}])
def test_a_look_that_fails_for_a_reason_that_may_pass_does_not_end_the_wait(cf, queue, logged, trouble):
    purges(cf, OLD, {}, trouble, NEW)
    assert run(queue_id=queue, completion_timeout=0.1)["completed"] is True
    assert methods(cf) == ["GET", "POST", "GET", "GET"]
    assert f"Could not check whether queue {queue} is purged" in logged()


def test_where_no_look_worked_until_the_end_the_error_says_why(cf, queue):
    purges(cf, OLD, {}, LIMITED)
    with pytest.raises(PurgeTimeoutError, match="The last look failed: Could not read the purge status: overloaded"):
        run(queue_id=queue, completion_timeout=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"poll_interval": "soon"}, "poll_interval must be"),
        ({"poll_interval": 0}, "poll_interval must be at least 1 seconds"),
        ({"poll_interval": -1}, "poll_interval must be at least 1 seconds"),
        ({"completion_timeout": "-1"}, "completion_timeout must be at least 0 seconds"),
        ({"completion_timeout": "nan"}, "completion_timeout must be a finite number"),
    ],
)
@pytest.mark.parametrize("deferrable", [False, True])
def test_wrong_durations_are_refused_before_a_request(cf, arguments, message, deferrable):
    with pytest.raises(ValueError, match=message):
        run(queue_name="my-queue", deferrable=deferrable, **arguments)
    assert cf.requests() == []


def test_the_next_try_waits_for_the_purge_of_the_one_before(cf, queue, logged):
    context = {"task_state_store": Store()}
    CloudflareQueuesHook().send(queue, ["old"])
    cf.add_fault("purge", delay_ms=0, times=2)
    cf.add_fault("purge", **REFUSED)
    with pytest.raises(PermissionDeniedError) as failed:
        run(context, queue_id=queue)
    assert "purge again" not in str(failed.value)
    CloudflareQueuesHook().send(queue, ["new"])
    report = run(context, queue_id=queue)
    assert (report["backlog_count"], report["completed"]) == (1, True)
    assert waiting(queue) == ["new"]
    assert "waiting for that one, not purging again" in logged()
    assert context["task_state_store"].values == {}


def test_the_next_try_purges_where_the_one_before_did_not_come_so_far(cf, queue):
    context = {"task_state_store": Store()}
    CloudflareQueuesHook().send(queue, ["old"])
    cf.add_fault("purge", delay_ms=0)
    cf.add_fault("purge", **REFUSED)
    with pytest.raises(PermissionDeniedError):
        run(context, queue_id=queue)
    assert waiting(queue) == ["old"]
    run(context, queue_id=queue)
    assert waiting(queue) == []


def test_a_purge_of_an_earlier_day_is_not_waited_for(cf, queue):
    store = Store()
    purges(cf, OLD, {}, REFUSED)
    with pytest.raises(PermissionDeniedError):
        run({"task_state_store": store}, queue_id=queue)
    assert store.retention == timedelta(days=1)
    ((key, value),) = store.values.items()
    store.values[key] = json.dumps({**json.loads(value), "requested_at": json.loads(value)["requested_at"] - 86_401})
    run({"task_state_store": store}, queue_id=queue)
    assert methods(cf).count("POST") == 2


@pytest.mark.parametrize(("failed_at", "warned"), [("before", False), ("purge", True), ("look", True)])
def test_where_airflow_remembers_nothing_the_error_says_what_another_try_does(cf, queue, failed_at, warned):
    lost = {"status": 501, "body": {"success": False, "errors": []}, "headers": {"retry-after": "300"}}
    answers = {"before": [REFUSED], "purge": [OLD, lost], "look": [OLD, {}, REFUSED]}[failed_at]
    purges(cf, *answers)
    with pytest.raises(CloudflareQueuesError) as failed:
        run(queue_id=queue)
    assert isinstance(failed.value, ServerError if failed_at == "purge" else PermissionDeniedError)
    assert ("another try of the task would purge again, and delete what was sent since" in str(failed.value)) is warned


def test_a_purge_whose_answer_is_lost_is_asked_for_once(cf, queue):
    CloudflareQueuesHook().send(queue, ["a", "b"])
    purges(cf, OLD)
    cf.add_fault("purge", drop="after")
    assert run(queue_id=queue)["completed"]
    assert methods(cf).count("POST") == 1  # a second one would delete what was sent after the first
    assert waiting(queue) == []


@pytest.fixture
def deferred(cf, queue):
    """Defer a purge, run its trigger as the triggerer would, and return the task with the trigger's event."""

    def deferred(*answers, context=None, **arguments):
        purges(cf, OLD, {}, OLD)
        operator = QueuePurgeOperator(task_id="task", queue_id=queue, deferrable=True, **arguments)
        with pytest.raises(TaskDeferred) as raised:
            operator.execute(context or {})
        path, kwargs = raised.value.trigger.serialize()
        assert path == "airflow_provider_cfqueues.triggers.purging.QueuePurgeTrigger"
        assert json.loads(json.dumps(kwargs)) == kwargs
        purges(cf, *answers)
        events = asyncio.run(_events(QueuePurgeTrigger(**kwargs)))
        assert len(events) == 1
        event = json.loads(json.dumps(events[0].payload))
        return lambda: getattr(operator, raised.value.method_name)(context or {}, event)

    return deferred


async def _events(trigger):
    return [event async for event in trigger.run()]


def test_a_deferred_purge_is_waited_for_in_the_triggerer(deferred, queue):
    report = deferred(NEW)()
    assert report == {"queue_id": queue, "backlog_count": 0, "started_at": NEW["started_at"], "completed": True}


def test_a_deferred_purge_that_is_done_is_forgotten(deferred):
    store = Store()
    complete = deferred(NEW, context={"task_state_store": store})
    assert len(store.values) == 1
    complete()
    assert store.values == {}


def test_a_failed_look_of_the_triggerer_does_not_end_the_wait(deferred):
    assert deferred(LIMITED, NEW, completion_timeout=0.2)()["completed"] is True


def test_an_error_in_the_triggerer_reaches_the_task_as_what_it_is(deferred, queue):
    complete = deferred(REFUSED)
    with pytest.raises(PermissionDeniedError, match="another try of the task would purge again") as failed:
        complete()
    assert (failed.value.queue, failed.value.conn_id, failed.value.codes) == (queue, "cloudflare_default", (10000,))


def test_a_deferred_purge_that_takes_too_long_fails_the_task(deferred):
    with pytest.raises(PurgeTimeoutError, match="completion_timeout is 0 s"):
        deferred(RUNNING, completion_timeout=0)()


def test_a_look_that_fails_and_a_purge_that_takes_too_long_call_the_queue_by_its_name(cf, queue, logged):
    purges(cf, OLD, {}, OLD)
    operator = QueuePurgeOperator(
        task_id="task", queue_name="my-queue", deferrable=True, poll_interval=1, completion_timeout=0
    )
    with pytest.raises(TaskDeferred) as raised:
        operator.execute({})
    cf.add_fault("purge", status=503)
    (event,) = asyncio.run(_events(QueuePurgeTrigger(**raised.value.trigger.serialize()[1])))
    assert "Could not check whether queue my-queue is purged" in logged()
    with pytest.raises(PurgeTimeoutError, match=f"queue 'my-queue' \\(ID {queue}\\)"):
        operator.execute_complete({}, json.loads(json.dumps(event.payload)))


@pytest.mark.parametrize(
    ("said", "is_done"),
    [
        ("true", True),
        ("2026-11-22T00:00:00Z", True),
        ("false", False),
        ("0", False),
        ("in-progress", False),
        (None, False),
    ],
)
def test_only_true_and_a_time_say_that_a_purge_is_done(cf, queue, said, is_done):
    cf.add_fault("purge", status=200, body={"success": True, "result": {"completed": said}})
    assert CloudflareQueuesHook().get_purge_status(queue).completed is is_done
