"""The operators that manage queues, outside a task runner: ``execute`` against the emulator."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_provider_cfqueues._compat import AirflowSkipException
from airflow_provider_cfqueues.exceptions import AlreadyExistsError, NotFoundError, PermissionDeniedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import (
    QueueCreateOperator,
    QueueDeleteOperator,
    QueueEnsurePullConsumerOperator,
    QueuePauseOperator,
    QueuePurgeOperator,
    QueueResumeOperator,
)
from airflow_provider_cfqueues.triggers.purging import QueuePurgeTrigger

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:  # before 3.2
    from airflow.exceptions import TaskDeferred


def run(kind, **arguments):
    result = kind(task_id="task", **arguments).execute({})
    assert json.loads(json.dumps(result)) == result
    return result


def purges(cf, *answers):
    """Let the API answer the look before a purge, the purge and the looks after it, by the results given."""
    for answer in answers:
        cf.add_fault("purge", status=200, apply=True, body={"success": True, "result": answer})


OLD = {"started_at": "2026-01-01T00:00:00Z", "completed": "true"}
NEW = {"started_at": "2026-11-22T00:00:00Z", "completed": "true"}


def test_a_queue_is_created_once(cf):
    created = run(QueueCreateOperator, queue_name="new", delivery_delay="5")
    assert created == {
        "queue_id": cf.queues["new"],
        "queue_name": "new",
        "created": True,
        "settings": {"delivery_delay": 5, "delivery_paused": False, "message_retention_period": 345_600},
    }
    assert run(QueueCreateOperator, queue_name="new") == {**created, "created": False}
    with pytest.raises(AlreadyExistsError):
        run(QueueCreateOperator, queue_name="new", if_exists="fail")
    with pytest.raises(AirflowSkipException):
        run(QueueCreateOperator, queue_name="new", if_exists="skip")


def test_a_queue_that_is_there_with_other_settings_is_warned_of(cf, logged):
    assert run(QueueCreateOperator, queue_name="my-queue", delivery_delay=5)["settings"]["delivery_delay"] == 0
    assert "with other settings than wanted: {'delivery_delay': 0}" in logged()


def test_a_queue_is_deleted_once(cf):
    queue_id = cf.queues["my-queue"]
    assert run(QueueDeleteOperator, queue_name="my-queue") == {"queue_id": queue_id, "deleted": True}
    assert run(QueueDeleteOperator, queue_name="my-queue") == {"queue_id": None, "deleted": False}
    assert run(QueueDeleteOperator, queue_id=queue_id) == {"queue_id": queue_id, "deleted": False}
    for queue in ({"queue_name": "my-queue"}, {"queue_id": queue_id}):
        with pytest.raises(NotFoundError):
            run(QueueDeleteOperator, **queue, if_missing="fail")
        with pytest.raises(AirflowSkipException):
            run(QueueDeleteOperator, **queue, if_missing="skip")


def test_a_wrong_account_is_no_missing_queue(cf, queue):
    cf.add_fault(queue, status=404, body={"success": False, "errors": [{"code": 7003, "message": "no route"}]})
    with pytest.raises(NotFoundError, match="7003"):
        run(QueueDeleteOperator, queue_id=queue)
    assert "my-queue" in cf.queues


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (QueueCreateOperator, {"queue_name": "new", "if_exists": "log"}, "if_exists must be"),
        (QueueCreateOperator, {"queue_name": "new", "queue_id": "a"}, "takes no queue_id"),
        (QueueCreateOperator, {"queue_name": " "}, "name must be the name of a queue"),
        (QueueDeleteOperator, {"queue_name": "new", "if_missing": "log"}, "if_missing must be"),
        (QueueDeleteOperator, {}, "exactly one of queue_id and queue_name"),
        (QueuePurgeOperator, {"queue_name": "my-queue", "poll_interval": "soon"}, "poll_interval must be"),
    ],
)
def test_wrong_arguments_are_refused_before_a_request(cf, kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(kind, **arguments)
    assert cf.requests() == []


def test_a_queue_becomes_one_that_can_be_pulled(cf):
    run(QueueCreateOperator, queue_name="new")
    wanted = {
        "batch_size": 20,
        "consumer_max_retries": "5",
        "consumer_retry_delay": 10,
        "visibility_timeout": 90,
        "dead_letter_queue": "failed",
    }
    ensured = run(QueueEnsurePullConsumerOperator, queue_name="new", **wanted)
    consumer_id = ensured.pop("consumer_id")
    assert ensured == {
        "action": "created",
        "batch_size": 20,
        "max_retries": 5,
        "retry_delay": 10,
        "visibility_timeout": 90,
        "dead_letter_queue": "failed",
    }
    again = run(QueueEnsurePullConsumerOperator, queue_name="new", **wanted)
    assert again == {"consumer_id": consumer_id, **ensured, "action": "unchanged"}
    assert "failed" in cf.queues


def test_delivery_is_paused_and_resumed(queue):
    paused = {"queue_id": queue, "queue_name": "my-queue", "delivery_paused": True}
    assert run(QueuePauseOperator, queue_name="my-queue") == paused
    assert run(QueuePauseOperator, queue_id=queue) == paused
    assert run(QueueResumeOperator, queue_id=queue) == {**paused, "delivery_paused": False}


def test_a_purge_says_how_many_messages_waited(queue):
    CloudflareQueuesHook().send(queue, ["a", "b"])
    report = run(QueuePurgeOperator, queue_name="my-queue")
    assert report.pop("started_at")
    assert report == {"queue_id": queue, "backlog_count": 2, "completed": True}
    assert CloudflareQueuesHook().get_metrics(queue).backlog_count == 0


def test_a_purge_is_waited_for_and_the_one_before_it_does_not_count(cf, queue):
    running = {**NEW, "completed": "false"}
    purges(cf, OLD, {}, OLD, running, NEW)
    report = run(QueuePurgeOperator, queue_id=queue, poll_interval=0)
    assert (report["started_at"], report["completed"]) == (NEW["started_at"], True)
    assert [request["method"] for request in cf.requests()][1:] == ["GET", "POST", "GET", "GET", "GET"]


def test_a_purge_need_not_be_waited_for(cf, queue):
    purges(cf, OLD, {}, OLD)
    assert run(QueuePurgeOperator, queue_id=queue, wait_for_completion=False)["completed"] is False


def test_a_purge_that_takes_too_long_fails_the_task(cf, queue):
    purges(cf, OLD, {}, OLD)
    with pytest.raises(TimeoutError, match=f"purge of queue {queue} is not done after 0 s"):
        run(QueuePurgeOperator, queue_id=queue, completion_timeout=0)


@pytest.fixture
def deferred(cf, queue):
    """Defer a purge, run its trigger as the triggerer would, and return the task with the trigger's event."""

    def deferred(*answers, **arguments):
        purges(cf, OLD, {}, OLD)
        operator = QueuePurgeOperator(task_id="task", queue_id=queue, deferrable=True, poll_interval=0, **arguments)
        with pytest.raises(TaskDeferred) as raised:
            operator.execute({})
        path, kwargs = raised.value.trigger.serialize()
        assert path == "airflow_provider_cfqueues.triggers.purging.QueuePurgeTrigger"
        for answer in answers:
            cf.add_fault("purge", **answer)
        events = asyncio.run(_events(QueuePurgeTrigger(**json.loads(json.dumps(kwargs)))))
        assert len(events) == 1
        event = json.loads(json.dumps(events[0].payload))
        return lambda: getattr(operator, raised.value.method_name)({}, event)

    return deferred


async def _events(trigger):
    return [event async for event in trigger.run()]


def test_a_deferred_purge_is_waited_for_in_the_triggerer(deferred, queue):
    complete = deferred({"status": 200, "body": {"success": True, "result": {**NEW, "completed": ""}}})
    report = complete()
    assert (report["queue_id"], report["backlog_count"], report["completed"]) == (queue, 0, True)


def test_an_error_in_the_triggerer_reaches_the_task_as_what_it_is(deferred, queue):
    complete = deferred({"status": 403, "body": {"success": False, "errors": [{"code": 10000, "message": "no"}]}})
    with pytest.raises(PermissionDeniedError, match="Queues Write") as failed:
        complete()
    assert (failed.value.queue, failed.value.conn_id, failed.value.codes) == (queue, "cloudflare_default", (10000,))


def test_a_deferred_purge_that_takes_too_long_fails_the_task(deferred):
    complete = deferred({"status": 200, "body": {"success": True, "result": OLD}}, completion_timeout=0)
    with pytest.raises(TimeoutError, match="is not done after 0 s"):
        complete()
