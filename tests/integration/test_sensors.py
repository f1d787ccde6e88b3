"""The sensors as a DAG author uses them: on a worker, and deferred, with the trigger as the triggerer runs it."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_cfqueues._compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    import_string,
)
from airflow_provider_cfqueues.exceptions import (
    CloudflareQueuesError,
    LossyMatchError,
    MatchFailedError,
    PermissionDeniedError,
)
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.sensors.queues import QueueBacklogSensor, QueueMessageSensor

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:  # before 3.2
    from airflow.exceptions import TaskDeferred

SENSORS = [QueueMessageSensor, QueueBacklogSensor]
ORDER = 'jsonpath:$.type == "order"'
FORBIDDEN = {"status": 403, "body": {"success": False, "errors": [{"code": 10000, "message": "no"}]}}

QUEUES = ["dead", "bare"]


@pytest.fixture
def cf(cf):
    """An emulator with a queue whose consumer has a dead-letter queue, and one whose consumer has none."""
    cf.create_queue("my-queue", dead_letter_queue="dead")
    return cf


@pytest.fixture
def queue(cf):
    return cf.queues["my-queue"]


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


def messages_of(cf, name="my-queue"):
    return next(queue for queue in cf.state()["queues"] if queue["name"] == name)["messages"]


def states(cf, name="my-queue"):
    return sorted(message["state"] for message in messages_of(cf, name))


def fails_on_text(message):
    return message.body["type"] == "order"


def test_messages_that_are_there_are_returned_leased(cf, wait, send):
    send("a", {"b": 1})
    found = wait(QueueMessageSensor, visibility_timeout=600)
    assert [message["body"] for message in found] == ["a", {"b": 1}]
    assert states(cf) == ["leased", "leased"]
    assert CloudflareQueuesHook().ack(cf.queues["my-queue"], acks=found).ack_count == 2
    assert calls(cf, "pull") == [{"batch_size": 100, "visibility_timeout_ms": 600_000}]


def test_a_trigger_calls_a_queue_that_was_given_by_name_by_its_name(cf, logged):
    trigger = revive(defer(QueueBacklogSensor, queue_name="my-queue", at_least=1, poke_interval=0).trigger)
    refused = {"success": False, "errors": [{"code": 10000, "message": "no"}]}
    cf.add_fault("metrics", status=403, body=refused)
    error = CloudflareQueuesError.from_dict(asyncio.run(fire(trigger))["error"])
    assert f"queue 'my-queue' (ID {cf.queues['my-queue']})" in str(error)


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


WANTS_ORDERS = {"match": ORDER, "unmatched_delay_seconds": 0, "visibility_timeout": 600}


def test_what_a_match_costs_the_queues_other_readers_is_said_once_at_the_start(wait, send, logged):
    send({"type": "refund"}, {"type": "order"})
    wait(QueueMessageSensor, **WANTS_ORDERS)
    assert logged().count("loses one of its 3 deliveries (max_retries) each time it is pulled") == 1


def test_what_does_not_match_goes_to_the_consumers_dead_letter_queue_after_its_last_delivery(cf, wait, send, logged):
    send({"type": "refund"})
    (message,) = messages_of(cf)
    for _ in range(3):
        send({"type": "order"})
        wait(QueueMessageSensor, **WANTS_ORDERS)
    assert message["id"] in logged()
    assert "delivered 3 times: Cloudflare moves it to 'dead' now, or after its next delivery" in logged()


@pytest.mark.parametrize("can_be_peeked", [True, False])
def test_a_match_does_not_start_on_a_queue_that_would_delete_what_it_does_not_want(cf, wait, can_be_peeked):
    bare = cf.queues["bare"]
    CloudflareQueuesHook().send(bare, [{"type": "refund"}] * 3)
    if not can_be_peeked:
        cf.add_fault("peek", times=100, **FORBIDDEN)
    with pytest.raises(LossyMatchError, match=r"dead-letter queue.*dead_letter_queue=.*unmatched='ack'"):
        wait(QueueMessageSensor, queue_id=bare, **WANTS_ORDERS)
    assert calls(cf, "pull") == []


def test_a_match_does_not_start_if_the_consumer_cannot_be_read_and_the_log_says_what_is_assumed(cf, wait, logged):
    cf.add_fault("consumers", times=100, **FORBIDDEN)
    with pytest.raises(LossyMatchError, match="the queue's consumer could not be read"):
        wait(QueueMessageSensor, **WANTS_ORDERS)
    assert "assumes that it has no dead-letter queue and max_retries=3" in logged()
    assert calls(cf, "pull") == []


def wait_for_orders(cf, wait, name, times, **arguments):
    """Wait so often for an order, beside a refund that nobody wants."""
    hook = CloudflareQueuesHook()
    hook.send(cf.queues[name], [{"type": "refund"}])
    for _ in range(times):
        hook.send(cf.queues[name], [{"type": "order"}])
        found = wait(QueueMessageSensor, queue_id=cf.queues[name], **WANTS_ORDERS, **arguments)
        assert [message["body"] for message in found] == [{"type": "order"}]
        hook.ack(cf.queues[name], acks=found)


def test_a_sensor_with_a_dead_letter_queue_of_its_own_copies_what_it_does_not_want_at_its_last_delivery(cf, wait):
    wait_for_orders(cf, wait, "bare", 3, dead_letter_queue="dead")
    assert states(cf, "bare") == []
    (copy,) = CloudflareQueuesHook().pull(cf.queues["dead"], max_messages=1)
    assert copy.body["body"] == {"type": "refund"}
    assert copy.body["reason"] == "delivered 3 times; the sensor does not want it"


def test_a_queue_is_not_its_own_dead_letter_queue(cf, wait):
    with pytest.raises(ValueError, match="dead_letter_queue is 'bare', the queue itself"):
        wait(QueueMessageSensor, queue_id=cf.queues["bare"], **WANTS_ORDERS, dead_letter_queue="bare")


@pytest.mark.parametrize(("unmatched", "left", "dead"), [("ack", 0, 0), ("retry", 1, 0), ("dead_letter", 0, 1)])
def test_what_becomes_of_messages_that_nobody_wants_can_be_chosen(cf, wait, unmatched, left, dead):
    name = "my-queue" if unmatched == "dead_letter" else "bare"
    wait_for_orders(cf, wait, name, 1, unmatched=unmatched)
    assert (len(states(cf, name)), len(states(cf, "dead"))) == (left, dead)


def test_a_wrong_choice_is_an_error(wait):
    with pytest.raises(ValueError, match="unmatched must be 'ack', 'dead_letter' or 'retry', not 'delete'"):
        wait(QueueMessageSensor, match=ORDER, unmatched="delete")


def test_a_match_that_only_looks_starts_on_any_queue(cf, wait):
    CloudflareQueuesHook().send(cf.queues["bare"], [{"type": "order"}])
    assert len(wait(QueueMessageSensor, queue_id=cf.queues["bare"], lease=False, match=ORDER)) == 1


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
    assert "Could not give back 1 message before the leases end" in logged()
    (left,) = (each["id"] for each in messages_of(cf) if each["id"] != message["id"])
    assert f"Message: {left} (lease " in logged()


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


@pytest.fixture
def cancel_while_pulling(cf):
    """Cancel a deferred sensor while its trigger pulls."""

    def cancel_while_pulling(queue, *bodies):
        trigger = defer(QueueMessageSensor, queue_id=queue, poke_interval=0).trigger
        CloudflareQueuesHook().send(queue, list(bodies))
        cf.add_fault(path="pull", delay_ms=200)
        asyncio.run(cancel(trigger))

    async def cancel(trigger):
        looks = len(calls(cf, "consumers"))
        task = asyncio.ensure_future(fire(revive(trigger)))
        while len(calls(cf, "consumers")) == looks:  # noqa: ASYNC110 - the look before its first pull
            await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    return cancel_while_pulling


def test_a_cancelled_trigger_gives_back_what_its_pull_in_flight_leased(cf, queue, cancel_while_pulling):
    cancel_while_pulling(queue, "a", "b")
    assert states(cf) == ["ready", "ready"]
    assert [len(body["retries"]) for body in calls(cf, "ack")] == [2]


@pytest.mark.parametrize("steps", range(8))
def test_a_trigger_that_is_cancelled_at_the_answer_of_its_pull_has_fired_or_gives_back(cf, queue, steps):
    trigger = revive(defer(QueueMessageSensor, queue_id=queue, poke_interval=0).trigger)
    CloudflareQueuesHook().send(queue, ["a"])
    looks, fired = len(calls(cf, "pull")), []

    async def work():
        async for event in trigger.run():
            fired.append(event)

    async def cancel():
        task = asyncio.ensure_future(work())
        while len(calls(cf, "pull")) == looks:  # noqa: ASYNC110 - each step of the loop counts
            await asyncio.sleep(0)
        time.sleep(0.02)  # noqa: ASYNC251 - until the answer has arrived
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert states(cf) == (["leased"] if fired else ["ready"])


def test_a_cancelled_trigger_sends_again_what_may_not_be_delivered_again(cf, cancel_while_pulling):
    bare = cf.queues["bare"]
    CloudflareQueuesHook().update_pull_consumer(bare, consumer_max_retries=1)
    cancel_while_pulling(bare, "a")
    assert [message["attempts"] for message in messages_of(cf, "bare")] == [0]
    assert [len(body["acks"]) for body in calls(cf, "ack")] == [1]


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
