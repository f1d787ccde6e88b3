"""What becomes of a message that watchers saw, by how they left it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_cfqueues.engines.settlement import Happened
from airflow_provider_cfqueues.engines.watching.deliveries import Delivery
from airflow_provider_cfqueues.models import Message

OPTIONS = SimpleNamespace(delay_seconds=7)


def decide(acked=0, failed=0, rejected=0, missing="", **facts):
    delivery = Delivery(
        message=Message(id="m", lease_id="l", body="x"),
        lease_ends_at=datetime.now(timezone.utc) + timedelta(minutes=1),
        size=1,
        **facts,
    )
    outcome = SimpleNamespace(acked=acked, failed=failed, rejected=rejected)
    verdict = delivery.decide(outcome, OPTIONS, missing)
    return verdict and verdict.happened


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
    assert decide(**facts) is happened
