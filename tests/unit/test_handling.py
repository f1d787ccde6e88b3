"""What a handler may do that is neither a return nor an ordinary exception; the simulation found each of these."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import pytest

from airflow_provider_cfqueues.engines.processing.handling import BrokenHandlerError, Handling
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.outcomes import Ack, Retry


def handle(handler, count=2, batch_size=None):
    """Return the outcome of each message, and what is wrong with the handler."""
    messages = [Message(id=str(n), lease_id=str(n), body=n) for n in range(count)]
    outcomes = {}
    with ThreadPoolExecutor(1) as executor:
        handling = Handling(
            handler,
            batch_size=batch_size,
            max_attempts=None,
            executor=executor,
            now=lambda: datetime.now(timezone.utc),
        )
        while messages:
            units, messages = messages[: handling.takes], messages[handling.takes :]
            done = lambda handled: outcomes.__setitem__(handled.message.id, handled.outcome)  # noqa: E731
            asyncio.run(handling.run(units, lambda: False, done))
    return list(outcomes.values()), handling.error


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError()], ids=["exit", "cancelled"])
def test_a_sync_handler_that_raises_no_ordinary_exception_has_its_message_retried(error):
    def handler(message):
        raise error

    outcomes, _ = handle(handler)
    assert [type(outcome) for outcome in outcomes] == [Retry, Retry]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task cannot tell who cancelled it")
def test_an_async_handler_whose_own_task_is_cancelled_has_its_message_retried():
    async def handler(message):
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    outcomes, _ = handle(handler)
    assert [type(outcome) for outcome in outcomes] == [Retry, Retry]


def test_an_async_handler_that_exits_has_its_message_retried():
    async def handler(message):
        sys.exit(1)

    outcomes, _ = handle(handler)
    assert [type(outcome) for outcome in outcomes] == [Retry, Retry]


@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_handler_that_returns_something_to_await_is_not_taken_as_done(batch_size):
    async def work(given):
        return None

    outcomes, error = handle(lambda given: work(given), batch_size=batch_size)
    assert [type(outcome) for outcome in outcomes] == [Retry, Retry]
    assert isinstance(error, BrokenHandlerError)
    assert "async def" in str(error)


def test_a_handler_of_batches_may_empty_its_list():
    def handler(messages):
        while messages:
            messages.pop()

    outcomes, _ = handle(handler, batch_size=2)
    assert outcomes == [Ack(), Ack()]
