"""The command line: its contract with whoever starts it, and what a state file survives."""

from __future__ import annotations

import json
import signal

import httpx
import pytest

from airflow_provider_cfqueues.emulator import Emulator


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_line_on_stdout_and_a_clean_end(start, number):
    running = start("--port", "0", "--queue", "orders=abc123", "--queue", "other")
    facts = json.loads(running.first_line)
    assert set(facts) == {"base_url", "account_id", "api_token", "queues"}
    assert facts["queues"]["orders"] == "abc123"
    assert facts["base_url"].endswith("/client/v4")
    url = f"{facts['base_url']}/accounts/{facts['account_id']}/queues"
    with httpx.Client(headers={"Authorization": f"Bearer {facts['api_token']}"}) as http:
        queues = http.get(url).json()["result"]
        assert [queue["consumers"][0]["type"] for queue in queues] == ["http_pull", "http_pull"]
        code, out, err = running.end(number)
    assert (code, out) == (0, "")
    assert "GET /client/v4/accounts/" in err
    assert facts["api_token"] not in err


def test_the_defaults_are_one_queue_and_known_credentials(start):
    facts = json.loads(start("--port", "0").first_line)
    with Emulator() as cf:
        assert (facts["account_id"], facts["api_token"]) == (cf.account_id, cf.api_token)
        assert list(facts["queues"]) == list(cf.queues) == ["my-queue"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "x"], "a port is a number"),
        (["--port", "65536"], "a port is a number"),
        (["--queue", "No"], "queue name must be"),
        (["--queue", "a="], "id of queue 'a'"),
        (["--account-id", "a b"], "account id must be"),
        (["--api-token", "a b"], "API token must be"),
        (["--state", "/nowhere/state.db"], "/nowhere/state.db"),
        (["--host", "no such host"], "cannot listen on no such host port 0"),
        (["--json-encoding", "hex"], "invalid choice"),
        (["--rate-limit", "0"], "a limit is a whole number from 1, not '0'"),
        (["--assume", "late-ack"], "an assumption is given as NAME=CHOICE, not 'late-ack'"),
        (["extra"], "unrecognized arguments"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_says_why(start, arguments, message):
    running = start("--port", "0", *arguments)
    code, out, err = running.end()
    assert (code, running.first_line + out) == (2, "")
    assert "Traceback" not in err
    assert message in err.splitlines()[-1]


def test_a_state_file_survives_kill_9(start, tmp_path):
    state = str(tmp_path / "state.db")
    first = start("--port", "0", "--state", state)
    facts = json.loads(first.first_line)
    queue = f"/accounts/{facts['account_id']}/queues/{facts['queues']['my-queue']}"
    with httpx.Client(headers={"Authorization": f"Bearer {facts['api_token']}"}) as http:

        def post(facts, action, body):
            response = http.post(facts["base_url"] + queue + action, json=body)
            assert response.status_code == 200
            return response.json()["result"]

        control = facts["base_url"].removesuffix("/client/v4") + "/_emulator"
        for body in ("acked", "leased", "ready"):
            post(facts, "/messages", {"body": body, "content_type": "text"})
        acked, leased = post(facts, "/messages/pull", {"batch_size": 2})["messages"]
        post(facts, "/messages/ack", {"acks": [{"lease_id": acked["lease_id"]}]})
        assert http.post(f"{control}/clock", json={"advance_seconds": 3600}).status_code == 200
        post(facts, "/messages/pull", {"batch_size": 1})
        code, _, _ = first.end(signal.SIGKILL)
        assert code == -signal.SIGKILL

        again = json.loads(start("--port", "0", "--state", state).first_line)
        assert again["queues"] == facts["queues"]
        [message] = post(again, "/messages/pull", {"batch_size": 10})["messages"]
        late = post(again, "/messages/ack", {"acks": [{"lease_id": leased["lease_id"]}]})
        used = post(again, "/messages/ack", {"acks": [{"lease_id": acked["lease_id"]}]})
    assert (message["body"], message["attempts"]) == ("leased", 2)
    assert late["ackCount"] == 1
    assert used["ackCount"] == 0


def test_a_queue_of_the_state_file_keeps_its_id(tmp_path):
    state = str(tmp_path / "state.db")
    with Emulator(queues={"orders": "abc"}, state=state):
        pass
    with Emulator(queues=["orders"], state=state) as cf:
        assert cf.queues == {"orders": "abc"}
    with pytest.raises(ValueError, match="has the id abc in the state file"):
        Emulator(queues={"orders": "def"}, state=state).start()


def test_reset_empties_the_state_file_too(tmp_path):
    state = str(tmp_path / "state.db")
    with Emulator(queues={"orders": "abc"}, state=state) as cf:
        cf.create_queue("other")
        cf.send("abc", [1])
        cf.advance(60)
        cf.reset()
    with Emulator(queues=["orders"], state=state) as cf:
        assert cf.queues == {"orders": "abc"}
        assert cf.state()["queues"][0]["backlog_count"] == 0


def test_help_names_every_option(start):
    running = start("--help")
    code, out, _ = running.end()
    text = running.first_line + out
    assert code == 0
    for option in (
        "--host",
        "--port",
        "--queue",
        "--state",
        "--account-id",
        "--api-token",
        "--json-encoding",
        "--assume",
        "--rate-limit",
        "--daily-operations",
    ):
        assert option in text
