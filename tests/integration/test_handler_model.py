"""Handlers written by Hypothesis, each compared with one model: a message is acked if its handler ran to its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_cfqueues._compat import AirflowFailException, AirflowSkipException
from airflow_provider_cfqueues.engines.processing.results import BrokenHandlerError
from airflow_provider_cfqueues.exceptions import ProcessingFailedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
from airflow_provider_cfqueues.outcomes import Ack, Reject, Retry

QUEUES = ["orders", "failed"]


class Panic(BaseException):
    pass


def future():
    return concurrent.futures.Future()


RETURNS = {
    "None": (lambda: None, "acked"),
    "text": (lambda: "done", "acked"),
    "False": (lambda: False, "acked"),
    "object": (object, "acked"),
    "Ack()": (Ack, "acked"),
    "Ack": (lambda: Ack, "acked"),
    "Retry()": (Retry, "asked"),
    "Retry": (lambda: Retry, "asked"),
    "Reject(error)": (lambda: Reject(ValueError("\ud800" * 1_000)), "rejected"),
    "Reject": (lambda: Reject, "rejected"),
    "generator": (lambda: (_ for _ in "a"), "broken"),
    "future": (future, "broken"),
    "error": (lambda: ValueError("returned"), "broken"),
    "list": (lambda: [Retry()], "broken"),
}
RAISES = {
    "ValueError": (ValueError, "failed"),
    "Panic": (Panic, "failed"),
    "KeyboardInterrupt": (KeyboardInterrupt, "failed"),
    "SystemExit": (SystemExit, "failed"),
    "GeneratorExit": (GeneratorExit, "failed"),
    "CancelledError": (asyncio.CancelledError, "failed"),
    "raised Retry": (Retry, "asked"),
    "raised Reject": (Reject, "rejected"),
    "skip": (AirflowSkipException, "ended"),
    "fail": (AirflowFailException, "ended"),
}
OUTCOMES = {name for name, (_, means) in RETURNS.items() if name[0].isupper() and name not in ("None", "False")}
"""What a handler of batches may say of one of its messages."""


@dataclass
class Model:
    """What the handler did, and so what must have become of the messages."""

    is_batch: bool
    fates: dict[str, str] = field(default_factory=dict)

    def handle(self, given):
        """Do what the bodies of the messages say."""
        messages = given if self.is_batch else [given]
        names = [message.body.partition(":")[2] for message in messages]
        raised = next((name for name in names if name in RAISES), None)
        if raised is not None:
            self._note(messages, RAISES[raised][1])
            raise RAISES[raised][0]
        if not self.is_batch:
            self._note(messages, RETURNS[names[0]][1])
            return RETURNS[names[0]][0]()
        if not {*names} <= OUTCOMES:
            self._note(messages, "broken")
        else:
            for message, name in zip(messages, names, strict=True):
                self._note([message], RETURNS[name][1])
        return [RETURNS[name][0]() for name in names]

    def _note(self, messages, means):
        self.fates |= {message.body: means for message in messages}

    def bodies(self, *fates):
        return {body for body, fate in self.fates.items() if fate in fates}

    def fails(self, fail_on):
        """Whether so many failures are too many."""
        bad, total = len(self.bodies("failed", "rejected")), len(self.fates)
        if not bad or fail_on == "none":
            return False
        return {"any": True, "all": bad == total, 0.5: bad > total / 2}[fail_on]


def shape(handle, kind, wrapping):
    """Return a handler of a kind that does what a function does."""

    async def handle_async(message):
        await asyncio.sleep(0)
        return handle(message)

    handler = {"sync": handle, "async": handle_async, "awaited": lambda message: handle_async(message)}[kind]
    if wrapping == "partial":
        return functools.partial(handler)
    if wrapping == "wraps":  # of the other kind, to be told from what is called
        return functools.wraps(handle_async if kind == "sync" else handle)(lambda message: handler(message))
    if wrapping == "object":
        return type("Handler", (), {"__call__": lambda self, message: handler(message)})()
    return handler


@given(
    names=st.lists(st.sampled_from([*RETURNS, *RAISES]), min_size=1, max_size=8),
    kind=st.sampled_from(["sync", "async", "awaited"]),
    wrapping=st.sampled_from(["", "partial", "wraps", "object"]),
    batch_size=st.sampled_from([None, None, 1, 3]),
    concurrency=st.sampled_from([1, 1, 3]),
    fail_on=st.sampled_from(["any", "all", "none", 0.5]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_becomes_of_a_message_follows_from_what_its_handler_did(
    emulator, connect, names, kind, wrapping, batch_size, concurrency, fail_on
):
    emulator.reset()
    connect(emulator)
    bodies = [f"{number}:{name}" for number, name in enumerate(names)]
    CloudflareQueuesHook().send(emulator.queues["orders"], bodies)
    model = Model(is_batch=batch_size is not None)
    batch = {} if batch_size is None else {"batch": True, "batch_size": batch_size}
    operator = QueueProcessOperator(
        task_id="process",
        queue_name="orders",
        handler=shape(model.handle, kind, wrapping),
        concurrency=concurrency,
        fail_on=fail_on,
        idle_timeout=0,
        settle_interval=0.01,
        delay_seconds=60,
        dead_letter_queue="failed",
        **batch,
    )
    report = error = None
    try:
        report = operator.execute({})
    except (BrokenHandlerError, ProcessingFailedError, AirflowSkipException, AirflowFailException) as raised:
        error = raised
    queues = {queue["name"]: queue for queue in emulator.state()["queues"]}
    left = {message["body"]: message["state"] for message in queues["orders"]["messages"]}
    copies = [message["body"]["body"] for message in queues["failed"]["messages"]]
    assert "leased" not in left.values()
    assert {*bodies} - {*left} - {*copies} == model.bodies("acked")
    assert sorted(copies) == sorted(model.bodies("rejected"))
    if ends := model.bodies("broken", "ended"):
        assert isinstance(error, (BrokenHandlerError, AirflowSkipException, AirflowFailException)), ends
        return
    assert {*model.fates} == {*bodies}
    assert {body for body, at in left.items() if at == "delayed"} == model.bodies("failed", "asked")
    assert (error is not None) == model.fails(fail_on)
    if report is None:
        return
    assert report["pulled"] == report["handled"] == len(bodies)
    assert report["failed"] == len(model.bodies("failed", "rejected"))
    assert report["acked"] == len(model.bodies("acked"))
    assert report["rejected"] == len(model.bodies("rejected"))
    assert report["retried"] == len(model.bodies("failed", "asked"))
