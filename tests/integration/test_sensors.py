"""The sensors as a DAG author uses them: on a worker, and deferred, with the trigger as the triggerer runs it."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_cfqueues._compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    import_string,
)
from airflow_provider_cfqueues.exceptions import MatchFailedError, PermissionDeniedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.sensors.queues import QueueBacklogSensor, QueueMessageSensor

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:  # before 3.2
    from airflow.exceptions import TaskDeferred

SENSORS = [QueueMessageSensor, QueueBacklogSensor]
ORDER = 'jsonpath:$.type == "order"'
FORBIDDEN = {"status": 403, "body": {"success": False, "errors": [{"code": 10000, "message": "no"}]}}


@pytest.fixture
def send(queue):
    return lambda *bodies: CloudflareQueuesHook().send(queue, list(bodies))


@pytest.fixture(params=["poke", "deferred"])
def wait(request, queue):
    """Run a sensor to its end in one of both ways; ``meanwhile`` happens once it has poked in vain."""

    def wait(kind, meanwhile=None, **arguments):
        arguments = {"timeout": 0 if meanwhile is None else 60, "poke_interval": 0, "queue_id": queue, **arguments}
        sensor = kind(task_id="wait", deferrable=request.param == "deferred", **arguments)
        if request.param == "poke":
            if meanwhile is not None:
                assert not sensor.poke({}).is_done
                meanwhile()
            return sensor.execute({})
        try:
            return sensor.execute({})
        except TaskDeferred as deferred:
            if meanwhile is not None:
                meanwhile()
            event = asyncio.run(fire(revive(deferred.trigger)))
            return sensor.resume_execution(deferred.method_name, {"event": event}, {})

    return wait


def defer(kind, **arguments):
    with pytest.raises(TaskDeferred) as deferred:
        kind(task_id="wait", deferrable=True, **arguments).execute({})
    return deferred.value


def revive(trigger):
    """Return the trigger as the triggerer gets it: out of a database."""
    path, arguments = trigger.serialize()
    return import_string(path)(**json.loads(json.dumps(arguments)))


async def fire(trigger):
    (event,) = [event async for event in trigger.run()]
    return json.loads(json.dumps(event.payload))


def calls(cf, name):
    return [request["body"] for request in cf.requests() if request["path"].endswith(name)]


def states(cf):
    (queue,) = cf.state()["queues"]
    return sorted(message["state"] for message in queue["messages"])


def fails_on_text(message):
    return message.body["type"] == "order"


def test_messages_that_are_there_are_returned_leased(cf, wait, send):
    send("a", {"b": 1})
    found = wait(QueueMessageSensor, visibility_timeout=600)
    assert [message["body"] for message in found] == ["a", {"b": 1}]
    assert states(cf) == ["leased", "leased"]
    assert CloudflareQueuesHook().ack(cf.queues["my-queue"], acks=found).ack_count == 2
    assert calls(cf, "pull") == [{"batch_size": 100, "visibility_timeout_ms": 600_000}]


def test_leases_that_are_too_short_for_the_tasks_downstream_are_warned_of(wait, send, logged):
    send("a")
    wait(QueueMessageSensor, visibility_timeout=60)
    assert "Set visibility_timeout (up to 43200 s) higher" in logged()


def test_a_sensor_waits_until_a_message_comes(wait, send):
    (message,) = wait(QueueMessageSensor, lambda: send("late"))
    assert message["body"] == "late"


def test_an_empty_queue_times_out(wait):
    with pytest.raises(AirflowSensorTimeout, match="timed out"):
        wait(QueueMessageSensor)
    with pytest.raises(AirflowSkipException):
        wait(QueueMessageSensor, soft_fail=True)


def test_what_does_not_match_is_given_back_for_a_while(cf, wait, send):
    send({"type": "order", "id": 1}, {"type": "refund"}, {"type": "order", "id": 2})
    found = wait(QueueMessageSensor, match=ORDER, unmatched_delay_seconds=90, visibility_timeout=600)
    assert [message["body"]["id"] for message in found] == [1, 2]
    assert states(cf) == ["delayed", "leased", "leased"]
    ((retry,),) = [body["retries"] for body in calls(cf, "ack")]
    assert retry["delay_seconds"] == 90


def test_nothing_is_delivered_in_vain_while_nothing_matches(cf, wait, send):
    send({"type": "refund"})
    with pytest.raises(AirflowSensorTimeout):
        wait(QueueMessageSensor, match=ORDER)
    assert states(cf) == ["ready"]
    (message,) = wait(QueueMessageSensor, lambda: send({"type": "order"}), match=ORDER)
    assert message["body"] == {"type": "order"}
    assert states(cf) == ["delayed", "leased"]
    assert len(calls(cf, "pull")) == 1


def test_a_match_behind_a_hundred_others_is_found(cf, wait, send):
    send(*[{"type": "refund"}] * 100, {"type": "order"})
    (message,) = wait(QueueMessageSensor, match=ORDER, max_messages=101)
    assert message["body"] == {"type": "order"}


def test_where_a_peek_is_not_possible_the_pull_decides(cf, wait, send):
    send({"type": "order"}, {"type": "refund"})
    cf.add_fault(path="peek", **FORBIDDEN)
    (message,) = wait(QueueMessageSensor, match=ORDER)
    assert message["body"] == {"type": "order"}


def test_the_last_delivery_of_what_does_not_match_is_warned_of(cf, wait, send, logged):
    send({"type": "refund"})
    (message_id,) = [message["id"] for message in cf.state()["queues"][0]["messages"]]
    for _ in range(3):
        send({"type": "order"})
        wait(QueueMessageSensor, match=ORDER, unmatched_delay_seconds=0, visibility_timeout=600)
    assert message_id in logged()
    assert "Cloudflare DELETES them now, or after their next delivery" in logged()


@pytest.mark.parametrize("peek", [True, False])
def test_a_match_that_fails_leaves_nothing_leased_and_is_an_error_of_its_own(cf, wait, send, peek):
    send("text", {"type": "order"})
    if not peek:
        cf.add_fault(path="peek", **FORBIDDEN)
    with pytest.raises(MatchFailedError, match=r"fails_on_text.*TypeError") as raised:
        wait(QueueMessageSensor, match=f"function:{__name__}.fails_on_text")
    assert raised.value.message_id
    assert states(cf) == (["ready", "ready"] if peek else ["delayed", "ready"])


def test_what_was_found_is_returned_even_if_the_rest_cannot_be_given_back(cf, wait, send, logged):
    send({"type": "order"}, {"type": "refund"})
    cf.add_fault(path="ack", **FORBIDDEN)
    (message,) = wait(QueueMessageSensor, match=ORDER)
    assert message["body"] == {"type": "order"}
    assert "1 messages come back only when their leases end" in logged()


def test_without_a_lease_messages_are_looked_at_and_left_where_they_are(cf, wait, send):
    found = wait(QueueMessageSensor, lambda: send("a", "b", "c"), lease=False, max_messages=2)
    assert [message["body"] for message in found] == ["a", "b"]
    assert "lease_id" not in found[0]
    assert states(cf) == ["ready"] * 3
    assert calls(cf, "pull") == []


def test_without_a_lease_a_sensor_waits_for_what_matches(cf, wait, send):
    send({"type": "refund"})
    (message,) = wait(QueueMessageSensor, lambda: send({"type": "order"}), lease=False, max_messages=1, match=ORDER)
    assert message["body"] == {"type": "order"}
    assert states(cf) == ["ready"] * 2


def test_a_typo_in_match_is_an_error_where_the_dag_is_parsed():
    with pytest.raises(ValueError, match="must begin with"):
        QueueMessageSensor(task_id="wait", queue_name="my-queue", match="$.type")


def test_the_callback_gets_messages_and_context_and_returns_the_xcom(wait, send):
    send("a", "b")
    seen = wait(
        QueueMessageSensor, messages_callback=lambda messages, context: ["".join(m["body"] for m in messages), context]
    )
    assert seen == ["ab", {}]


@pytest.mark.parametrize("kind", SENSORS)
def test_a_failure_reaches_the_task_as_the_error_that_it_is(cf, wait, kind):
    arguments = {"at_least": 1} if kind is QueueBacklogSensor else {}
    path = "metrics" if kind is QueueBacklogSensor else "pull"
    with pytest.raises(PermissionDeniedError) as raised:
        wait(kind, lambda: cf.add_fault(path=path, **FORBIDDEN), **arguments)
    error = raised.value
    assert (error.status, error.codes, error.messages, error.queue) == (403, (10000,), ("no",), cf.queues["my-queue"])
    assert error.conn_id == "cloudflare_default"
    assert "Queues Write" in str(error)


def test_silent_fail_waits_on_and_never_fail_skips(cf, wait, send, logged):
    def fail_once():
        cf.add_fault(path="pull", **FORBIDDEN)
        send("a")

    (message,) = wait(QueueMessageSensor, fail_once, silent_fail=True)
    assert message["body"] == "a"
    assert "Sensor poke failed" in logged()
    with pytest.raises(AirflowSkipException):
        wait(QueueMessageSensor, lambda: cf.add_fault(path="pull", **FORBIDDEN), never_fail=True)


@pytest.mark.parametrize("condition", [{"at_least": 2}, {"at_least": "2", "at_most": 0}])
def test_a_backlog_sensor_waits_for_many_messages(wait, send, condition):
    send("a")
    found = wait(QueueBacklogSensor, lambda: send("b"), **condition)
    assert found["backlog_count"] == 2
    assert found["backlog_bytes"] > 0
    assert datetime.fromisoformat(found["oldest_message_timestamp"]).tzinfo


def test_a_backlog_sensor_waits_for_an_empty_queue(cf, wait, send):
    send("a")
    hook = CloudflareQueuesHook()
    queue = cf.queues["my-queue"]
    found = wait(QueueBacklogSensor, lambda: hook.ack(queue, acks=hook.pull(queue, max_messages=1)), at_most=0)
    assert found == {"backlog_count": 0, "backlog_bytes": 0, "oldest_message_timestamp": None}


@pytest.mark.parametrize("older_than", [3600, timedelta(hours=1)])
def test_a_backlog_sensor_waits_for_an_old_message(cf, wait, older_than):
    def oldest(minutes):
        sent = datetime.now(timezone.utc) - timedelta(minutes=minutes)
        metrics = {"backlog_count": 1, "oldest_message_timestamp_ms": sent.timestamp() * 1000}
        return {"path": "metrics", "status": 200, "body": {"success": True, "result": metrics}}

    cf.add_fault(**oldest(minutes=59))
    found = wait(QueueBacklogSensor, lambda: cf.add_fault(**oldest(minutes=61)), older_than=older_than)
    assert found["backlog_count"] == 1


def test_a_backlog_sensor_without_a_condition_is_an_error(wait):
    with pytest.raises(ValueError, match="at least one of at_least, at_most and older_than"):
        wait(QueueBacklogSensor)


def test_a_sensor_is_deferred_with_an_interval_that_can_grow(queue):
    trigger = defer(QueueMessageSensor, queue_id=queue, poke_interval=20).trigger
    assert (trigger.poke_interval, trigger.max_poke_interval) == (20, 20)
    trigger = defer(QueueMessageSensor, queue_id=queue, exponential_backoff=True, max_wait=600).trigger
    assert (trigger.poke_interval, trigger.max_poke_interval) == (60, 600)


def test_airflow_steps_in_only_after_the_trigger_has_ended_by_itself(queue):
    assert defer(QueueMessageSensor, queue_id=queue, timeout=10).timeout == timedelta(seconds=70)


def test_a_queue_is_looked_up_by_name_before_the_sensor_is_deferred(cf):
    trigger = defer(QueueMessageSensor, queue_name="my-queue").trigger
    assert trigger.probe.queue_id == cf.queues["my-queue"]


def test_sensors_wait_in_the_triggerer_where_airflow_is_configured_so(monkeypatch):
    assert not QueueMessageSensor(task_id="wait", queue_name="my-queue").deferrable
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    monkeypatch.delitem(sys.modules, "airflow_provider_cfqueues.sensors.queues")
    kind = importlib.import_module("airflow_provider_cfqueues.sensors.queues").QueueMessageSensor
    assert kind(task_id="wait", queue_name="my-queue").deferrable


def test_a_cancelled_trigger_gives_back_what_its_pull_in_flight_leased(cf, queue, send):
    async def cancel_while_pulling():
        task = asyncio.ensure_future(fire(revive(trigger)))
        while len(calls(cf, "consumers")) == 1:  # noqa: ASYNC110 - the look before its first pull
            await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    trigger = defer(QueueMessageSensor, queue_id=queue, poke_interval=0).trigger
    send("a", "b")
    cf.add_fault(path="pull", delay_ms=200)
    asyncio.run(cancel_while_pulling())
    assert states(cf) == ["ready", "ready"]
    assert [len(body["retries"]) for body in calls(cf, "ack")] == [2]


@pytest.mark.parametrize("kind", SENSORS)
def test_no_argument_of_ours_hides_one_of_airflows(kind):
    airflows = {
        name for base in BaseSensorOperator.__mro__[:-1] for name in inspect.signature(base.__init__).parameters
    }
    ours = {
        name
        for base in kind.__mro__
        if base.__module__.startswith("airflow_provider_cfqueues")
        for name in inspect.signature(base.__init__).parameters
    }
    assert ours & airflows == {"self", "kwargs"}
