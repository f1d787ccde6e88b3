"""What a DAG gets at of the events that started it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_cfqueues._compat import HAS_ASSET_WATCHERS
from airflow_provider_cfqueues.events import event_leases, event_messages
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueAckOperator


@dataclass
class Event:
    """An asset event as a task's context has it."""

    extra: Any
    timestamp: datetime


def event(number, *messages, queue_name="orders"):
    payload = {"queue_id": None, "queue_name": queue_name, "messages": list(messages)}
    return Event(
        {"from_trigger": True, "payload": payload}, datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(number)
    )


def test_the_messages_of_all_events_come_oldest_first_and_each_once():
    one, two, three = ({"lease_id": name} for name in ("one", "two", "three"))
    context = {"triggering_asset_events": {"a": [event(3, three), event(1, one)], "b": [event(2, two), event(4, one)]}}
    assert event_messages().resolve(context) == [one, two, three]


def test_only_those_of_one_queue_are_taken_where_that_is_said():
    context = {
        "triggering_asset_events": {
            "a": [event(1, {"lease_id": "one"}), event(2, {"lease_id": "two"}, queue_name="refunds")]
        }
    }
    assert event_leases(queue_name="refunds").resolve(context) == [{"lease_id": "two"}]
    assert event_leases(queue_id="orders").resolve(context) == []


def test_events_of_others_and_runs_without_events_hold_no_messages():
    foreign = [Event(extra, datetime.now(timezone.utc)) for extra in (None, {}, {"payload": "x"}, {"payload": {}})]
    assert event_leases().resolve({"triggering_asset_events": {"a": foreign}}) == []
    assert event_leases().resolve({}) == []


def test_it_looks_the_same_in_each_version_of_a_dag():
    assert repr(event_leases(queue_name="orders")) == "EventMessages(queue_id=None, queue_name='orders')"


@pytest.mark.skipif(not HAS_ASSET_WATCHERS, reason="asset watchers came with Airflow 3.0")
def test_an_operator_settles_the_leases_that_its_run_was_started_with(cf, queue):
    cf.send(queue, {"n": 1})
    cf.send(queue, {"n": 2})
    pulled = CloudflareQueuesHook().pull(queue, max_messages=2)
    events = [event(number, message.to_xcom()) for number, message in enumerate(pulled)]
    ack = QueueAckOperator(task_id="ack", queue_id=queue, lease_ids=event_leases())
    context = {"triggering_asset_events": {"asset": events}}
    ack.render_template_fields(context)
    assert ack.execute(context)["ack_count"] == 2


def event_batches_in(dag_id, **arguments):
    """Return the task that a DAG has of event_batches, and the one that is mapped over it."""
    from airflow.sdk import dag, task

    from airflow_provider_cfqueues.events import event_batches

    @task
    def ship(messages):
        return len(messages)

    @dag(dag_id=dag_id, schedule=None)
    def build():
        ship.expand(messages=event_batches(**arguments))

    built = build()
    return built.get_task("event_batches"), built.get_task("ship")


@pytest.mark.skipif(not HAS_ASSET_WATCHERS, reason="asset events came with Airflow 3.0")
@pytest.mark.filterwarnings("default")
def test_five_thousand_messages_come_in_fifty_batches_to_map_over():
    batches, ship = event_batches_in("batches", size=100)
    assert batches.downstream_task_ids == {"ship"}
    assert ship.is_mapped
    of_five = [event(start, *({"lease_id": f"{start}-{n}"} for n in range(1_000))) for start in range(5)]
    context = {"triggering_asset_events": {"orders": of_five}, "ti": None}
    batches.render_template_fields(context)
    result = batches.execute(context)
    assert [len(batch) for batch in result] == [100] * 50
    assert len({message["lease_id"] for batch in result for message in batch}) == 5_000


@pytest.mark.skipif(not HAS_ASSET_WATCHERS, reason="asset events came with Airflow 3.0")
def test_a_size_of_batches_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="size must be"):
        event_batches_in("batches", size=0)
