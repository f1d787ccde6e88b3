"""The operators that manage queues, outside a task runner: ``execute`` against the emulator."""

from __future__ import annotations

import json

import pytest

from airflow_provider_cfqueues._compat import AirflowSkipException
from airflow_provider_cfqueues.exceptions import AlreadyExistsError, NotFoundError
from airflow_provider_cfqueues.operators.queues import (
    QueueCreateOperator,
    QueueDeleteOperator,
    QueueDeletePullConsumerOperator,
    QueueEnsurePullConsumerOperator,
    QueuePauseOperator,
    QueueResumeOperator,
)


def run(kind, **arguments):
    result = kind(task_id="task", **arguments).execute({})
    assert json.loads(json.dumps(result)) == result
    return result


def test_a_queue_is_created_once(cf):
    created = run(QueueCreateOperator, queue_name="new", delivery_delay="5")
    assert created == {
        "queue_id": cf.queues["new"],
        "queue_name": "new",
        "created": True,
        "updated": False,
        "settings": {"delivery_delay": 5, "delivery_paused": False, "message_retention_period": 345_600},
    }
    assert run(QueueCreateOperator, queue_name="new") == {**created, "created": False}
    with pytest.raises(AlreadyExistsError):
        run(QueueCreateOperator, queue_name="new", if_exists="fail")
    with pytest.raises(AirflowSkipException):
        run(QueueCreateOperator, queue_name="new", if_exists="skip")


def test_a_queue_that_is_there_with_other_settings_is_warned_of(cf, logged):
    assert run(QueueCreateOperator, queue_name="my-queue", delivery_delay=5)["settings"]["delivery_delay"] == 0
    assert "these settings differ from the arguments: {'delivery_delay': 0}" in logged()


def test_a_queue_that_is_there_gets_the_settings_that_are_wanted(cf, logged):
    wanted = {"queue_name": "my-queue", "delivery_delay": 5, "if_exists": "update"}
    report = run(QueueCreateOperator, **wanted)
    assert (report["created"], report["updated"], report["settings"]["delivery_delay"]) == (False, True, 5)
    assert "{'delivery_delay': 0} became {'delivery_delay': 5}" in logged()
    assert run(QueueCreateOperator, **wanted)["updated"] is False


@pytest.mark.parametrize("if_exists", ["fail", "skip"])
def test_a_task_whose_answer_was_lost_made_its_queue_itself(cf, if_exists):
    cf.add_fault("queues", drop="after")
    assert run(QueueCreateOperator, queue_name="new", if_exists=if_exists)["created"] is True


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
        (QueueCreateOperator, {"queue_name": " "}, "queue_name must be the name of a queue"),
        (QueueDeleteOperator, {"queue_name": "new", "if_missing": "log"}, "if_missing must be"),
        (QueueDeleteOperator, {}, "exactly one of queue_id and queue_name"),
        (QueueEnsurePullConsumerOperator, {"consumer_max_retries": 101}, "^consumer_max_retries must be"),
        (QueueEnsurePullConsumerOperator, {"consumer_retry_delay": "soon"}, "^consumer_retry_delay must be"),
        (QueueEnsurePullConsumerOperator, {"batch_size": 0}, "^batch_size must be"),
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
        "queue_id": cf.queues["new"],
        "action": "created",
        "untried": None,
        "batch_size": 20,
        "consumer_max_retries": 5,
        "consumer_retry_delay": 10,
        "visibility_timeout": 90,
        "dead_letter_queue": "failed",
    }
    again = run(QueueEnsurePullConsumerOperator, queue_name="new", **wanted)
    assert again == {"consumer_id": consumer_id, **ensured, "action": "unchanged"}
    assert "failed" in cf.queues


def test_the_pull_consumer_of_a_queue_is_deleted_once(cf, queue):
    cf.send(queue, "stays")
    name = {"queue_name": "my-queue"}
    assert run(QueueDeletePullConsumerOperator, **name) == {"queue_id": queue, "deleted": True}
    assert run(QueueDeletePullConsumerOperator, queue_id=queue) == {"queue_id": queue, "deleted": False}
    assert cf.state()["queues"][0]["backlog_count"] == 1
    with pytest.raises(NotFoundError, match="no pull consumer"):
        run(QueueDeletePullConsumerOperator, **name, if_missing="fail")
    with pytest.raises(AirflowSkipException):
        run(QueueDeletePullConsumerOperator, **name, if_missing="skip")
    with pytest.raises(NotFoundError, match="no queue named 'other'"):
        run(QueueDeletePullConsumerOperator, queue_name="other")


def test_delivery_is_paused_and_resumed(queue):
    paused = {"queue_id": queue, "queue_name": "my-queue", "delivery_paused": True}
    assert run(QueuePauseOperator, queue_name="my-queue") == paused
    assert run(QueuePauseOperator, queue_id=queue) == paused
    assert run(QueueResumeOperator, queue_id=queue) == {**paused, "delivery_paused": False}
