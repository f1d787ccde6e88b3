"""What a person reads at night: the argument that is wrong, what to do, and numbers that agree."""

from __future__ import annotations

import asyncio
import re
import traceback

import pytest

from airflow_provider_cfqueues.cli.running import ONE_QUICK_REPEAT
from airflow_provider_cfqueues.client.queue_calls import list_queues
from airflow_provider_cfqueues.client.repeating import RepeatPolicy, Told, Tries
from airflow_provider_cfqueues.client.settings import parse_settings
from airflow_provider_cfqueues.exceptions import AlreadyExistsError, NotFoundError, ServerError, TransportError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import (
    QueueAckOperator,
    QueueProcessOperator,
    QueuePullOperator,
    QueueRedriveOperator,
    QueueSendOperator,
)


def test_the_worker_queue_of_airflow_is_not_taken_for_ours():
    with pytest.raises(ValueError, match="'orders' is Airflow's worker queue"):
        QueuePullOperator(task_id="pull", queue="orders")
    assert QueuePullOperator(task_id="pull", queue="big-workers", queue_name="orders").queue == "big-workers"


def test_a_template_that_rendered_to_none_is_named_as_such(cf):
    with pytest.raises(ValueError, match="queue_name is 'None': a template rendered to None"):
        QueuePullOperator(task_id="pull", queue_name="None").execute({})


def test_an_ack_of_none_warns_and_of_an_empty_list_does_not(cf, logged):
    QueueAckOperator(task_id="ack", queue_name="my-queue", lease_ids=[]).execute({})
    assert "nothing to settle" in logged()
    assert "lease_ids is None" not in logged()
    QueueAckOperator(task_id="ack", queue_name="my-queue", lease_ids=None).execute({})
    assert "lease_ids is None: nothing is settled" in logged()


def process(**arguments):
    return QueueProcessOperator(
        **{
            "task_id": "p",
            "queue_name": "my-queue",
            "handler": lambda message: None,
            "idle_timeout": 0,
            **arguments,
        }
    )


def test_a_dead_letter_queue_that_does_not_exist_is_the_argument_that_is_named(cf):
    cf.create_queue("orders-failed")
    with pytest.raises(NotFoundError, match=r"similar names: orders-failed.*Check dead_letter_queue, and"):
        process(dead_letter_queue="orders-failde").execute({})


def test_a_queue_is_not_its_own_dead_letter_queue(cf):
    with pytest.raises(ValueError, match="dead_letter_queue is 'my-queue', the queue itself"):
        process(dead_letter_queue="my-queue").execute({})


def test_the_consumers_own_dead_letter_queue_that_was_deleted_is_named_as_such(cf):
    failed = cf.create_queue("orders-failed")
    cf.create_queue("orders", dead_letter_queue="orders-failed")
    CloudflareQueuesHook().delete_queue(failed)
    operator = QueueProcessOperator(task_id="p", queue_name="orders", handler=print, idle_timeout=0)
    with pytest.raises(NotFoundError, match="Check the dead-letter queue of the queue's consumer"):
        operator.execute({})


def test_a_target_that_does_not_exist_is_the_argument_that_is_named(cf):
    with pytest.raises(NotFoundError, match="Check target_queue_name"):
        QueueRedriveOperator(task_id="r", queue_name="my-queue", target_queue_name="none").execute({})


@pytest.mark.parametrize(
    ("operator", "arguments", "remedy"),
    [
        (QueuePullOperator, {"queue_id": "f" * 32}, "Check queue_id, and the account ID of the connection."),
        (QueuePullOperator, {"queue_id": "orders"}, "Did you mean queue_name='orders'?"),
        (QueueSendOperator, {"queue_id": "f" * 32, "messages": ["a"]}, "Check queue_id, and"),
        (QueueProcessOperator, {"queue_id": "orders", "handler": print}, "Did you mean queue_name='orders'?"),
        (QueueRedriveOperator, {"queue_name": "my-queue", "target_queue_id": "f" * 32}, "Check target_queue_id, and"),
        (
            QueueRedriveOperator,
            {"queue_name": "my-queue", "target_queue_id": "orders"},
            "Check target_queue_id: a queue's ID has 32 hexadecimal digits. Did you mean target_queue_name='orders'?",
        ),
    ],
)
def test_a_queue_whose_id_does_not_exist_names_the_argument_that_holds_it(cf, logged, operator, arguments, remedy):
    with pytest.raises(NotFoundError) as caught:
        operator(task_id="t", **arguments).execute({})
    assert remedy in str(caught.value)
    assert "could not be read" not in logged()


def test_a_host_that_is_not_the_apis_base_url_is_what_to_check_first(cf, connect):
    connect(cf, host=cf.base_url.removesuffix("/client/v4"))
    with pytest.raises(NotFoundError, match=r"\)\. Check 'host' of the connection: it should end in /client/v4"):
        QueuePullOperator(task_id="t", queue_id="f" * 32).execute({})


def test_creating_a_queue_that_exists_says_how_to_go_on(cf):
    with pytest.raises(AlreadyExistsError, match=r"Use what is there \(get_queue_id, ensure_pull_consumer"):
        CloudflareQueuesHook().create_queue("my-queue")


def test_the_table_of_a_run_without_messages_has_no_shortest_lease_and_no_rate_of_waiting(cf, logged):
    report = process().execute({})
    assert report["rate"] == 0
    assert "shortest lease" not in logged()
    CloudflareQueuesHook().send(cf.queues["my-queue"], ["a"])
    process().execute({})
    assert re.search("least time left on a lease +100% of 300 s", logged())


def test_an_api_that_settles_nothing_is_named_by_its_status_and_the_error_says_when_to_run_again(cf, logged):
    CloudflareQueuesHook().send(cf.queues["my-queue"], [{"n": n} for n in range(60)])
    cf.add_fault("ack", status=503, headers={"retry-after": "3600"}, delay_ms=1000, times=9)
    with pytest.raises(ServerError, match="Could not settle leases: HTTP 503, and the answer was empty") as caught:
        process(settle_interval=0).execute({})
    assert re.search(
        r"not confirmed is leased until [\d:]{8} UTC: a run before then does not pull it", str(caught.value)
    )
    assert re.search(r"handled +\d+ in 0\.\d s", logged())  # without the wait for the API


@pytest.mark.usefixtures("jumping_time")
def test_the_time_that_is_left_is_not_told_while_the_api_confirms_nothing(cf, logged):
    CloudflareQueuesHook().send(cf.queues["my-queue"], [{"n": n} for n in range(60)])
    cf.add_fault("ack", status=503, times=9)
    process().execute({})
    first, second = [line for line in logged().splitlines() if "Handled 60 messages" in line][:2]
    assert re.search(r"Handled 60 messages \([\d,]+/s\), .*; 60 are not confirmed yet; backlog: 60( |$)", first)
    assert re.search(r"Handled 60 messages, none failed; 60 are not confirmed yet; backlog: 60( |$)", second)
    assert " s left" not in logged()


@pytest.mark.usefixtures("jumping_time")
def test_the_rate_leaves_out_the_time_before_the_first_message_and_in_between(cf, logged):
    CloudflareQueuesHook().send(cf.queues["my-queue"], [{"n": n} for n in range(100)])
    cf.add_fault("pull", status=200, body={"success": True, "result": {"messages": []}}, times=4)
    report = process(idle_timeout=60, settle_interval=0).execute({})
    assert (report["handled"], 60 < report["seconds"] < 600, report["rate"] > 50) == (100, True, True)
    assert re.search(r"handled +100 in [01]\.\d s", logged())
    assert "Handled no messages; backlog: unknown" in logged()


@pytest.mark.usefixtures("jumping_time")
def test_the_rate_of_a_redrive_leaves_out_idle_time(cf):
    cf.create_queue("failed")
    CloudflareQueuesHook().send(cf.queues["my-queue"], [{"n": n} for n in range(100)])
    cf.add_fault("pull", status=200, body={"success": True, "result": {"messages": []}}, times=4)
    operator = QueueRedriveOperator(task_id="r", queue_name="my-queue", target_queue_name="failed", idle_timeout=60)
    report = operator.execute({})
    assert (report["moved"], 60 < report["seconds"] < 600, report["rate"] > 50) == (100, True, True)


@pytest.mark.usefixtures("jumping_time")
def test_a_slow_rate_has_a_decimal(cf, logged):
    CloudflareQueuesHook().send(cf.queues["my-queue"], ["a"])
    process(settle_interval=2, idle_timeout=9).execute({})  # it is open until its ack is sent
    assert re.search(r"handled +1 in 2\.\d s \(0\.[45]/s\)", logged())


def test_an_emulator_that_nobody_started_is_not_waited_for_a_minute(logged):
    extra = {"account_id": "a" * 32}
    here, there = (
        parse_settings("x", host=host, login=None, password="secret-token", extra=extra)
        for host in ("http://127.0.0.1:9/client/v4", None)
    )
    assert seconds_of_repeats(here) < 5
    assert re.search(
        r"'x': Connection refused\. Trying again in [\d.]+ s \(try 2\), for up to 4 s$", logged(), re.MULTILINE
    )
    assert 30 < seconds_of_repeats(there) < 60
    assert "(try 2), for up to 60 s" in logged()


def test_a_connection_that_is_refused_is_named_by_host_and_port(cf, connect):
    connect(cf, host="http://127.0.0.1:9/client/v4")
    with pytest.raises(TransportError, match=r"NewConnectionError: 127\.0\.0\.1:9: Failed to establish") as caught:
        CloudflareQueuesHook().list_queues()
    assert "_TimedConnection" not in str(caught.value)


def test_a_command_waits_for_one_repeat_while_nothing_answers_and_as_a_task_does_once_something_did():
    extra = {"account_id": "a" * 32}
    settings = parse_settings("x", host=None, login=None, password="secret-token", extra=extra)
    assert 0.5 <= seconds_of_repeats(settings, ONE_QUICK_REPEAT) <= 0.75
    assert 30 < seconds_of_repeats(settings, ONE_QUICK_REPEAT, was_answered=True) < 60


def seconds_of_repeats(settings, policy=None, *, was_answered=False):
    now = [0.0]
    told = Told()
    told.was_answered = was_answered

    async def sleep(seconds):
        now[0] += seconds

    refused = TransportError("Connection refused")
    refused.add(maybe_applied=False)

    async def fail():
        raise refused

    tries = Tries(policy or RepeatPolicy(), list_queues(1), settings, told, clock=lambda: now[0])
    with pytest.raises(TransportError):
        asyncio.run(tries.failed(refused, sleep)(fail))
    return now[0]


def test_the_traceback_of_a_failed_call_ends_in_our_code(hook, cf, queue):
    """What libraries do between the call and its error fills the first screen of a log, and the text says all."""
    cf.add_fault("batch", drop="after")
    with pytest.raises(TransportError) as caught:
        hook.send(queue, ["x"])
    assert caught.value.__cause__ is not None
    frames = re.findall('File "(.*)", line', "".join(traceback.format_exception(caught.value)))
    assert frames
    assert [frame for frame in frames if "site-packages" in frame] == []
