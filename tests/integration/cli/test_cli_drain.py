"""A queue into a file: whatever fails, nothing is acked that is not in it, and nobody is left in the dark."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import stat
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from command_line import in_queue, messages, send

from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

EMPTY = {"success": True, "result": {"messages": []}}
UNAUTHORIZED = {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}


@contextmanager
def room_for(size):
    """Let no file grow larger, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes_none = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # Python would keep what it could write of a module, for all later tests
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = writes_none


def send_many(cf, count, body="x"):
    for start in range(0, count, 100):
        send(cf, *[body] * min(100, count - start))


def lines_of(path):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def test_drain_writes_messages_without_leases_and_acks_them(cf, drain, tmp_path):
    send(cf, {"n": 1}, "two", "Ünïcode")
    path = tmp_path / "orders.jsonl"
    code, out, _ = drain(path)
    assert (code, in_queue(cf)) == (0, {})
    assert out == f"Wrote 3 messages of orders to {path}, acked 3\n"
    assert [line["body"] for line in lines_of(path)] == [{"n": 1}, "two", "Ünïcode"]
    assert all("lease_id" not in line for line in lines_of(path))
    assert "Ünïcode" in path.read_text()


def test_drain_appends_up_to_its_limit_and_tells_as_json(cf, drain, tmp_path):
    send(cf, *["x"] * 5)
    path = tmp_path / "orders.jsonl"
    path.write_text('{"id": "kept"}\n')
    code, out, _ = drain(path, "--max", "3", "--json")
    assert (code, in_queue(cf)) == (0, {"ready": 2})
    assert {key: json.loads(out)[key] for key in ("written", "acked")} == {"written": 3, "acked": 3}
    assert len(path.read_text().splitlines()) == 4


def test_drain_to_stdout_writes_nothing_else_there(cf, drain):
    send(cf, "a", "b")
    _, out, err = drain("-")
    assert [json.loads(line)["body"] for line in out.splitlines()] == ["a", "b"]
    assert "Wrote 2 messages of orders to stdout, acked 2" in err


def test_an_empty_answer_is_not_taken_for_an_empty_queue(cf, run, tmp_path):
    send(cf, "a", "b")
    cf.add_fault(path="pull", status=200, body=EMPTY)
    assert run("drain", "orders", "--output", str(tmp_path / "f"), "--idle-timeout", "0.2")[0] == 0
    assert in_queue(cf) == {}


def test_drain_tells_what_the_queue_still_holds(cf, drain, tmp_path):
    send(cf, "a", "b")
    CloudflareQueuesHook().pull(cf.queues["orders"], max_messages=1)
    code, out, err = drain(tmp_path / "f")
    assert (code, out) == (0, f"Wrote 1 message of orders to {tmp_path / 'f'}, acked 1, its backlog is 1\n")
    assert "could not be written" not in err


def test_drain_that_ends_early_tells_what_the_queue_still_holds(cf, drain, tmp_path):
    send_many(cf, 300)
    _, out, _ = drain(tmp_path / "f", "--max", "120")
    assert out.endswith(", acked 120, its backlog is 180\n")


def test_half_a_line_of_a_killed_run_is_cut_before_the_next_is_written(cf, drain, tmp_path):
    send(cf, "a", "b")
    path = tmp_path / "orders.jsonl"
    assert drain(path, "--max", "1")[0] == 0
    whole = path.read_text()
    path.write_text(whole + whole[:-20])
    code, _, err = drain(path)
    assert code == 0
    assert [line["body"] for line in lines_of(path)] == ["a", "b"]
    assert f"{path} ended in half a line ({len(whole) - 20} bytes)" in err
    assert "was not acked" in err


def test_a_whole_line_whose_line_end_is_missing_is_kept(cf, drain, tmp_path):
    send(cf, "b")
    path = tmp_path / "orders.jsonl"
    path.write_text('{"id": "i", "body": "a"}')
    code, _, err = drain(path)
    assert (code, [line["body"] for line in lines_of(path)]) == (0, ["a", "b"])
    assert "did not end with a line end: added one" in err


@pytest.mark.parametrize(
    "theirs",
    ["dear diary", "dear diary\n", '{"a": 1}', '{"id": ' + "x" * 2_000_001],
    ids=["text", "line", "object", "long"],
)
def test_a_file_of_something_else_is_left_alone_and_nothing_leased(cf, drain, tmp_path, theirs):
    send(cf, "a")
    (tmp_path / "diary").write_text(theirs)
    code, out, err = drain(tmp_path / "diary")
    assert (code, out, (tmp_path / "diary").read_text() == theirs) == (2, "", True)
    assert "drain did not write its last line" in err
    assert [message["attempts"] for message in messages(cf)] == [0]


def test_two_drains_do_not_write_to_one_file(cf, drain, tmp_path):
    send(cf, "a")
    with (tmp_path / "f").open("w") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        code, _, err = drain(tmp_path / "f")
    assert (code, [message["attempts"] for message in messages(cf)]) == (1, [0])
    assert "Another drain writes to this file" in err


@pytest.mark.parametrize("path", ["/dev/full", "/does/not/exist", "/"])
def test_a_file_that_takes_nothing_costs_no_delivery(cf, drain, path):
    send(cf, "a", "b")
    for _ in range(4):
        code, _, err = drain(path)
    assert code == 1
    assert f"'{path}'" in err.splitlines()[-1]
    assert [message["attempts"] for message in messages(cf)] == [0, 0]


def test_a_disk_without_room_costs_no_delivery(cf, drain, monkeypatch, tmp_path):
    send(cf, "a")
    disk = [*os.statvfs(tmp_path)]
    for free in (3, 4):  # f_bfree, f_bavail
        disk[free] = 0
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: os.statvfs_result(disk))
    code, _, err = drain(tmp_path / "f")
    assert (code, [message["attempts"] for message in messages(cf)]) == (1, [0])
    assert err.splitlines()[-1] == f"error: [Errno 28] No space left on device: '{tmp_path / 'f'}'"


def test_a_disk_that_fills_up_keeps_whole_lines_and_gives_the_rest_back(cf, drain, tmp_path):
    send(cf, *["x" * 9_000 for _ in range(20)])
    path = tmp_path / "orders.jsonl"
    with room_for(100_000):
        code, out, err = drain(path)
    assert code == 1
    assert len(lines_of(path)) == 10
    assert out == (
        f"Wrote 10 messages of orders to {path}, acked 10, gave 10 back, which used up one delivery of each\n"
    )
    assert err.splitlines()[-1] == f"error: [Errno 27] File too large: '{path}'"
    assert in_queue(cf) == {"ready": 10}
    assert drain(path)[0] == 0
    assert len({line["id"] for line in lines_of(path)}) == len(lines_of(path)) == 20


def test_what_cannot_be_written_at_its_last_delivery_is_sent_to_its_queue_again(cf, drain, tmp_path):
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders"], consumer_max_retries=1)
    send(cf, *["x" * 9_000 for _ in range(3)])
    with room_for(10_000):
        code, out, err = drain(tmp_path / "f")
    assert (code, in_queue(cf)) == (1, {"ready": 2})
    assert "acked 1, sent 2 to their queue again, because that may have been their last delivery" in out
    assert "2 messages (such as" in err
    assert drain(tmp_path / "f")[0] == 0
    assert len(lines_of(tmp_path / "f")) == 3


def test_a_file_that_is_deleted_meanwhile_ends_it_before_more_is_acked(cf, drain, monkeypatch, tmp_path):
    for _ in range(3):
        send(cf, *["x"] * 100)
    path, fsync, synced = tmp_path / "f", os.fsync, []

    def delete_after_the_first_batch(descriptor):
        synced.append(os.fstat(descriptor).st_size)
        if synced.count(0) < len(synced) - 1:
            path.unlink(missing_ok=True)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", delete_after_the_first_batch)
    code, out, err = drain(path)
    assert code == 1
    assert "gave 100 back" in out
    assert err.splitlines()[-1] == (
        "error: [Errno 2] The file was deleted while drain wrote to it, so its lines are lost. Messages that are not "
        f"acked are given back. Run drain again: '{path}'"
    )
    assert in_queue(cf)["ready"] >= 200


def test_leases_that_could_not_be_given_back_are_named_beside_what_went_wrong(cf, drain, tmp_path):
    send(cf, *["x" * 9_000 for _ in range(3)])
    cf.add_fault(path="ack", status=401, body=UNAUTHORIZED, times=2)
    path = tmp_path / "orders.jsonl"
    with room_for(10_000):
        code, out, err = drain(path, "--visibility-timeout", "60")
    ids = [message["id"] for message in messages(cf)]
    assert code == 1
    assert "Not confirmed: 3 leases" in out
    assert "within 60 s, which uses up one delivery of each" in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == ids
    assert f"error: [Errno 27] File too large: '{path}'. Then a request failed, too: Could not settle leases" in err
    assert "Authentication error" in err
    cf.advance(61)
    cf.add_fault(path="ack", status=401, body=UNAUTHORIZED)
    code, out, err = drain(path, "--max", "2", "--json")
    assert (code, json.loads(out)["unconfirmed"]) == (1, 2)
    assert [item["message_id"] for item in json.loads(out)["not_confirmed"]] == ids[:2]
    assert err.splitlines()[-1].startswith("error: Could not settle leases: Authentication error")


def test_a_reader_that_goes_away_gets_the_rest_given_back(cf, drain, unread):
    send(cf, "a", "b")
    with unread():
        code, _, err = drain("-", "--json")
    assert (code, in_queue(cf)) == (141, {"ready": 2})
    assert "The reader of stdout has ended, and may not have read all lines" in err
    assert json.loads(err[err.index("{\n") :])["given_back"] == 2


def test_a_new_file_is_safe_in_its_directory_before_the_first_message_is_leased(cf, drain, monkeypatch, tmp_path):
    send(cf, "a")
    synced, fsync = [], os.fsync

    def note(descriptor):
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_directory, [message["attempts"] for message in messages(cf)]))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    assert drain(tmp_path / "f")[0] == 0
    assert (True, [0]) in synced
    assert (False, [1]) in synced


def test_what_is_written_and_not_acked_is_said_and_comes_again(cf, drain, tmp_path):
    send(cf, "a", "b")
    cf.add_fault(path="ack", status=400, body={"success": False, "errors": [{"code": 10026, "message": "no"}]})
    code, out, err = drain(tmp_path / "f", "--visibility-timeout", "60")
    assert code == 1
    assert "Wrote 2 messages" in out
    assert "Not confirmed: 2 leases" in out
    assert err.splitlines()[-1].startswith("error: Could not settle leases: no")
    cf.advance(61)
    assert drain(tmp_path / "f")[0] == 0
    assert len(lines_of(tmp_path / "f")) == 4


def test_batches_are_pulled_and_written_while_others_are_acked(cf, drain, until, tmp_path):
    send_many(cf, 1_000)
    cf.add_fault(path="ack", delay_ms=1_500, times=100)
    path, acked = tmp_path / "f", []

    def watch():
        until(lambda: path.exists() and len(lines_of(path)) >= 300)
        acked.append(1_000 - sum(in_queue(cf).values()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code, *_ = drain(path)
    watcher.join()
    assert (code, acked, in_queue(cf)) == (0, [0], {})
    assert len({line["id"] for line in lines_of(path)}) == len(lines_of(path)) == 1_000


def test_batches_that_overlap_pull_no_more_than_the_limit(cf, drain, tmp_path):
    send_many(cf, 600)
    assert drain(tmp_path / "f", "--max", "350")[0] == 0
    assert in_queue(cf) == {"ready": 250}
    assert len(lines_of(tmp_path / "f")) == 350


@pytest.mark.parametrize(
    ("count", "body", "seconds", "most"),
    [(800, "x" * 60_000, 0, 500), (700, "x", 0.2, 200), (3_000, "x", 0, 2_000)],
    ids=["large messages", "a slow disk", "small messages"],
)
def test_no_more_is_leased_than_memory_holds_and_the_disk_takes_in_time(
    cf, drain, monkeypatch, tmp_path, count, body, seconds, most
):
    send_many(cf, count, body)
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (time.sleep(seconds), fsync(descriptor)))
    cf.add_fault(path="ack", delay_ms=200, times=1_000)
    leases = "1" if seconds else "300"
    assert drain(tmp_path / "f", "--visibility-timeout", leases, "--max", str(count))[0] == 0
    leased = highest = 0
    for request in cf.requests():
        if request["path"].endswith("/pull"):
            leased += 100
        if request["path"].endswith("/ack"):
            leased -= len(request["body"]["acks"])
        highest = max(highest, leased)
    assert most / 2 < highest <= most


def test_a_disk_that_fills_up_while_batches_overlap_has_all_that_is_acked(cf, drain, tmp_path):
    send_many(cf, 1_500, "x" * 1_000)
    cf.add_fault(path="ack", delay_ms=100, times=100)
    path = tmp_path / "f"
    with room_for(1_000_000):
        code, _, err = drain(path, "--json")
    assert code == 1
    assert err.splitlines()[-1] == f"error: [Errno 27] File too large: '{path}'"
    assert drain(path)[0] == 0
    assert len({line["id"] for line in lines_of(path)}) == len(lines_of(path)) == 1_500


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "Ctrl-C"])
def test_whenever_a_drain_ends_each_message_is_in_the_file_or_in_the_queue(cf, drain, worker, until, tmp_path, how):
    count = 4_000  # more than it may have pulled or asked for when the signal comes
    send_many(cf, count)
    cf.add_fault(path="ack", delay_ms=50, times=1_000)
    cf.add_fault(path="pull", delay_ms=50, times=12)
    cf.add_fault(path="pull", delay_ms=1_000, times=18)
    path = tmp_path / "f"
    arguments = ["drain", "orders", "--output", str(path), "--visibility-timeout", "600"]
    process = worker(f"from airflow_provider_cfqueues.__main__ import main; main({arguments!r})")
    until(lambda: path.exists() and len(lines_of(path)) >= 700)
    process.send_signal(how)
    process.wait()
    (queue,) = (queue for queue in cf.state()["queues"] if queue["name"] == "orders")
    assert 0 < queue["totals"]["acked"] < count
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert queue["totals"]["acked"] == queue["totals"]["delivered"] == len(lines_of(path))
    while in_queue(cf):
        cf.advance(601)
        assert drain(path)[0] == 0
    assert len({line["id"] for line in lines_of(path)}) == count


def test_ctrl_c_writes_and_acks_what_is_leased_and_pulls_nothing_more(cf, drain, until, tmp_path):
    for _ in range(2):
        send(cf, *["x" * 2000] * 100)
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    lines = []

    def read():
        with open(fifo) as pipe:  # holds less than the messages: the writer is still at it when the signal comes
            lines.append(pipe.readline())
            handler = signal.getsignal(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            until(lambda: signal.getsignal(signal.SIGINT) is not handler)  # the main thread has seen it
            lines.extend(pipe)

    reader = threading.Thread(target=read)
    reader.start()
    code, _, err = drain(fifo, "--json")
    reader.join()
    assert code == 130
    assert "Stopping: settling what is under way" in err
    assert len(lines) == 100  # giving a message back costs a delivery
    assert in_queue(cf) == {"ready": 100}


def test_a_drain_killed_before_its_ack_has_the_message_in_the_file_and_again(cf, drain, worker, until, tmp_path):
    send(cf, "precious")
    path = tmp_path / "orders.jsonl"
    cf.add_fault(path="ack", delay_ms=60_000, drop="before")
    arguments = ["drain", "orders", "--output", str(path), "--visibility-timeout", "600"]
    process = worker(f"from airflow_provider_cfqueues.__main__ import main; main({arguments!r})")
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    process.kill()
    process.wait()
    cf.advance(601)
    assert drain(path)[0] == 0
    first, second = lines_of(path)
    assert (first["id"], first["attempts"], second["attempts"]) == (second["id"], 1, 2)


def test_what_the_disk_did_not_take_for_good_is_given_back_not_acked(cf, drain, monkeypatch, tmp_path):
    send(cf, "a", "b")
    path, fsync = tmp_path / "f", os.fsync

    def fail_once_there_is_something(descriptor):
        if os.fstat(descriptor).st_size and path.exists() and path.stat().st_size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once_there_is_something)
    code, _, err = drain(path)
    assert code == 1
    assert "Input/output error" in err
    assert in_queue(cf)["ready"] == 2
