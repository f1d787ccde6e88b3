"""Ends of QueueProcessOperator: in time whatever handlers and API do, and with every message settled or named."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import threading
import time
import traceback

import pytest

from airflow_provider_cfqueues.engines.processing.engine import Engine
from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.exceptions import ProcessingFailedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
from airflow_provider_cfqueues.outcomes import Reject

QUEUES = ["orders", "failed"]

GRACE = 0.3
SLACK = 0.7
"""For a busy machine; what is to be told from an end in time takes 3 seconds and more."""


def state(cf):
    return next(queue for queue in cf.state()["queues"] if queue["name"] == "orders")


@pytest.fixture
def release():
    """Ends what handlers block on."""
    release = threading.Event()
    yield release
    release.set()


class Run:
    """A task whose handler says when it is stuck; it is killed then."""

    def __init__(self, make_handler, release, **arguments):
        self.killed_at = None
        self.operator = QueueProcessOperator(
            task_id="process",
            queue_name="orders",
            handler=make_handler(self.stuck, release),
            grace=GRACE,
            settle_interval=0.05,
            dead_letter_queue="failed",
            **arguments,
        )

    def stuck(self):
        if self.killed_at is None:
            self.killed_at = time.monotonic() + 0.2
            threading.Timer(0.2, self.operator.on_kill).start()

    def seconds_to_end(self):
        with pytest.raises(ProcessingFailedError) as caught:
            self.operator.execute({})
        return time.monotonic() - self.killed_at, str(caught.value)


def sleeps(stuck, release):
    def handle(message):
        if message.body == "stuck":
            stuck()
            release.wait(20)

    return handle


def swallows_its_cancellation(stuck, release):
    async def handle(message):
        if message.body == "stuck":
            stuck()
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.05)

    return handle


def blocks_in_finally(stuck, release):
    async def handle(message):
        if message.body == "stuck":
            stuck()
            try:
                await asyncio.sleep(20)
            finally:
                release.wait(20)

    return handle


def blocks_its_loop(stuck, release):
    async def handle(message):
        if message.body == "stuck":
            stuck()
            release.wait(20)

    return handle


def returns_what_never_ends(stuck, release):
    handle = swallows_its_cancellation(stuck, release)
    return lambda message: handle(message)


def rejects(stuck, release):
    def handle(message):
        if message.body == "stuck":
            stuck()
        raise Reject("no")

    return handle


STUCK = [sleeps, swallows_its_cancellation, blocks_in_finally, blocks_its_loop, returns_what_never_ends]


@pytest.mark.parametrize("make_handler", STUCK, ids=lambda make: make.__name__)
def test_whatever_a_handler_does_a_killed_task_settles_what_is_done_and_ends_in_time(
    cf, send, make_handler, release, logged
):
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders"], consumer_retry_delay=60)  # of what fails
    send("done", "stuck", "waits")
    seconds, text = Run(make_handler, release).seconds_to_end()
    assert seconds < GRACE + 1 + SLACK
    assert "killed. 1 message handled: 1 is acked, 2 are delivered again" in text
    after = state(cf)
    assert (after["totals"]["acked"], after["states"]) == (1, {"ready": 2, "delayed": 0, "leased": 0})
    [stuck] = [message["id"] for message in after["messages"] if message["body"] == "stuck"]
    assert re.search(rf"Handlers did not end within 0\.3 s \(grace\).*\. Messages not done: .*{stuck}", logged())


def test_the_log_says_where_a_handler_hangs(send, release, logged):
    send("stuck")
    Run(sleeps, release, concurrency=3).seconds_to_end()
    assert re.search(r"\(grace\): 1 at test_ends\.py:\d+ in handle\. The task ends without them", logged())


@pytest.mark.parametrize("make_handler", [*STUCK, rejects], ids=lambda make: make.__name__)
def test_whatever_the_api_does_a_killed_task_ends_in_time_and_names_what_it_could_not_tell(
    cf, send, make_handler, release, logged
):
    send("done", "stuck", "waits")
    for path in ("ack", "batch"):
        cf.add_fault(path, status=503, times=1_000)
    run = Run(make_handler, release, until="forever")
    seconds, text = run.seconds_to_end()
    assert seconds < GRACE + 1 + SLACK
    assert ": 3 are not confirmed" in text
    for message in state(cf)["messages"]:
        assert message["state"] == "leased"
        assert message["id"] in text
        assert f"{message['id']} (lease " in logged()


def test_an_api_that_does_not_answer_does_not_hold_up_the_end_of_a_killed_task(cf, send, release):
    send("done", "stuck")
    cf.add_fault("ack", delay_ms=4_000, times=2)
    seconds, text = Run(sleeps, release).seconds_to_end()
    assert seconds < GRACE + 1 + SLACK
    assert "2 are not confirmed" in text


def test_a_task_that_a_handler_leaves_behind_and_that_cannot_be_cancelled_does_not_hold_up_the_end(
    send, process, release
):
    send("stuck")
    go_on = swallows_its_cancellation(lambda: None, release)
    left = []

    async def handle(message):
        left.append(asyncio.create_task(go_on(message)))
        await asyncio.sleep(0)

    began = time.monotonic()
    threading.Timer(6, release.set).start()
    report = process(lambda message: handle(message))
    assert report["acked"] == 1
    assert time.monotonic() - began < 5
    assert not left[0].done()


def test_a_run_that_is_given_up_before_its_end_names_the_messages_that_are_open(cf, send, release, logged):
    send("a")

    async def give_up():
        hook, began = CloudflareQueuesHook(), asyncio.Event()
        queue = HookQueue(hook, hook.get_queue_id("orders"), visibility_timeout=60)

        def handle(message):
            loop.call_soon_threadsafe(began.set)
            release.wait(20)

        loop = asyncio.get_running_loop()
        engine = Engine(queue, handle, Options(max_messages=1))
        running = asyncio.ensure_future(engine.run())
        await began.wait()
        running.cancel()
        await asyncio.wait({running})
        await hook.aclose()
        engine.name_what_is_open()
        return engine.report.to_xcom()

    report = asyncio.run(give_up())
    assert report["unconfirmed"] == 1
    assert report["unconfirmed_ids"] == [message["id"] for message in state(cf)["messages"]]
    assert "the API did not confirm the ack or retry of 1 message (the run ended first). If it" in logged()


class TimedOut(BaseException):
    """As Airflow's own time-out of a task."""


def test_a_time_out_that_comes_again_and_again_ends_the_task_once_and_in_time(cf, send, release):
    send("done", "stuck", "waits")
    raised_at = []

    def time_out(*_):
        raised_at.append(time.monotonic())
        raise TimedOut

    def stuck():
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.1)

    operator = QueueProcessOperator(
        task_id="process", queue_name="orders", handler=sleeps(stuck, release), grace=GRACE, settle_interval=0.05
    )
    before = signal.signal(signal.SIGALRM, time_out)
    try:
        with pytest.raises(TimedOut) as caught:
            operator.execute({})
        seconds = time.monotonic() - raised_at[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(raised_at) > 1
    assert "threading.py" not in str(traceback.extract_tb(caught.tb))  # of our wait, which has nothing to say
    assert seconds < GRACE + 1 + SLACK
    assert state(cf)["states"]["leased"] == 0


class Blocking:
    """A delay rule of the user's own that never ends."""

    def __init__(self, stuck, release):
        self.stuck, self.release = stuck, release

    def seconds(self, message):
        self.stuck()
        self.release.wait(20)
        return 1


def test_a_delay_rule_that_blocks_does_not_hold_up_the_end_of_a_killed_task(cf, send, release):
    send("a", "b")
    run = Run(lambda stuck, release: lambda message: 1 / 0, release)
    run.operator.delay_seconds = Blocking(run.stuck, release)
    seconds, _ = run.seconds_to_end()
    assert seconds < GRACE + 1 + SLACK
    assert state(cf)["states"]["leased"] == 0


def test_a_delay_rule_that_raises_leaves_the_delay_to_the_consumer(cf, send, logged):
    send("a")

    class Raises:
        def seconds(self, message):
            raise KeyboardInterrupt

    arguments = {"handler": lambda message: 1 / 0, "delay_seconds": Raises(), "idle_timeout": 0, "fail_on": "none"}
    report = QueueProcessOperator(task_id="process", queue_name="orders", **arguments).execute({})
    assert report["retried"] == 1
    assert "has no valid delay, so it waits for the consumer's retry_delay: KeyboardInterrupt" in logged()


def test_an_idle_task_takes_a_last_look_before_it_ends(cf, send):
    """With a time-out of a second it looks at 0 and 1 s; the message comes between."""
    timer = threading.Timer(0.8, send, ["late"])
    timer.start()
    arguments = {"handler": lambda message: None, "idle_timeout": 1}
    report = QueueProcessOperator(task_id="process", queue_name="orders", **arguments).execute({})
    timer.join()
    assert report["handled"] == 1
    assert state(cf)["backlog_count"] == 0
