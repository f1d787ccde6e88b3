"""The commands as a person or a script runs them: arguments in; stdout, stderr and exit code out."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_provider_cfqueues.__main__ import main, parser
from airflow_provider_cfqueues.cli.definition import COMMANDS
from airflow_provider_cfqueues.emulator import Emulator
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

PAGE = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text()


@pytest.fixture
def cf(connect):
    with Emulator(queues=["orders", "orders-failed"]) as emulator:
        connect(emulator)
        yield emulator


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """What a command changes in its process, which is a test's here."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    before = logging.getLogger("airflow").level
    yield
    logging.getLogger("airflow").setLevel(before)


@pytest.fixture
def run(capfd):
    """Run a command; return exit code, stdout and stderr."""

    def run(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capfd.readouterr()
        return ended.value.code, out, err

    return run


def in_queue(cf, name="orders"):
    """Return how many messages are in each state."""
    (queue,) = (queue for queue in cf.state()["queues"] if queue["name"] == name)
    states = [message["state"] for message in queue["messages"]]
    return {state: states.count(state) for state in set(states)}


def send(cf, *bodies, queue="orders"):
    CloudflareQueuesHook().send(cf.queues[queue], list(bodies))


def columns(line):
    return re.split(r"  +", line.strip())


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


def test_send_takes_text_and_json_from_arguments_stdin_and_files(cf, run, monkeypatch, tmp_path):
    code, out, _ = run("send", "orders", "hello", '{"n": 1}', "--delay", "0")
    assert (code, out) == (0, "Sent 2 messages to orders; its backlog is 2\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("from stdin\n\n[1, 2]\n"))
    assert json.loads(run("send", cf.queues["orders"], "--json")[1])["sent_count"] == 2
    (tmp_path / "lines").write_text('{"n": 2}\n')
    assert run("send", "orders", "--text", "--file", str(tmp_path / "lines"))[0] == 0
    bodies = [message.body for message in CloudflareQueuesHook().peek(cf.queues["orders"])]
    assert bodies == ["hello", {"n": 1}, "from stdin", [1, 2], '{"n": 2}']


def test_a_bad_line_stops_all_before_the_first_is_sent(cf, run):
    code, out, err = run("send", "orders", "good", "{bad")
    assert (code, out, in_queue(cf)) == (2, "", {})
    assert err.startswith("error: message 2 begins as JSON")


def test_what_was_drained_can_be_sent_again(cf, run, tmp_path):
    send(cf, {"n": 1}, "two", "Ünïcode")
    path = str(tmp_path / "orders.jsonl")
    code, out, _ = run("drain", "orders", "--output", path)
    assert (code, in_queue(cf)) == (0, {})
    assert out == f"Wrote 3 messages of orders to {path}, acked 3\n"
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert [line["body"] for line in lines] == [{"n": 1}, "two", "Ünïcode"]
    assert all("lease_id" not in line for line in lines)
    assert run("send", "orders-failed", "--drained", "--file", path)[0] == 0
    assert [m.body for m in CloudflareQueuesHook().peek(cf.queues["orders-failed"])] == [{"n": 1}, "two", "Ünïcode"]


def test_drain_appends_up_to_its_limit_and_tells_as_json(cf, run, tmp_path):
    send(cf, *["x"] * 5)
    path = tmp_path / "orders.jsonl"
    path.write_text("kept\n")
    code, out, _ = run("drain", "orders", "--max", "3", "--output", str(path), "--json")
    assert (code, in_queue(cf)) == (0, {"ready": 2})
    assert {key: json.loads(out)[key] for key in ("written", "acked")} == {"written": 3, "acked": 3}
    assert len(path.read_text().splitlines()) == 4


def test_drain_to_stdout_writes_nothing_else_there(cf, run):
    send(cf, "a", "b")
    _, out, err = run("drain", "orders")
    assert [json.loads(line)["body"] for line in out.splitlines()] == ["a", "b"]
    assert "Wrote 2 messages of orders to stdout, acked 2" in err


def test_a_full_disk_gives_the_batch_back(cf, run):
    send(cf, "a", "b")
    code, _, err = run("drain", "orders", "--output", "/dev/full")
    assert (code, in_queue(cf)) == (1, {"ready": 2})
    assert err.splitlines()[-1].startswith("error: [Errno 28]")


def test_what_is_written_and_not_acked_is_said_and_comes_again(cf, run, tmp_path):
    send(cf, "a", "b")
    cf.add_fault(path="ack", status=400, body={"success": False, "errors": [{"code": 10026, "message": "no"}]})
    code, out, err = run("drain", "orders", "--output", str(tmp_path / "f"), "--visibility-timeout", "60")
    assert code == 1
    assert "2 are written but not known to be acked: they may come again" in out
    assert err.splitlines()[-1].startswith("error: Could not settle leases: no")
    cf.advance(61)
    assert run("drain", "orders", "--output", str(tmp_path / "f"))[0] == 0
    assert len((tmp_path / "f").read_text().splitlines()) == 4


def test_ctrl_c_acks_what_is_written_and_gives_the_rest_back(cf, run, tmp_path):
    send(cf, *["x" * 2000] * 100)
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    lines = []

    def read():
        with open(fifo) as pipe:  # holds less than the messages: the writer is still at it when the signal comes
            lines.append(pipe.readline())
            os.kill(os.getpid(), signal.SIGINT)
            lines.extend(pipe)

    reader = threading.Thread(target=read)
    reader.start()
    code, _, err = run("drain", "orders", "--output", fifo, "--json")
    reader.join()
    assert code == 130
    assert "Stopping: settling what is under way" in err
    assert 0 < len(lines) < 100
    assert in_queue(cf) == {"ready": 100 - len(lines)}


def test_a_drain_killed_before_its_ack_has_the_message_in_the_file_and_again(cf, run, worker, until, tmp_path):
    send(cf, "precious")
    path = tmp_path / "orders.jsonl"
    cf.add_fault(path="ack", delay_ms=60_000, drop="before")
    arguments = ["drain", "orders", "--output", str(path), "--visibility-timeout", "600"]
    process = worker(f"from airflow_provider_cfqueues.__main__ import main; main({arguments!r})")
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    process.kill()
    process.wait()
    cf.advance(601)
    assert run(*arguments)[0] == 0
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert (first["id"], first["attempts"], second["attempts"]) == (second["id"], 1, 2)


def test_redrive_moves_messages_and_tells_how_many(cf, run):
    send(cf, {"kind": "a"}, {"kind": "b"}, {"kind": "a"}, queue="orders-failed")
    code, out, _ = run("redrive", "orders-failed", "orders", "--max", "2")
    assert (code, out) == (0, "Moved 2 messages of orders-failed to orders\n")
    code, out, _ = run("redrive", "orders-failed", "orders", "--json")
    assert (code, json.loads(out)["moved"], in_queue(cf)) == (0, 1, {"ready": 3})


def test_redrive_tells_of_each_message_that_it_cannot_move(cf, run):
    v8 = {"id": "i", "lease_id": "l", "body": "/w8=", "metadata": {"CF-Content-Type": "v8"}}
    cf.add_fault(path="pull", status=200, body={"success": True, "result": {"messages": [v8]}})
    code, out, _ = run("redrive", "orders-failed", "orders")
    assert code == 1
    assert "1 cannot be moved" in out
    assert out.splitlines()[1].startswith("  i: it could not be decoded")


def test_redrive_to_a_target_that_is_not_there_costs_no_delivery(cf, run):
    send(cf, "a", queue="orders-failed")
    code, _, err = run("redrive", "orders-failed", "f" * 32)
    assert (code, "Queue does not exist" in err) == (1, True)
    assert CloudflareQueuesHook().peek(cf.queues["orders-failed"])[0].attempts == 0


def test_redrive_tells_of_each_end_of_a_message(cf, run):
    send(cf, "a", "b", queue="orders-failed")
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders-failed"], max_retries=1)
    arguments = ["redrive", "orders-failed", "orders", "--match", "literal:a", "--visibility-timeout", "900"]
    code, out, _ = run(*arguments)
    assert (code, out) == (
        0, "Moved 1 messages of orders-failed to orders, 1 did not match, 1 sent anew to the same queue\n"
    )  # fmt: skip
    (pull, *_) = (request for request in cf.requests() if request["path"].endswith("/pull"))
    assert pull["body"]["visibility_timeout_ms"] == 900_000


def test_ping_says_what_works(cf, run):
    code, out, _ = run("ping", "--json")
    checks = {check["check"]: check["ok"] for check in json.loads(out)}
    assert (code, set(checks.values())) == (0, {True})
    assert list(checks) == ["connection", "credentials, list", "metrics", "pull consumer", "pull, settle, send"]


def test_ping_says_what_is_missing(cf, run):
    refused = {"success": False, "errors": [{"code": 10000, "message": "not allowed"}]}
    cf.add_fault(path="peek", status=403, body=refused)
    cf.add_fault(path="consumers", status=200, body={"success": True, "result": []})
    code, out, _ = run("ping", "orders")
    rows = [columns(line) for line in out.splitlines()[1:] if not line.startswith(" ")]
    assert code == 1
    assert [row[0] for row in rows] == ["yes", "yes", "yes", "NO", "NO"]
    assert "npx wrangler queues consumer http add orders" in out
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
        (["send", "orders", "--file", "/does/not/exist"], 1, "/does/not/exist"),
        (["send", "orders", "x", "--delay", "-1"], 2, "from 0 to 86400 seconds"),
        (["peek", "orders", "--max", "0"], 2, "max_messages"),
        (["drain", "orders", "--max", "0"], 2, "--max"),
        (["redrive", "orders", "orders"], 2, "the same queue"),
    ],
)
def test_an_error_is_one_line_on_stderr(cf, run, monkeypatch, arguments, code, says):
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT")
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    (line,) = [line for line in err.splitlines() if "GET /" not in line and "POST /" not in line]
    assert line.startswith("error: ")
    assert says in line


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
    }


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


def test_the_emulator_starts(tmp_path):
    command = [sys.executable, "-m", "airflow_provider_cfqueues", "emulator", "--port", "0", "--queue", "orders=abc"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert json.loads(process.stdout.readline())["queues"] == {"orders": "abc"}
        finally:
            process.terminate()


def test_the_page_shows_each_command_and_only_what_can_be_run():
    lines = re.findall(r"^\$ (?:airflow cfqueues|python -m airflow_provider_cfqueues) (.*)$", PAGE, re.MULTILINE)
    shown = {
        parser().parse_args(shlex.split(line.partition(" | ")[0].partition(" > ")[0])).command.name for line in lines
    }
    assert shown == {command.name for command in COMMANDS}
