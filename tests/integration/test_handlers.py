"""Handlers that do what handlers should not: the message is never acked undone, and no other message suffers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import multiprocessing
import sys
import threading

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from airflow_provider_cfqueues._compat import AirflowFailException, AirflowSkipException
from airflow_provider_cfqueues.engines.processing.results import BrokenHandlerError
from airflow_provider_cfqueues.exceptions import ProcessingFailedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
from airflow_provider_cfqueues.outcomes import Ack, Reject, Retry

try:
    from airflow.sdk import task
except ImportError:  # Airflow 2
    from airflow.decorators import task

QUEUES = ["orders", "failed"]


def state(cf, name="orders"):
    return next(queue for queue in cf.state()["queues"] if queue["name"] == name)


class Panic(BaseException):
    """As gevent's and func_timeout's time-outs, PyO3's panics, pytest's outcomes and Airflow's TaskDeferred are."""


class Unspeakable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self):
        raise RuntimeError("no text")


RAISED = {
    "panic": Panic("unwrap on a None value"),
    "interrupt": KeyboardInterrupt(),
    "exit": SystemExit(3),
    "generator exit": GeneratorExit(),
    "cancelled": asyncio.CancelledError(),
    "stop": StopIteration(),
    "unspeakable": Unspeakable(),
    "memory": MemoryError(),
}
if sys.version_info >= (3, 11):
    RAISED["group"] = BaseExceptionGroup("group", [KeyboardInterrupt()])  # noqa: F821


@pytest.mark.parametrize("kind", ["sync", "async", "awaited"])
def test_whatever_a_handler_raises_is_a_verdict_on_its_message_alone(cf, send, process, kind):
    bodies = [*RAISED, *[str(number) for number in range(20)]]
    send(*bodies)
    seen = []

    def handle(message):
        seen.append(message.body)
        if message.body in RAISED:
            raise RAISED[message.body]

    async def handle_async(message):
        await asyncio.sleep(0)
        handle(message)

    handler = {"sync": handle, "async": handle_async, "awaited": lambda message: handle_async(message)}[kind]
    report = process(handler, fail_on="none")
    assert sorted(seen) == sorted(bodies)
    assert (report["acked"], report["retried"], report["failed"]) == (20, len(RAISED), len(RAISED))
    assert state(cf)["states"] == {"ready": 0, "delayed": len(RAISED), "leased": 0}


def test_fail_on_decides_about_a_task_whose_handler_raised_no_exception(send, process):
    send("a")

    def handle(message):
        raise Panic("unwrap")

    with pytest.raises(ProcessingFailedError, match=r"1 of 1 message failed: .*Panic: unwrap"):
        process(handle)


@pytest.mark.parametrize("ends", [AirflowSkipException, AirflowFailException])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_can_end_the_task_with_what_airflow_has_for_that(cf, send, process, ends, is_async):
    send("a", "end", "c")

    def handle(message):
        if message.body == "end":
            raise ends("closed today")

    async def handle_async(message):
        handle(message)

    with pytest.raises(ends, match="closed today"):
        process(handle_async if is_async else handle, fail_on="none")
    after = state(cf)
    assert after["states"]["leased"] == 0
    assert after["backlog_count"] == 3 - after["totals"]["acked"] >= 1


def cancel_itself(message):
    asyncio.current_task().cancel()


async def cancel_itself_and_wait(message):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def cancel_all(message):
    for each in asyncio.all_tasks():
        each.cancel()
    await asyncio.sleep(0.01)


async def stop_the_loop(message):
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)


async def close_the_loop(message):
    asyncio.get_running_loop().close()


@pytest.mark.parametrize(
    ("handler", "acked"),
    [(cancel_itself_and_wait, 0), (cancel_all, 0), (stop_the_loop, 3), (close_the_loop, 0)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_handler_cannot_harm_the_engine_through_its_event_loop(cf, send, process, handler, acked):
    send("a", "b", "c")
    report = process(handler, fail_on="none")
    assert (report["pulled"], report["acked"], report["failed"]) == (3, acked, 3 - acked)
    assert state(cf)["states"]["leased"] == 0


def test_a_handler_that_cancels_its_task_and_returns_is_done_and_the_next_one_is_not_cancelled(send, process):
    send(*["x"] * 20)

    async def handle(message):
        await asyncio.sleep(0)
        cancel_itself(message)

    assert process(handle)["acked"] == 20


def test_what_a_task_that_a_handler_left_behind_raises_to_end_the_process_ends_the_run(cf, send, process):
    send("a", "b")
    kept = []

    async def leave():
        raise SystemExit(3)

    async def handle(message):
        if not kept:
            kept.append(asyncio.create_task(leave()))
            await asyncio.sleep(0.05)

    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        process(handle, idle_timeout=5, until="forever")
    assert kept[0].exception().code == 3
    assert state(cf)["states"]["leased"] == 0


def generator(message):
    yield message


async def async_generator(message):
    yield message


class Generating:
    def __call__(self, message):
        yield message


@task
def decorated(message):
    raise AssertionError("never run")


@pytest.mark.parametrize(
    "handler",
    [generator, async_generator, Generating(), functools.partial(generator), decorated, None, 5],
    ids=["generator", "async generator", "generating object", "partial", "@task", "nothing", "number"],
)
def test_what_cannot_handle_a_message_is_refused_when_the_dag_is_parsed(handler):
    with pytest.raises(TypeError, match="handler must be a function that takes a message: "):
        QueueProcessOperator(task_id="process", queue_name="orders", handler=handler)


def test_what_cannot_handle_a_message_is_refused_by_its_dotted_path_before_anything_is_pulled(cf, process):
    with pytest.raises(TypeError, match="generator"):
        process(f"{__name__}.generator")
    assert not [request for request in cf.requests() if request["path"].endswith("/pull")]


async def returns_awaitable(message):
    return returns_awaitable(message)


POOL = concurrent.futures.ThreadPoolExecutor(1)
NOT_DONE = {
    "generator": lambda message: (each for each in "abc"),
    "async generator": lambda message: async_generator(message),
    "map": lambda message: map(print, "abc"),
    "future": lambda message: POOL.submit(int),
    "thread": lambda message: threading.Thread(target=print),
    "process": lambda message: multiprocessing.Process(target=print),
    "exception": lambda message: ValueError("no"),
    "exception class": lambda message: ValueError,
    "function": lambda message: print,
    "partial": lambda message: functools.partial(print, message),
    "list of outcomes": lambda message: [Reject("no")],
    "list of outcome classes": lambda message: [Retry],
    "awaitable of awaitables": returns_awaitable,
    "task": lambda message: QueueProcessOperator(task_id="other", queue_name="orders", handler=print).output,
}


@pytest.mark.parametrize("handler", NOT_DONE.values(), ids=NOT_DONE)
def test_what_shows_that_the_work_was_not_done_is_never_acked(cf, send, process, handler):
    send("a", "b")
    with pytest.raises(BrokenHandlerError, match=r"The handler returned .* given back"):
        process(handler, fail_on="none")
    after = state(cf)
    assert (after["totals"]["acked"], after["backlog_count"], after["states"]["leased"]) == (0, 2, 0)


@pytest.mark.parametrize("returned", [None, False, 0, "", [], {}, "done", ["a"], {"a": 1}, object], ids=repr)
def test_any_other_result_is_one(send, process, returned):
    send("a")
    assert process(lambda message: returned)["acked"] == 1


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("returned", "counted"), [(Ack, "acked"), (Retry, "retried"), (Reject, "rejected")])
def test_an_outcome_class_works_like_an_outcome(send, process, returned, counted, is_async):
    send("a")

    async def handle_async(message):
        return returned

    handler = handle_async if is_async else lambda message: returned
    assert process(handler, fail_on="none", dead_letter_queue="failed")[counted] == 1


def test_outcome_classes_in_a_batch_work_like_outcomes(send, process):
    send("a", "b", "c")
    outcomes = iter([Ack, Retry, Reject])
    report = process(
        lambda messages: [next(outcomes) for _ in messages],
        batch=True,
        batch_size=3,
        fail_on="none",
        dead_letter_queue="failed",
    )
    assert (report["acked"], report["retried"], report["rejected"]) == (1, 1, 1)


@pytest.mark.parametrize("is_batch", [False, True])
def test_what_a_handler_returns_to_await_is_awaited_and_its_result_judged(send, process, is_batch):
    send("a", "bad", "c")
    seen = []

    async def handle(message):
        await asyncio.sleep(0)
        seen.append(message.body)
        if message.body == "bad":
            raise ValueError("bad")
        return Ack()

    async def handle_batch(messages):
        return [await handle(message) if message.body != "bad" else Retry() for message in messages]

    handler = (lambda messages: handle_batch(messages)) if is_batch else (lambda message: handle(message))
    report = process(handler, batch=is_batch, fail_on="none")
    assert (report["acked"], report["retried"]) == (2, 1)
    assert {"a", "c"} <= {*seen}


def test_a_handler_of_batches_may_empty_its_list(send, process):
    send("a", "b")
    assert process(lambda messages: messages.clear(), batch=True)["acked"] == 2


def test_what_a_handler_returns_to_await_is_awaited_concurrently(send, process):
    send(*[str(number) for number in range(4)])
    waiting = []

    async def handle(message):
        all_are_here = asyncio.Event()
        waiting.append(all_are_here)
        if len(waiting) == 4:
            for each in waiting:
                each.set()
        await all_are_here.wait()

    assert process(lambda message: handle(message), concurrency=4)["acked"] == 4


def wrap_sync(function):
    @functools.wraps(function)
    def wrapped(message):
        return asyncio.run(function(message))

    return wrapped


def wrap_async(function):
    @functools.wraps(function)
    async def wrapped(message):
        await asyncio.sleep(0)
        return function(message)

    return wrapped


class Callable:
    def __init__(self, function):
        self.function = function

    def __call__(self, message):
        return self.function(message)


class AsyncCallable(Callable):
    async def __call__(self, message):
        return await self.function(message)


def test_what_is_called_decides_whether_a_handler_is_async_not_what_it_wraps(cf, send, process):
    seen = []

    async def handle_async(message):
        await asyncio.sleep(0)
        seen.append(message.body)

    def handle(message):
        seen.append(message.body)

    handlers = {
        "sync around async": wrap_sync(handle_async),
        "async around sync": wrap_async(handle),
        "async_to_sync": async_to_sync(handle_async),
        "sync_to_async": sync_to_async(handle),
        "partial of async": functools.partial(handle_async),
        "object": Callable(handle),
        "async object": AsyncCallable(handle_async),
        "partial of an async object": functools.partial(AsyncCallable(handle_async)),
        "sync object around async": Callable(handle_async),
    }
    for shape, handler in handlers.items():
        send(shape)
        assert process(handler)["acked"] == 1, shape
        assert seen.pop() == shape


@pytest.mark.parametrize("shape", ["async", "sync"])
def test_handlers_run_beside_the_threads_of_task_and_engine(send, process, shape):
    send("a")
    threads = []

    def handle(message):
        threads.append(threading.current_thread())

    process(wrap_async(handle) if shape == "async" else handle)
    assert threads[0] is not threading.main_thread()
    assert threads[0].daemon  # the process ends without waiting for it


REASONS = {
    "exception": (ValueError("boom"), "ValueError: boom"),
    "number": (5, "5"),
    "nothing": (None, "rejected"),
    "surrogate": ("bad \ud800 reason", "bad \\ud800 reason"),
    "control characters": ("a\n2026-01-01 INFO all is well\x1b[31m\0", "a\\n2026-01-01 INFO all is well\\x1b[31m\\x00"),
    "unspeakable": (Unspeakable(), "Unspeakable: (no text: its __str__ raised RuntimeError)"),
    "long": ("x" * 300_000, "x" * 499 + "…"),
}


@pytest.mark.parametrize(("given", "text"), REASONS.values(), ids=REASONS)
def test_a_reason_always_fits_into_the_dead_letter_queue(cf, send, process, logged, given, text):
    send("precious")
    report = process(lambda message: Reject(given), dead_letter_queue="failed", fail_on="none")
    assert (report["rejected"], state(cf)["backlog_count"]) == (1, 0)
    (copy,) = CloudflareQueuesHook().pull(cf.queues["failed"], max_messages=1)
    assert copy.body["reason"] == text
    assert text in logged()


def test_reasons_in_exceptions_are_bounded_and_escaped(send, process):
    send("a")

    def handle(message):
        raise RuntimeError("\ud800\n" + "x" * 300_000)

    with pytest.raises(ProcessingFailedError) as caught:
        process(handle)
    (failure,) = caught.value.failures
    assert failure.reason.startswith(r"RuntimeError: \ud800\nxxx")
    assert len(failure.reason) <= 500
    assert len(str(caught.value)) < 2_000


class NoStock(Retry):
    def __init__(self, order):
        self.order = order


class NoCustomer(Reject):
    def __init__(self, order):
        self.order = order


@pytest.mark.parametrize(("kind", "counted"), [(NoStock, "retried"), (NoCustomer, "rejected")])
def test_an_outcome_of_ones_own_needs_nothing_of_the_class_above(send, process, kind, counted):
    send("a", "b")

    def handle(message):
        raise kind(message.body)

    assert process(handle, dead_letter_queue="failed", fail_on="none")[counted] == 2


@pytest.mark.parametrize("verdict", [Reject("no such customer"), RuntimeError("no such customer")])
def test_what_a_handler_does_to_a_body_is_not_in_its_copy(cf, send, process, verdict):
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders"], consumer_max_retries=1)
    send({"order": 7})

    def handle(message):
        message.body["seen_by"] = {message.body.pop("order")}
        raise verdict

    assert process(handle, dead_letter_queue="failed", fail_on="none")["rejected"] == 1
    (copy,) = CloudflareQueuesHook().pull(cf.queues["failed"], max_messages=10)
    assert copy.body["body"] == {"order": 7}


UNSTORABLE = {
    "bytes": (b"x", "b'x'"),
    "not a number": (float("nan"), "nan"),
    "surrogate": ("\ud800", r"\ud800"),
    "large": ("x" * 100_000, "x" * 499 + "…"),
    "key": ({(1, 2): 3}, "{(1, 2): 3}"),
}


@pytest.mark.parametrize(("returned", "text"), UNSTORABLE.values(), ids=UNSTORABLE)
def test_a_result_that_airflow_cannot_store_is_replaced(send, process, returned, text):
    send("a")
    report = process(lambda message: returned, keep_results=1)
    assert report["acked"] == 1
    (kept,) = report["results"]
    assert kept["unstorable"] == text
    assert kept["why"]
