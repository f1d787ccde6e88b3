"""The crash points of processing inside one task, docs/delivery-guarantees.md: a process is killed at each."""

from __future__ import annotations

import signal

import pytest

from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
from airflow_provider_cfqueues.outcomes import Reject

QUEUES = ["orders", "failed"]

PROCESS = """
import signal, sys, threading
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
from airflow_provider_cfqueues.outcomes import Reject

def say(word):
    print(word, file=sys.stderr, flush=True)

def handle(message):
    if message.body == "blocks":
        say("here")
        sys.stdin.read()
    if message.body == "hangs":
        say("here")
        threading.Event().wait()
    if message.body == "poison":
        raise Reject("poison")
    say("handled " + message.body)

operator = QueueProcessOperator(
    task_id="process", queue_name="orders", handler=handle, dead_letter_queue="failed", visibility_timeout=600,
    expected_seconds_per_message=1,  # so that all messages are pulled at once
    **{arguments!r},
)
{before}
operator.execute({{}})
"""
# What Airflow 3 does on SIGTERM, and what Airflow 2 does.
ON_KILL = "signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())"
RAISES = """
class Terminated(BaseException): pass
def stop(*_): raise Terminated
signal.signal(signal.SIGTERM, stop)
"""


@pytest.fixture
def start(worker):
    """Start a process that processes the queue."""
    return lambda before="", **arguments: worker(PROCESS.format(arguments=arguments, before=before))


def kill(process):
    process.kill()
    process.wait()


def log_up_to(process, word):
    seen = []
    for line in process.stderr:
        seen.append(line.strip())
        if seen[-1] == word:
            return seen
    raise AssertionError(seen)


def rest_of_log(process):
    """Return what follows. ``communicate`` would leave out what reading by lines has read ahead."""
    rest = process.stderr.read()
    process.wait(timeout=30)
    return rest


def queue(cf, name="orders"):
    return next(queue for queue in cf.state()["queues"] if queue["name"] == name)


def acks(cf):
    return [request for request in cf.requests() if request["path"].endswith("/ack")]


def is_under_way(cf, path):
    """Whether the call that a fault waits for has come in."""
    return lambda: path not in [fault["path"] for fault in cf.state()["faults"]]


def deliver_again(cf):
    """Return body and attempts of what comes once the leases have ended."""
    cf.advance(601)
    again = CloudflareQueuesHook().pull(cf.queues["orders"], max_messages=10)
    return sorted((message.body, message.attempts) for message in again)


def test_a_worker_killed_before_a_message_had_its_turn_loses_nothing(cf, send, start):
    send("blocks", "waits")
    process = start()
    assert "handled waits" not in log_up_to(process, "here")
    kill(process)
    assert queue(cf)["states"]["leased"] == 2
    assert deliver_again(cf) == [("blocks", 2), ("waits", 2)]


def test_a_worker_killed_while_it_handles_loses_nothing(cf, send, start):
    send("blocks")
    process = start()
    log_up_to(process, "here")
    kill(process)
    assert acks(cf) == []
    assert deliver_again(cf) == [("blocks", 2)]


def test_a_worker_killed_before_its_ack_is_sent_has_its_message_handled_again(cf, send, start):
    send("done", "blocks")
    process = start(settle_interval=600)
    assert "handled done" in log_up_to(process, "here")
    kill(process)
    assert acks(cf) == []
    assert deliver_again(cf) == [("blocks", 2), ("done", 2)]


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_worker_killed_with_an_ack_under_way_has_it_carried_out_or_again(cf, send, start, carried_out, until):
    send("done")
    cf.add_fault("ack", delay_ms=500, **({} if carried_out else {"drop": "before"}))
    process = start(settle_interval=0)
    until(is_under_way(cf, "ack"))
    kill(process)
    until(lambda: acks(cf))
    assert deliver_again(cf) == ([] if carried_out else [("done", 2)])


@pytest.mark.parametrize("path", ["batch", "ack"])
def test_a_worker_killed_while_it_rejects_leaves_a_copy_and_copies_again(cf, send, start, path, until):
    send("poison")
    cf.add_fault(path, delay_ms=500, **({"drop": "before"} if path == "ack" else {}))
    process = start(settle_interval=0)
    until(is_under_way(cf, path))
    kill(process)
    until(lambda: queue(cf, "failed")["backlog_count"] == 1 and queue(cf)["totals"]["acked"] == 0)
    cf.advance(601)

    def reject(message):
        raise Reject("poison")

    arguments = {"dead_letter_queue": "failed", "idle_timeout": 0, "fail_on": "none"}
    operator = QueueProcessOperator(task_id="process", queue_name="orders", handler=reject, **arguments)
    assert operator.execute({})["rejected"] == 1
    assert queue(cf)["backlog_count"] == 0
    copies = [message["body"] for message in queue(cf, "failed")["messages"]]
    assert [copy["attempts"] for copy in copies] == [1, 2]
    assert len({copy["id"] for copy in copies}) == 1


@pytest.mark.parametrize("before", [ON_KILL, RAISES], ids=["on_kill", "raises"])
def test_a_worker_told_to_end_acks_what_is_done_and_gives_the_rest_back(cf, send, start, before, until):
    send("done", "blocks", "waits")
    process = start(before, settle_interval=600, grace=0.1)
    log_up_to(process, "here")
    process.send_signal(signal.SIGTERM)
    until(lambda: queue(cf)["states"]["leased"] == 0)
    assert queue(cf)["totals"]["acked"] == 1
    left = {(message["body"], message["state"], message["attempts"]) for message in queue(cf)["messages"]}
    assert left == {("blocks", "ready", 1), ("waits", "ready", 1)}


def test_a_handler_that_never_returns_does_not_keep_a_worker_that_was_told_to_end(cf, send, start):
    send("hangs")
    process = start(ON_KILL, grace=0.1)
    log_up_to(process, "here")
    process.send_signal(signal.SIGTERM)
    error = rest_of_log(process)
    assert process.returncode == 1
    assert "The task was killed" in error
    assert queue(cf)["states"]["ready"] == 1


def test_a_run_whose_acks_fail_for_good_has_its_messages_handled_again(cf, send, start):
    send("done")
    cf.add_fault("ack", status=403, body={"success": False, "errors": []})
    process = start(settle_interval=0, idle_timeout=0)
    log_up_to(process, "handled done")
    error = rest_of_log(process)
    assert process.returncode == 1
    assert "1 is not confirmed" in error
    assert deliver_again(cf) == [("done", 2)]
