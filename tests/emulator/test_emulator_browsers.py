"""Who may use the emulator from a browser, and who else can read what it keeps."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat

import pytest

from airflow_provider_cfqueues.emulator import Emulator

PATHS = ["/_emulator/state", "/_emulator/reset", "/client/v4/accounts/{account_id}/queues", "/", "/nowhere"]


@pytest.fixture
def send(cf, http):
    """Send a request as a browser might, with credentials that a page cannot have, so that nothing else refuses it."""

    def send(path, *, method="POST", **headers):
        url = cf.base_url.removesuffix("/client/v4") + path.format(account_id=cf.account_id)
        return http.request(method, url, content=b"{}", headers={"authorization": f"Bearer {cf.api_token}", **headers})

    return send


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8787"},
        {"host": "[::1"},
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"origin": "http://["},
    ],
    ids=str,
)
def test_a_page_of_another_site_gets_nothing_and_changes_nothing(cf, send, method, path, headers):
    cf.send(cf.queues["my-queue"], "secret body")
    response = send(path, method=method, **headers)
    assert response.status_code == 403
    assert "secret body" not in response.text
    assert cf.requests() == []
    assert cf.state()["queues"][0]["backlog_count"] == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "172.17.0.2:8787", "[::1]:8787", "localhost", "LOCALHOST:8787"]
)
def test_an_address_and_localhost_are_known(send, host):
    assert send("/_emulator/state", method="GET", host=host).status_code == 200
    assert send("/_emulator/reset", host=host, origin=f"http://{host}").status_code == 200


def test_other_names_have_to_be_allowed(http):
    with Emulator(allow_hosts=["Queues", "queues.test"]) as cf:
        state = cf.base_url.replace("/client/v4", "/_emulator/state")
        found = {
            host: http.get(state, headers={"host": host}).status_code
            for host in ("queues:8787", "queues.test", "other.test", "localhost")
        }
    assert found == {"queues:8787": 200, "queues.test": 200, "other.test": 403, "localhost": 200}


def test_the_log_says_why_a_request_was_refused_and_obeys_no_path(start, http):
    running = start("--port", "0")
    root = json.loads(running.first_line)["base_url"].removesuffix("/client/v4")
    http.get(f"{root}/_emulator/state%1B%5B2J%0D", headers={"host": "queues"})
    http.get(f"{root}/nowhere%1B%5B2J%0D")
    _, _, log = running.end(signal.SIGTERM)
    [refused] = [line for line in log.splitlines() if " -> 403" in line]
    assert "GET /_emulator/state%1B%5B2J%0D -> 403: the emulator does not accept the host name 'queues'" in refused
    assert "--allow-host" in refused
    assert "GET /nowhere%1B%5B2J%0D -> 404\n" in log


def test_the_command_line_allows_hosts_too(start, http):
    running = start("--port", "0", "--allow-host", "one", "--allow-host", "two")
    state = json.loads(running.first_line)["base_url"].replace("/client/v4", "/_emulator/state")
    found = [http.get(state, headers={"host": host}).status_code for host in ("one", "two", "three")]
    assert found == [200, 200, 403]


@pytest.mark.parametrize(("host", "warns"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_an_address_that_others_reach_is_warned_about(start, host, warns):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = start("--host", host, "--port", str(taken.getsockname()[1]))  # so that it never listens there
        _, _, err = running.end()
    assert ("can be reached from other machines" in err) == warns
    assert "cannot listen on" in err


def test_only_its_owner_can_read_a_state_file(tmp_path):
    before = os.umask(0)
    try:
        with Emulator(state=str(tmp_path / "state.db")) as cf:
            cf.send(cf.queues["my-queue"], "secret body")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes
    assert set(modes.values()) == {0o600}
