"""What becomes of a message that watchers saw, by how they left it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_cfqueues.engines.settlement import Happened
from airflow_provider_cfqueues.engines.watching.deliveries import Delivery
from airflow_provider_cfqueues.engines.watching.judging import Judge
from airflow_provider_cfqueues.models import Message


def judge(acked=0, failed=0, rejected=0, missing="", **facts):
    delivery = Delivery(
        message=Message(id="m", lease_id="l", body="x"),
        lease_ends_at=datetime.now(timezone.utc) + timedelta(minutes=1),
        size=1,
        **facts,
    )
    outcome = SimpleNamespace(acked=acked, failed=failed, rejected=rejected)
    return delivery.decide(outcome, missing)


@pytest.mark.parametrize(
    ("facts", "happened"),
    [
        ({"acked": 1, "judged": 1, "offered": 1, "taken": 1}, Happened.HANDLED),
        ({"acked": 2, "judged": 2, "offered": 1, "taken": 1}, Happened.HANDLED),
        ({"acked": 1, "judged": 1}, Happened.NOT_WANTED),
        ({"acked": 1, "judged": 1, "missing": "a watcher is not there"}, Happened.NOT_STARTED),
        ({"acked": 2, "judged": 1, "offered": 1, "taken": 1}, Happened.NOT_STARTED),
        ({"acked": 1, "rejected": 1, "judged": 1}, Happened.NOT_STARTED),
        ({"acked": 1, "failed": 1, "judged": 1}, Happened.NOT_STARTED),
        ({"acked": 1}, Happened.NOT_STARTED),
        ({}, Happened.NOT_STARTED),
        ({"acked": 1, "judged": 1, "offered": 1}, Happened.NOT_STARTED),
        ({"acked": 1, "judged": 2, "offered": 2, "taken": 1}, Happened.NOT_STARTED),
        ({"acked": 1, "failed": 1, "judged": 2, "offered": 1, "taken": 1}, Happened.NOT_STARTED),
        ({"acked": 1, "failed": 1, "judged": 2}, Happened.NOT_WANTED),
        ({"rejected": 1, "judged": 1, "refusals": ["broken"]}, Happened.REJECTED),
        ({"acked": 1, "rejected": 1, "judged": 2, "offered": 1, "taken": 1, "refusals": ["no"]}, Happened.REJECTED),
        ({"acked": 1, "judged": 1, "offered": 1, "taken": 1, "left_to_task": True}, None),
    ],
)
def test_a_message_is_handled_only_if_every_watcher_judged_it_and_airflow_took_each_event(facts, happened):
    case = judge(**facts)
    assert (case and case.happened) is happened


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"acked": 1, "judged": 1, "missing": "a watcher is not there"}, "a watcher is not there"),
        ({"rejected": 2, "judged": 2, "refusals": ["broken", "too old"]}, "broken; too old"),
        ({"acked": 1, "failed": 1, "judged": 1}, "Airflow did not confirm that its event is stored"),
        ({"acked": 1, "judged": 1}, "no watcher wants it"),
    ],
)
def test_a_case_says_why_the_message_is_not_acked(facts, reason):
    assert judge(**facts).reason == reason


@pytest.mark.parametrize(("match", "offered"), [(None, 1), ("literal:x", 1), ("literal:y", 0)])
def test_a_watcher_that_looked_at_a_message_does_not_count_for_one_that_did_not(match, offered):
    message = Message(id="m", lease_id="l", body="x", raw_body="x")
    delivery = Delivery(message=message, lease_ends_at=datetime.now(timezone.utc) + timedelta(minutes=1), size=1)
    options = SimpleNamespace(match=match, max_event_bytes=10_000)
    batch = SimpleNamespace(deliveries=[delivery], options=options)
    asyncio.run(Judge(options, log=None).choose(batch))
    assert (delivery.judged, delivery.offered) == (1, offered)
    case = delivery.decide(SimpleNamespace(acked=2, failed=0, rejected=0))
    assert case.happened is Happened.NOT_STARTED
