"""What the run of a message is called, and what happens while there is no room for runs."""

from types import SimpleNamespace

import pytest

from airflow_provider_cfqueues.engines.processing.handling import NotStarted
from airflow_provider_cfqueues.engines.triggering import RunStarter, name_run
from airflow_provider_cfqueues.models import Message

MESSAGE = Message(id="m", lease_id="l", body=None)


def starter_of(max_active=None, most_awaited=None, *, is_stopping=bool, **runs):
    """Return what starts runs of a DAG that has two active ones."""
    return RunStarter(
        runs=SimpleNamespace(count_active=lambda: 2, start=pytest.fail, **runs),
        queue_name="orders",
        make_conf=lambda message: {},
        max_active=max_active,
        most_awaited=most_awaited,
        clears=False,
        poll_interval=1,
        lease_seconds=60,
        is_stopping=is_stopping,
    )


@pytest.mark.parametrize(("message_id", "kept"), [("aZ0_.:+-", "aZ0_.:+-"), ("a~b/c\u00e9", "a~7e~b~2f~c~e9~")])
def test_the_id_of_a_run_keeps_what_airflow_takes(message_id, kept):
    message = Message(id=message_id, lease_id="l", body=None)
    assert name_run("orders", message) == f"cloudflare_queues__orders__{kept}"


@pytest.mark.parametrize(
    ("max_active", "most_awaited", "unhandled", "room"), [(5, None, 0, 3), (5, None, 2, 1), (None, 4, 1, 3)]
)
def test_no_more_messages_are_pulled_than_runs_may_start(max_active, most_awaited, unhandled, room):
    assert starter_of(max_active, most_awaited).count_room(unhandled) == room


def test_a_message_whose_run_exists_needs_no_room_for_another():
    run_id = name_run("orders", MESSAGE)
    starter = starter_of(max_active=2, is_stopping=lambda: True, exists=[run_id].__contains__)
    assert starter(MESSAGE) == run_id
    assert (starter.started, starter.existing) == (0, 1)


def test_a_message_that_gets_no_room_in_time_was_not_started():
    starter = starter_of(max_active=2, is_stopping=lambda: True, exists=[].__contains__)
    with pytest.raises(NotStarted):
        starter(MESSAGE)
    assert (starter.started, starter.existing) == (0, 0)
