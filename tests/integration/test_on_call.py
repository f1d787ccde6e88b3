"""The logs that the page for people on call quotes are what tasks and hooks write."""

from __future__ import annotations

import ast
import re
import threading
import time
from pathlib import Path

import pytest

from airflow_provider_cfqueues.emulator import Emulator
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import (
    QueueAckOperator,
    QueuePauseOperator,
    QueueProcessOperator,
    QueuePullOperator,
)
from airflow_provider_cfqueues.outcomes import Reject

ROOT = Path(__file__).parents[2]
SECTIONS = (ROOT / "docs" / "on-call.md").read_text(encoding="utf-8").split("\n## ")[1:]


def pieces(text: str) -> list[str]:
    """Return what is always the same in a log that the page quotes: neither IDs nor numbers, nor what it leaves out."""
    text = re.sub(r"\b[0-9a-f]{4}…", "…", " ".join(text.split()))
    return [part for piece in re.split(r"…|[\d.:]*\d[\d.:]*", text) if len(part := piece.strip(" .()")) > 4]


def assert_quoted(number: int, written: str, names: tuple[str, ...] = ()) -> None:
    """Assert that all that a section quotes was written, but for names."""
    [quoted] = re.findall(r"```text\n(.*?)```", SECTIONS[number - 1], re.DOTALL)
    for name in names:
        quoted = quoted.replace(name, "…")
    assert SECTIONS[number - 1].startswith(f"{number}. ")
    written = " ".join(written.split())
    assert [piece for piece in pieces(quoted) if piece not in written] == []


def run(operator) -> str:
    """Run a task and return the text of what it raised."""
    with pytest.raises(CloudflareQueuesError) as raised:
        operator.execute({})
    return f"{type(raised.value).__name__}: {raised.value}"


def process(handler, **arguments) -> QueueProcessOperator:
    given = {"task_id": "ship", "queue_name": "my-queue", "idle_timeout": 0, "handler": handler, **arguments}
    return QueueProcessOperator(**given)


def fail(message):
    raise RuntimeError("503 Service Unavailable")


def test_a_message_that_is_about_to_be_deleted_is_named(cf, queue, logged):
    def reject(message):
        raise Reject("no customer")

    cf.send(queue, {"order": 1})
    for _ in range(3):
        run(process(reject, delay_seconds=0, visibility_timeout=20))
    assert_quoted(1, logged())


def test_a_message_that_may_be_deleted_is_named(cf, queue, logged):
    cf.send(queue, {"order": 1})
    for _ in range(3):
        run(process(fail, delay_seconds=0))
    assert_quoted(2, logged())


def test_a_task_with_too_many_failures_says_which_and_why(cf, queue):
    for order in range(20):
        cf.send(queue, {"order": order})
    error = run(process(lambda message: fail(message) if message.body["order"] % 2 else None, fail_on=0.1))
    assert_quoted(3, error)


def test_a_wrong_token_is_named(cf, connect):
    connect(cf, password="wr0ng")
    assert_quoted(4, run(process(fail)))


def test_a_block_of_all_requests_is_named(cf):
    error = {"code": 971, "message": "Please wait and consider throttling your request speed"}
    cf.add_fault("pull", status=429, headers={"retry-after": "300"}, body={"success": False, "errors": [error]})
    assert_quoted(5, run(process(fail)))


def test_a_quota_that_is_used_up_is_named(connect):
    with Emulator(queues=["my-queue"], daily_operations=1) as cf:
        connect(cf)
        cf.send(cf.queues["my-queue"], {"order": 1})
        assert_quoted(6, run(process(fail)))


def test_a_queue_that_cannot_be_pulled_is_named(cf, queue):
    CloudflareQueuesHook().create_queue("fresh")
    QueuePauseOperator(task_id="pause", queue_id=queue).execute({})
    errors = [run(process(fail)), run(QueuePullOperator(task_id="pull", queue_name="fresh", max_messages=1))]
    assert_quoted(7, "\n".join(errors))


def test_an_api_that_cannot_be_reached_is_named(cf, logged):
    cf.add_fault("pull", drop="before")
    process(fail).execute({})
    assert_quoted(8, logged())


def test_settlements_that_are_not_confirmed_are_named(cf, queue, logged):
    for order in range(5):
        cf.send(queue, {"order": order})
    pulled = QueuePullOperator(task_id="pull", queue_id=queue, max_messages=2, visibility_timeout=600).execute({})
    ack = QueueAckOperator(task_id="ack", queue_id=queue, lease_ids=pulled)
    ack.execute({})
    error = run(ack)
    answer = {"success": True, "result": {"ackCount": 0, "retryCount": 0, "warnings": {}}}
    cf.add_fault("ack", status=200, body=answer, times=9)
    run(process(lambda message: None))
    assert_quoted(9, f"{error}\n{logged()}", names=("orders",))


def test_what_a_watcher_says_is_in_its_source():
    texts = [
        node.value
        for path in (ROOT / "airflow_provider_cfqueues" / "engines" / "watching").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert_quoted(10, " ".join(texts), names=("Queue orders", "DAG ship_at_once"))


def test_a_task_that_runs_out_of_time_says_where_its_handlers_hang(cf, queue, logged):
    release = threading.Event()

    def ship(message):
        threading.Timer(0.1, operator.on_kill).start()
        release.wait(20)

    cf.send(queue, {"order": 1})
    operator = process(ship, grace=0.1)
    run(operator)
    release.set()
    assert_quoted(11, logged(), names=("messages\n", "orders.py"))


def test_a_green_run_with_failures_says_how_many_failed(cf, queue, logged):
    def ship(message):
        return message.body["price"] if message.body["n"] % 4 == 0 else None

    CloudflareQueuesHook().send(queue, [{"n": n} for n in range(60)])
    process(ship).execute({})
    assert_quoted(12, logged())


def test_a_wrong_name_of_a_dead_letter_queue_is_named(cf):
    cf.create_queue("orders-failed")
    assert_quoted(13, run(process(fail, dead_letter_queue="order-failed")))


def test_an_api_that_settles_nothing_is_named(cf, queue, logged):
    cf.send(queue, {"order": 1})
    cf.send(queue, {"order": 2})
    cf.add_fault("ack", status=503, headers={"retry-after": "3600"}, times=9)
    run(process(lambda message: None))
    assert_quoted(14, logged(), names=("orders",))


def test_leases_that_are_too_short_are_named(cf, queue, logged):
    for order in range(4):
        cf.send(queue, {"order": order})
    process(lambda message: time.sleep(1.05), visibility_timeout=1, concurrency=2, max_messages=4).execute({})
    assert_quoted(15, logged())
