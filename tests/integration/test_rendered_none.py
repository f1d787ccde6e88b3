"""A template or an XCom that rendered to None is named as such, by the argument that holds it."""

from __future__ import annotations

import pytest

from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import (
    QueueAckOperator,
    QueueEnsurePullConsumerOperator,
    QueueProcessOperator,
    QueuePullOperator,
    QueueRedriveOperator,
    QueueRetryOperator,
    QueueSendOperator,
    QueueSettleOperator,
)
from airflow_provider_cfqueues.sensors.queues import QueueMessageSensor

RENDERED = "is 'None': a template rendered to None"


@pytest.mark.parametrize(
    ("operator", "arguments", "argument"),
    [
        (QueuePullOperator, {"queue_name": "None"}, "queue_name"),
        (QueuePullOperator, {"max_messages": "None"}, "max_messages"),
        (QueuePullOperator, {"visibility_timeout": "None"}, "visibility_timeout"),
        (QueueSendOperator, {"messages": "None"}, "messages"),
        (QueueSendOperator, {"messages": ["a"], "delay_seconds": "None"}, "delay_seconds"),
        (QueueSettleOperator, {"retry_lease_ids": ["a"], "delay_seconds": " None "}, "delay_seconds"),
        (QueueAckOperator, {"lease_ids": ["a"], "fail_on": "None"}, "fail_on"),
        (QueueProcessOperator, {"handler": print, "fail_on": "None"}, "fail_on"),
        (QueueProcessOperator, {"handler": print, "dead_letter_queue": "None"}, "dead_letter_queue"),
        (QueueEnsurePullConsumerOperator, {"dead_letter_queue": "None"}, "dead_letter_queue"),
        (QueueRedriveOperator, {"target_queue_id": "None"}, "target_queue_id"),
        (QueueMessageSensor, {"max_messages": "None"}, "max_messages"),
    ],
)
def test_an_argument_that_a_template_rendered_to_the_text_none_is_named(cf, operator, arguments, argument):
    with pytest.raises(ValueError, match=f"{argument} {RENDERED}"):
        operator(task_id="t", **{"queue_name": "my-queue"} | arguments).execute({})


@pytest.mark.parametrize("operator", [QueuePullOperator, QueueMessageSensor])
def test_a_queue_whose_xcom_is_none_is_named_as_such(cf, operator):
    given = operator(task_id="t", queue_name="written over, as a task with native rendering is")
    given.queue_name = None
    with pytest.raises(ValueError, match=r"Give exactly one of queue_id and queue_name.*XCom.* it is None"):
        given.execute({})


def test_a_target_whose_xcom_is_none_is_named_as_such(cf):
    operator = QueueRedriveOperator(task_id="t", queue_name="my-queue", target_queue_name=None)
    with pytest.raises(ValueError, match=r"Give exactly one of target_queue_id and target_queue_name.*XCom"):
        operator.execute({})


def test_a_number_whose_xcom_is_none_is_named(cf):
    with pytest.raises(ValueError, match=r"max_messages is None: .* template or XCom"):
        QueuePullOperator(task_id="t", queue_name="my-queue", max_messages=None).execute({})


@pytest.mark.parametrize(
    ("operator", "arguments", "warned"),
    [
        (QueueAckOperator, {"lease_ids": None}, ["lease_ids"]),
        (QueueAckOperator, {"lease_ids": "None"}, ["lease_ids"]),
        (QueueRetryOperator, {"lease_ids": " null\n"}, ["lease_ids"]),
        (QueueSettleOperator, {}, []),
        (QueueSettleOperator, {"ack_lease_ids": None}, ["ack_lease_ids"]),
        (QueueSettleOperator, {"ack_lease_ids": "None", "retry_lease_ids": []}, ["ack_lease_ids"]),
        (QueueSettleOperator, {"retry_lease_ids": []}, []),
        (QueueAckOperator, {"lease_ids": ""}, []),
        (QueueAckOperator, {"lease_ids": "[]"}, []),
    ],
)
def test_leases_that_are_none_are_a_warning_with_the_arguments_name(cf, logged, operator, arguments, warned):
    operator(task_id="t", queue_name="my-queue", **arguments).execute({})
    log = logged()
    for argument in ("lease_ids", "ack_lease_ids", "retry_lease_ids"):
        assert (f" {argument} is None: nothing is settled" in log) == (argument in warned)
    assert ("nothing to settle" in log) == (not warned)


@pytest.mark.parametrize("none", [None, "None"])
def test_leases_that_are_none_are_a_warning_also_beside_others(cf, logged, none):
    hook = CloudflareQueuesHook()
    hook.send(cf.queues["my-queue"], ["a"])
    leases = [message.to_xcom() for message in hook.pull(cf.queues["my-queue"], max_messages=1)]
    operator = QueueSettleOperator(task_id="t", queue_name="my-queue", ack_lease_ids=none, retry_lease_ids=leases)
    assert operator.execute({})["retry_count"] == 1
    assert "ack_lease_ids is None: nothing is settled" in logged()


def test_messages_that_are_none_are_a_warning_and_no_messages_are_not(cf, logged):
    def send(messages):
        return QueueSendOperator(task_id="t", queue_name="my-queue", messages=messages).execute({})["sent_count"]

    assert send([]) == 0
    assert "messages is None" not in logged()
    assert send(None) == 0
    assert "messages is None: nothing is sent" in logged()


def test_a_list_with_the_text_none_holds_a_message(cf):
    operator = QueueSendOperator(task_id="t", queue_name="my-queue", messages=["None"])
    assert operator.execute({})["sent_count"] == 1
