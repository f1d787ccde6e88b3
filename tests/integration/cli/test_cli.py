"""The commands as a person or a script runs them: arguments in; stdout, stderr and exit code out."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from command_line import columns, in_queue, messages, send

from airflow_provider_cfqueues.__main__ import parser
from airflow_provider_cfqueues.cli.definition import COMMANDS
from airflow_provider_cfqueues.emulator import Emulator
from airflow_provider_cfqueues.exceptions import AuthenticationError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
from airflow_provider_cfqueues.outcomes import Reject

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


def test_queues_shows_backlog_and_age_of_each_queue(cf, run):
    metrics = {"backlog_count": 1234, "backlog_bytes": 4, "oldest_message_timestamp_ms": (time.time() - 7300) * 1000}
    cf.add_fault(path="metrics", status=200, body={"success": True, "result": metrics}, times=2)
    code, out, _ = run("queues", "orders-failed", cf.queues["orders"])
    head, *rows = out.splitlines()
    assert (code, columns(head)[:4]) == (0, ["queue", "backlog", "bytes", "oldest"])
    assert columns(rows[0]) == ["orders", "1,234", "4", "2 h", "1", "active", cf.queues["orders"]]
    assert columns(run("queues")[1].splitlines()[2])[:4] == ["orders-failed", "0", "0", "-"]


def test_queues_as_json_is_json_alone(cf, run):
    code, out, _ = run("queues", "orders", "--json")
    (queue,) = json.loads(out)
    assert (code, queue["queue"], queue["backlog"], queue["oldest"]) == (0, "orders", 0, None)


def test_peek_leases_nothing_and_shows_bodies_in_a_line(cf, run):
    send(cf, {"n": 1}, "two\nlines", "x" * 300)
    code, out, _ = run("peek", "orders")
    assert (code, in_queue(cf)) == (0, {"ready": 3})
    bodies = [columns(line)[-1] for line in out.splitlines()[1:]]
    assert bodies[:2] == ['{"n": 1}', "two lines"]
    assert bodies[2].endswith("x…")
    assert [message["body"] for message in json.loads(run("peek", "orders", "--json")[1])][1] == "two\nlines"


def test_peek_shows_of_a_rejected_message_where_it_is_from_why_and_its_own_body(cf, run):
    def refuse(message):
        raise Reject("no price")

    cf.send(cf.queues["orders"], {"order": 1001})
    QueueProcessOperator(
        task_id="task", queue_name="orders", handler=refuse, dead_letter_queue="orders-failed", fail_on="none"
    ).execute({})
    cf.send(cf.queues["orders-failed"], "sent by hand")
    code, out, _ = run("peek", "orders-failed")
    head, copy, other = (columns(line)[-3:] for line in out.splitlines())
    assert (code, head) == (0, ["rejected from", "reason", "body"])
    assert copy == ["orders", "no price", '{"order": 1001}']
    assert other == ["-", "-", "sent by hand"]
    assert json.loads(run("peek", "orders-failed", "--json")[1])[0]["body"]["reason"] == "no price"


def test_peek_that_shows_nothing_says_where_the_backlog_may_be(cf, run):
    assert run("peek", "orders")[2].splitlines()[-1] == "No messages to show. The backlog of orders is 0"
    send(cf, "a", "b")
    CloudflareQueuesHook().pull(cf.queues["orders"], max_messages=2)
    code, out, err = run("peek", "orders")
    assert (code, out) == (0, "")
    told = "No messages to show. The backlog of orders is 2 messages, which may be leased or delayed"
    assert err.splitlines()[-1] == told
    code, out, err = run("peek", "orders", "--json")
    assert out == "[]\n"
    assert "No messages" not in err


@pytest.mark.parametrize(("columns_of_terminal", "width"), [("60", 60), ("80", 80), (None, 120)])
def test_a_table_fits_into_the_line_and_cuts_nothing(cf, run, monkeypatch, columns_of_terminal, width):
    monkeypatch.delenv("COLUMNS")
    if columns_of_terminal:
        monkeypatch.setenv("COLUMNS", columns_of_terminal)
    send(cf, "a long text " * 8)
    for command in ("peek", "queues", "ping"):
        code, out, _ = run(command, "orders")
        assert (code, max(map(len, out.splitlines())) <= width, "…" in out) == (0, True, False)
    pieces = re.findall("[0-9a-f]+$", run("queues", "orders")[1], re.MULTILINE)
    assert cf.queues["orders"] in "".join(pieces)


@pytest.mark.parametrize(
    ("arguments", "bar"),
    [
        (["drain", "orders", "--output", "file"], "Draining orders"),
        (["redrive", "orders", "orders-failed"], "Moving orders to orders-failed"),
    ],
    ids=["drain", "redrive"],
)
def test_a_log_line_is_above_the_progress_bar_not_in_it(cf, tmp_path, arguments, bar):
    send(cf, "a")
    cf.add_fault(path="ack", status=500)
    command = [sys.executable, "-m", "airflow_provider_cfqueues", *arguments, "--idle-timeout", "1"]
    terminal, end = os.openpty()
    with subprocess.Popen(command, cwd=tmp_path, stdout=end, stderr=end):
        os.close(end)
        written = b""
        with suppress(OSError):  # how a terminal ends
            while piece := os.read(terminal, 65536):
                written += piece
    os.close(terminal)
    shown = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", written.decode())
    lines = re.split("[\r\n]+", shown)
    assert any(bar in line and " 1/" in line for line in lines)
    (told,) = (line for line in lines if "Trying again in" in line)
    assert bar not in told


HOSTILE = "[red]x[/red] :smile: \x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\u202eover"


def is_safe(text):
    return all(character.isprintable() or character == "\n" for character in text)


def test_what_a_terminal_would_obey_is_escaped(cf, run):
    send(cf, HOSTILE)
    code, out, _ = run("peek", "orders")
    assert (code, is_safe(out)) == (0, True)
    assert r"[red]x[/red] :smile: \x1b]0;owned\x07\x1b[2J\x9b31m\x7f \u202eover" in out
    out = run("peek", "orders", "--json")[1]
    assert "\x9b" not in out
    assert json.loads(out)[0]["body"] == HOSTILE


def test_names_and_errors_of_the_api_are_escaped_as_well(cf, run):
    queue = {"queue_id": "abc", "queue_name": f"name {HOSTILE}", "settings": {}}
    listed = {"success": True, "result": [queue], "result_info": {"page": 1, "total_pages": 1}}
    cf.add_fault(path="queues", status=200, body=listed)
    cf.add_fault(path="metrics", status=200, body={"success": True, "result": {"backlog_count": 1}})
    out = run("queues")[1]
    assert (is_safe(out), "name [red]x" in out) == (True, True)
    refused = {"success": False, "errors": [{"code": 10000, "message": f"no {HOSTILE}"}]}
    cf.add_fault(path="peek", status=403, body=refused, times=2)
    assert is_safe(run("ping")[1])
    code, _, err = run("peek", "orders")
    assert (code, is_safe(err), "no [red]x" in err) == (1, True, True)


def test_peek_says_of_a_body_why_it_is_not_shown(cf, run):
    cf.send(cf.queues["orders"], "/w8=", content_type="v8")
    assert "can only be decoded in a Worker" in run("peek", "orders")[1]


def test_peek_shows_what_airflow_could_not_store(cf, run):
    send(cf, {"__type": "x", "n": 2**70})
    assert json.loads(run("peek", "orders", "--json")[1])[0]["body"] == {"__type": "x", "n": 2**70}


@pytest.mark.parametrize(
    "arguments", [["peek", "orders"], ["peek", "orders", "--json"], ["queues"], ["ping", "--json"]]
)
def test_a_reader_that_has_enough_ends_a_command_quietly(cf, run, unread, arguments):
    send(cf, "a")
    with unread():
        code, _, err = run(*arguments)
    assert (code, "error" in err, "Traceback" in err) == (141, False, False)


def test_a_queue_is_named_by_its_name_or_else_by_its_id(run, connect):
    with Emulator(queues={"orders": "abc", "abc": "0F" * 16, "other": None}) as cf:
        connect(cf)
        send(cf, "in orders")
        send(cf, "in abc", queue="abc")
        send(cf, "in other", queue="other")
        for given, body in (("orders", "in orders"), ("abc", "in abc"), ("0f" * 16, "in abc"), ("OTHER", None)):
            code, out, _ = run("peek", given, "--json")
            assert [message["body"] for message in json.loads(out or "[]")] == ([body] if body else [])
            assert code == (0 if body else 1)
        (listed,) = json.loads(run("queues", cf.queues["other"].upper(), "--json")[1])
        assert listed["queue"] == "other"
        assert columns(run("ping", "0f" * 16)[1].splitlines()[3])[-1] == "abc: backlog 1"
        assert run("redrive", "orders", "f" * 32)[0] == 1
        assert [message["attempts"] for message in messages(cf)] == [0]


def test_redrive_moves_messages_and_tells_how_many(cf, run):
    send(cf, {"kind": "a"}, {"kind": "b"}, {"kind": "a"}, queue="orders-failed")
    code, out, _ = run("redrive", "orders-failed", "orders", "--max", "2")
    assert (code, out) == (0, "Moved 2 messages of orders-failed to orders, the backlog of orders-failed is 1\n")
    code, out, _ = run("redrive", "orders-failed", "orders", "--idle-timeout", "0", "--json")
    assert (code, json.loads(out)["moved"], in_queue(cf)) == (0, 1, {"ready": 3})


def test_redrive_tells_of_each_message_that_it_cannot_move(cf, run):
    v8 = {"id": "i", "lease_id": "l", "body": "/w8=", "metadata": {"CF-Content-Type": "v8"}}
    cf.add_fault(path="pull", status=200, body={"success": True, "result": {"messages": [v8]}})
    code, out, _ = run("redrive", "orders-failed", "orders", "--idle-timeout", "0")
    assert code == 1
    assert "1 cannot be moved" in out
    assert out.splitlines()[1].startswith("  i: its body could not be decoded")


def test_redrive_tells_of_each_end_of_a_message(cf, run):
    send(cf, "a", "b", queue="orders-failed")
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders-failed"], consumer_max_retries=1)
    arguments = ["--match", "literal:a", "--visibility-timeout", "900", "--idle-timeout", "0"]
    code, out, _ = run("redrive", "orders-failed", "orders", *arguments)
    assert code == 0
    assert out == (
        "Moved 1 message of orders-failed to orders, 1 did not match (delayed by 300 s), 1 sent to the same queue "
        "again, the backlog of orders-failed is 1\n"
    )
    (pull, *_) = (request for request in cf.requests() if request["path"].endswith("/pull"))
    assert pull["body"]["visibility_timeout_ms"] == 900_000


def test_redrive_fails_if_leases_ended_before_their_messages_were_sent(cf, run):
    send(cf, "a", queue="orders-failed")
    cf.add_fault("pull", delay_ms=50)
    code, out, _ = run("redrive", "orders-failed", "orders", "--visibility-timeout", "0.001", "--max", "1")
    assert (code, out.split(", ")[1]) == (1, "1 not sent before their leases ended")


def test_redrive_says_what_is_in_the_target_although_it_is_not_acked(cf, run):
    send(cf, *"abcde", queue="orders-failed")
    error = {"code": 10000, "message": "Authentication error"}
    cf.add_fault("ack", status=401, body={"success": False, "errors": [error]})
    code, out, err = run("redrive", "orders-failed", "orders", "--idle-timeout", "0")
    assert (code, in_queue(cf)) == (1, {"ready": 5})
    first, *ids = out.splitlines()
    assert first == (
        "Moved no messages of orders-failed to orders, "
        "5 sent to orders, but not acked here: a further redrive sends them again"
    )
    assert len(ids) == 5
    assert err.splitlines()[-1].startswith("error: Could not settle leases: Authentication error (")
    assert err.splitlines()[-1].endswith(AuthenticationError.remedy)


def test_ping_says_what_works(cf, run):
    code, out, _ = run("ping", "--json")
    checks = {check["check"]: check["ok"] for check in json.loads(out)}
    assert (code, set(checks.values())) == (0, {True})
    assert list(checks) == ["connection", "credentials, list", "metrics", "pull consumer", "pull, settle, send"]


def test_ping_warns_of_a_queue_whose_messages_are_deleted_and_does_not_fail(cf, run):
    code, out, _ = run("ping", "orders")
    (warning,) = [line for line in out.splitlines() if columns(line)[0] == "WARN"]
    assert code == 0
    assert "no dead-letter queue: messages are deleted after their last delivery (a dead-letter queue" in warning
    assert [check["check"] for check in json.loads(run("ping", "orders", "--json")[1]) if check["warning"]] == [
        "pull consumer"
    ]
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders"], dead_letter_queue="orders-failed")
    assert "WARN" not in run("ping", "orders")[1]


def test_ping_says_what_is_missing(cf, run):
    refused = {"success": False, "errors": [{"code": 10000, "message": "not allowed"}]}
    cf.add_fault(path="peek", status=403, body=refused)
    cf.add_fault(path="consumers", status=200, body={"success": True, "result": []})
    code, out, _ = run("ping", "orders")
    rows = [columns(line) for line in out.splitlines()[1:] if not line.startswith(" ")]
    assert code == 1
    assert [row[0] for row in rows] == ["yes", "yes", "yes", "NO", "NO"]
    assert "the command create orders" in out
    assert "Queues Write" in out


def test_ping_of_a_bad_token_stops_there_and_shows_no_token(cf, connect, run):
    connect(cf, password="wrong-token")
    code, out, err = run("ping")
    assert (code, len(out.splitlines()) > 2) == (1, True)
    assert [columns(line)[0] for line in out.splitlines()[1:3]] == ["yes", "NO"]
    assert "wrong-token" not in out + err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["peek", "ordres"], 1, "similar names: orders"),
        (["queues", "--conn-id", "nowhere"], 1, "export AIRFLOW_CONN_NOWHERE"),
        (["queues", "--conn-id", "broken"], 1, "AIRFLOW_CONN_BROKEN is set, but is neither a URI nor valid JSON"),
        (["send", "orders", "--file", "/does/not/exist"], 1, "/does/not/exist"),
        (["send", "orders", "x", "--delay", "-1"], 2, "error: --delay must be from 0 to 86400 seconds"),
        (["send", "orders", "x", "--delay", "999999"], 2, "not 999999\n"),
        (["create", "orders", "--visibility-timeout", "50000"], 2, "not 50000\n"),
        (["drain", "orders", "--idle-timeout", "-1.5"], 2, "not -1.5\n"),
        (["peek", "orders", "--max", "0"], 2, "error: --max must be"),
        (["drain", "orders", "--max", "0"], 2, "--max"),
        (["drain", "orders", "--idle-timeout", "-1"], 2, "--idle-timeout"),
        (["drain", "orders", "--visibility-timeout", "0"], 2, "error: --visibility-timeout must be"),
        (["redrive", "orders", "orders-failed", "--match", "x"], 2, "error: --match 'x' must begin"),
        (["redrive", "orders", "orders"], 2, "the same queue"),
        (["redrive", "orders-failed", "orders", "--rate", "0"], 2, "error: --rate must be above 0, not 0\n"),
        (["redrive", "orders-failed", "orders", "--rate", "inf"], 2, "error: --rate must be a finite number"),
    ],
)
def test_an_error_is_one_line_on_stderr(cf, run, monkeypatch, arguments, code, says):
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT")
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", '{"conn_type": "cloudflare"')
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    (line,) = [line for line in err.splitlines() if "GET /" not in line and "POST /" not in line]
    assert line.startswith("error: ")
    assert says in f"{line}\n"


def test_an_extra_that_is_not_installed_is_one_line_that_names_it(cf, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonpath_ng.ext", None)
    code, out, err = run("redrive", "orders-failed", "orders", "--match", "jsonpath:$.a")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: --match 'jsonpath:$.a' needs a library: pip install ")
    assert "Traceback" not in err


def test_the_definitions_load_nothing():
    code = (
        "import sys, typing\nbefore = set(sys.modules)\nimport airflow_provider_cfqueues.cli.definition\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        "__future__",
        "airflow_provider_cfqueues",
        "airflow_provider_cfqueues.cli",
        "airflow_provider_cfqueues.cli.definition",
        "airflow_provider_cfqueues.emulator",
        "airflow_provider_cfqueues.emulator.options",
    }


def test_help_loads_neither_airflow_nor_what_commands_need():
    code = (
        "import atexit, sys\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "from airflow_provider_cfqueues.__main__ import main\nmain(['drain', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--idle-timeout" in done.stdout
    loaded = {module.partition(".")[0] for module in done.stderr.split()}
    assert "argparse" in loaded
    assert loaded & {"airflow", "rich", "requests", "httpx", "tenacity"} == set()


def test_airflow_has_the_same_commands(cf, capfd):
    cli_parser = pytest.importorskip("airflow.cli.cli_parser")
    if "cfqueues" not in cli_parser.ALL_COMMANDS_DICT:
        from airflow import __version__

        assert tuple(map(int, __version__.split(".")[:2])) < (3, 2)
        pytest.skip("this Airflow takes no commands from providers")
    found = {command.name for command in cli_parser.ALL_COMMANDS_DICT["cfqueues"].subcommands}
    assert found == {command.name for command in COMMANDS}
    arguments = cli_parser.get_parser().parse_args(["cfqueues", "queues", "--json"])
    with pytest.raises(SystemExit) as ended:
        arguments.func(arguments)
    assert ended.value.code == 0
    assert [queue["queue"] for queue in json.loads(capfd.readouterr().out)] == ["orders", "orders-failed"]


def test_the_emulator_starts_with_any_of_its_options(tmp_path):
    options = {
        "--host": "localhost",
        "--port": "0",
        "--queue": "orders=abc",
        "--state": str(tmp_path / "state.db"),
        "--account-id": "a1",
        "--api-token": "-t",
        "--json-encoding": "plain",
    }
    words = [f"{flag}={value}" for flag, value in options.items()]
    command = [sys.executable, "-m", "airflow_provider_cfqueues", "emulator", *words, "--queue", "other=def"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            facts = json.loads(process.stdout.readline())
            base_url = facts.pop("base_url")
            state = requests.get(base_url.replace("/client/v4", "/_emulator/state"), timeout=10).json()
        finally:
            process.terminate()
    assert facts == {"account_id": "a1", "api_token": "-t", "queues": {"orders": "abc", "other": "def"}}
    assert base_url.startswith("http://localhost:")
    assert state["json_encoding"] == "plain"
    assert (tmp_path / "state.db").exists()


def test_the_page_shows_each_command_and_only_what_can_be_run():
    lines = re.findall(r"^\$ (?:airflow cfqueues|python -m airflow_provider_cfqueues) (.*)$", PAGE, re.MULTILINE)
    shown = {
        parser().parse_args(shlex.split(line.partition(" | ")[0].partition(" > ")[0])).command.name for line in lines
    }
    assert shown == {command.name for command in COMMANDS}


HERE = "http://127.0.0.1:9/client/v4"


@pytest.mark.parametrize(
    ("host", "arguments"),
    [
        (HERE, "ping"),
        (HERE, "redrive orders orders-failed"),
        ("https://localhost:9", "create orders"),
    ],
)
def test_if_nothing_listens_a_command_tries_again_once_and_ends(cf, connect, run, caplog, host, arguments):
    connect(cf, host=host)
    began = time.monotonic()
    code, out, err = run(*arguments.split())
    assert time.monotonic() - began < 4
    assert code == 1
    assert "Could not " in out + err
    assert caplog.text.count("Trying again in") == caplog.text.count("for up to 1 s") <= 1
