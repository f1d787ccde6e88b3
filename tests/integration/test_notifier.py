"""The notifier as callbacks and deadline alerts use it: called with a context, or awaited."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from airflow import DAG

from airflow_provider_cfqueues._compat import BaseNotifier
from airflow_provider_cfqueues.exceptions import NotFoundError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.notifications.queues import CloudflareQueuesNotifier

HAS_ASYNC = "context" in inspect.signature(BaseNotifier.__init__).parameters
TEMPLATED = {"text": "{{ run_id }} failed", "list": ["{{ 1 + 1 }}"]}


def received(queue):
    return [message.body for message in CloudflareQueuesHook().peek(queue)]


def test_a_callback_sends_a_rendered_message(cf, queue):
    notifier = CloudflareQueuesNotifier(queue_name="{{ 'my-' ~ 'queue' }}", message_body=TEMPLATED, delay_seconds=60)
    notifier({"run_id": "r1", "dag": DAG("failing", schedule=None)})
    assert received(queue) == []
    cf.advance(60)
    assert received(queue) == [{"text": "r1 failed", "list": ["2"]}]


@pytest.mark.skipif(not HAS_ASYNC, reason="notifiers are awaited from Airflow 3.1 on")
def test_a_deadline_alert_sends_a_rendered_message(queue):
    async def alert():
        await CloudflareQueuesNotifier(context={"run_id": "r1"}, queue_name="my-queue", message_body=TEMPLATED)

    asyncio.run(alert())
    assert received(queue) == [{"text": "r1 failed", "list": ["2"]}]


@pytest.mark.skipif(not HAS_ASYNC, reason="deadline alerts came with Airflow 3.1")
def test_airflows_trigger_of_deadline_alerts_sends_the_message(queue):
    try:
        from airflow.sdk import AsyncCallback
        from airflow.triggers.callback import CallbackTrigger
    except ImportError:  # Airflow 3.1
        from airflow.sdk.definitions.deadline import AsyncCallback
        from airflow.triggers.deadline import DeadlineCallbackTrigger as CallbackTrigger
    callback = AsyncCallback(CloudflareQueuesNotifier, kwargs={"queue_name": "my-queue", "message_body": "late"})

    async def alert():
        return [event async for event in CallbackTrigger(callback.path, dict(callback.kwargs)).run()]

    assert [event.payload["state"] for event in asyncio.run(alert())] == ["running", "success"]
    assert received(queue) == ["late"]


def test_both_send_the_same(queue):
    notifier = CloudflareQueuesNotifier(queue_id=queue, message_body="late")
    notifier.notify({})
    asyncio.run(notifier.async_notify({}))
    assert received(queue) == ["late", "late"]


def test_a_lost_answer_is_asked_again(cf, queue):
    cf.add_fault("batch", drop="after")
    CloudflareQueuesNotifier(queue_id=queue, message_body="late").notify({})
    assert received(queue) == ["late", "late"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "exactly one of queue_id and queue_name"),
        ({"queue_name": "nowhere"}, NotFoundError, "no queue named 'nowhere'"),
        ({"queue_name": "my-queue", "delay_seconds": -1}, ValueError, "delay_seconds must be"),
        (
            {"queue_name": "my-queue", "message_body": 5},
            TypeError,
            "^message_body: a json body must be an object",
        ),
    ],
)
def test_what_is_wrong_is_said(cf, arguments, error, message):
    notifier = CloudflareQueuesNotifier(**{"message_body": "late", **arguments})
    with pytest.raises(error, match=message):
        notifier.notify({})
    with pytest.raises(error, match=message):
        asyncio.run(notifier.async_notify({}))


def test_a_message_that_a_template_rendered_to_none_is_not_sent(cf, queue):
    with pytest.raises(ValueError, match="message_body is 'None': a template rendered to None"):
        CloudflareQueuesNotifier(queue_id=queue, message_body="None").notify({})
    assert received(queue) == []
