"""The queues that an emulator starts with, and goes back to."""

from __future__ import annotations

import json

import httpx
import pytest

from airflow_provider_cfqueues.emulator import Emulator


def consumers(cf: Emulator) -> dict[str, dict]:
    """Return dead-letter queue and settings of each queue's consumer, as the API shows them."""
    headers = {"Authorization": f"Bearer {cf.api_token}"}
    queues = httpx.get(f"{cf.base_url}/accounts/{cf.account_id}/queues", headers=headers).json()["result"]
    return {
        queue["queue_name"]: {"dead_letter_queue": consumer["dead_letter_queue"], **consumer["settings"]}
        for queue in queues
        for consumer in queue["consumers"]
    }


class Found:
    """An emulator that another process runs."""

    def __init__(self, first_line: str) -> None:
        vars(self).update(json.loads(first_line))


def test_a_queue_of_the_command_line_has_its_settings_and_a_dead_letter_queue_that_can_be_pulled(start):
    settings = "max-retries=5,retry-delay=0.5,batch-size=7,visibility-timeout=1.5"
    queues = ("--queue", f"orders=abc,dead-letter-queue=orders-failed,{settings}", "--queue", "later,retry-delay=5")
    cf = Found(start("--port", "0", *queues).first_line)
    assert list(cf.queues) == ["orders", "later", "orders-failed"]
    assert cf.queues["orders"] == "abc"
    found = consumers(cf)
    assert found["orders"] == {
        "dead_letter_queue": "orders-failed",
        "max_retries": 5,
        "retry_delay": 0.5,
        "batch_size": 7,
        "visibility_timeout_ms": 1500,
    }
    assert str(found["later"]["retry_delay"]) == "5"
    assert found["orders-failed"]["dead_letter_queue"] == ""


@pytest.mark.parametrize("names", [["orders", "failed"], ["failed", "orders"]])
def test_a_dead_letter_queue_may_have_settings_too_wherever_it_is_named(names):
    settings = {"orders": {"dead_letter_queue": "failed"}, "failed": {"queue_id": "abc", "max_retries": 9}}
    with Emulator(queues={name: settings[name] for name in names}) as cf:
        assert list(cf.queues) == names
        assert cf.queues["failed"] == "abc"
        assert consumers(cf)["failed"]["max_retries"] == 9


@pytest.mark.parametrize(
    ("queue", "says"),
    [
        ("orders,max-retry=5", "unknown setting 'max-retry'; known: dead-letter-queue, max-retries"),
        ("orders,max-retries=five", "max-retries must be a number, not 'five'"),
        ("orders,max-retries", "max-retries must be a number, not ''"),
        ("orders,max-retries=101", 'between 0 and 100 at "settings.max_retries"'),
        ("orders,max-retries=nan", 'between 0 and 100 at "settings.max_retries"'),
        ("orders,dead-letter-queue=No", "Invalid queue name 'No'"),
        ("orders,dead-letter-queue=orders", "cannot be its own dead letter queue"),
        ("orders=,max-retries=1", "id of queue 'orders'"),
    ],
)
def test_a_setting_that_cannot_be_is_an_error_before_anything_starts(start, tmp_path, queue, says):
    running = start("--port", "0", "--state", str(tmp_path / "state.db"), "--queue", queue)
    code, out, err = running.end()
    assert (code, running.first_line + out) == (2, "")
    assert says in err.splitlines()[-1]
    assert not (tmp_path / "state.db").exists()


def test_a_misspelt_setting_of_a_queue_in_code_is_named():
    with pytest.raises(TypeError, match="unknown setting 'max_retry'"):
        Emulator(queues={"orders": {"max_retry": 5}}).start()
    with Emulator() as cf:
        with pytest.raises(TypeError, match="unknown setting 'max_retry'"):
            cf.create_queue("orders", max_retry=5)
        with pytest.raises(ValueError, match="queue 'orders': Number must be between"):
            cf.create_queue("orders", max_retries=-1)
        assert list(cf.queues) == ["my-queue"]


def test_a_state_file_alone_gives_the_queues_that_it_holds(start, tmp_path):
    state = str(tmp_path / "state.db")
    with Emulator(queues={"orders": "abc"}, state=state):
        pass
    assert json.loads(start("--port", "0", "--state", state).first_line)["queues"] == {"orders": "abc"}


def test_a_state_file_whose_queues_were_deleted_stays_empty(tmp_path):
    state = str(tmp_path / "state.db")
    with Emulator(queues=[], state=state):
        pass
    with Emulator(state=state) as cf:
        assert cf.queues == {}


def test_settings_change_those_of_the_state_file_and_leave_the_rest(tmp_path):
    state = str(tmp_path / "state.db")
    with Emulator(queues={"orders": {"max_retries": 5, "batch_size": 7}}, state=state) as cf:
        queue_id = cf.queues["orders"]
        cf.send(queue_id, [1])
    with Emulator(queues={"orders": {"max_retries": 6, "dead_letter_queue": "failed"}}, state=state) as cf:
        assert cf.queues["orders"] == queue_id
        found = consumers(cf)["orders"]
        assert cf.state()["queues"][0]["backlog_count"] == 1
    assert (found["max_retries"], found["batch_size"], found["dead_letter_queue"]) == (6, 7, "failed")


def test_reset_goes_back_to_the_queues_of_the_start_with_ids_and_settings(tmp_path):
    state = str(tmp_path / "state.db")
    with Emulator(queues={"orders": {"max_retries": 5, "dead_letter_queue": "failed"}}, state=state) as cf:
        before = cf.queues, consumers(cf)
        cf.create_queue("other")
        cf.send(cf.queues["orders"], [1])
        cf.reset()
        assert (cf.queues, consumers(cf)) == before
    with Emulator(state=state) as cf:
        cf.send(cf.queues["orders"], [1])
        cf.reset()
        assert (cf.queues, consumers(cf)) == before
        assert [queue["backlog_count"] for queue in cf.state()["queues"]] == [0, 0]
