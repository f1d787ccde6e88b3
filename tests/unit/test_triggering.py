"""What the run of a message is called, and how many messages may be pulled for runs."""

from types import SimpleNamespace

import pytest

from airflow_provider_cfqueues.engines.triggering import RunStarter, name_run
from airflow_provider_cfqueues.models import Message


@pytest.mark.parametrize(("message_id", "kept"), [("aZ0_.:+-", "aZ0_.:+-"), ("a~b/c\u00e9", "a~7e~b~2f~c~e9~")])
def test_the_id_of_a_run_keeps_what_airflow_takes(message_id, kept):
    message = Message(id=message_id, lease_id="l", body=None)
    assert name_run("orders", message) == f"cloudflare_queues__orders__{kept}"


@pytest.mark.parametrize(
    ("max_active", "most_awaited", "unhandled", "room"), [(5, None, 0, 3), (5, None, 2, 1), (None, 4, 1, 3)]
)
def test_no_more_messages_are_pulled_than_runs_may_start(max_active, most_awaited, unhandled, room):
    starter = RunStarter(
        runs=SimpleNamespace(count_active=lambda: 2),
        queue_name="orders",
        make_conf=dict,
        max_active=max_active,
        most_awaited=most_awaited,
        clears=False,
        poll_interval=1,
        lease_seconds=60,
        is_stopping=bool,
    )
    assert starter.count_room(unhandled) == room
