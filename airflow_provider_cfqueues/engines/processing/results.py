"""
What a handler's result says about its messages. It only reads what was returned, and calls no code of the user.

A message is done only if its handler ran to its end. A value that shows that it did not (a generator that was not run,
a future that was not awaited) is not a result but a fault of the handler.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Generator, Sequence
from functools import partial
from typing import Any

from airflow_provider_cfqueues.outcomes import Ack, Outcome, Reject, Retry
from airflow_provider_cfqueues.texts import to_reason

_RESULTS = (type(None), str, int, float, bool, dict, bytes)
"""Types that handlers return most often, and that can only be results."""


class BrokenHandlerError(TypeError):
    """A handler returned what shows that it did not do its work, or one of batches not one outcome per message."""


def is_awaitable(returned: Any) -> bool:
    """Return whether what a handler returned is to be awaited."""
    return type(returned) not in _RESULTS and inspect.isawaitable(returned)


def read_outcome(returned: Any) -> Outcome | None:
    """Return the outcome that a handler returned, as an object or by its class; None where it is no outcome."""
    if type(returned) in _RESULTS:
        return None
    if isinstance(returned, (Ack, Retry, Reject)):
        return returned
    if isinstance(returned, type) and issubclass(returned, (Ack, Retry, Reject)):
        try:
            return returned()
        except TypeError:  # a class of the user's own that wants arguments
            return None
    return None


def read_outcomes(returned: Any, count: int) -> list[Outcome]:
    """
    Return the outcomes that a handler of a batch of so many messages returned.

    :raises BrokenHandlerError: it is not one outcome for each of them.
    """
    if returned is None:
        return [Ack()] * count
    if isinstance(returned, Sequence) and not isinstance(returned, str) and len(returned) == count:
        outcomes = [read_outcome(each) for each in returned]
        if None not in outcomes:
            return outcomes  # type: ignore[return-value]
    if isinstance(returned, Sequence):
        what = f"a {type(returned).__name__} of {len(returned)}"
    else:
        what = why_not_done(returned) or f"a {type(returned).__name__}"
    raise BrokenHandlerError(
        f"The handler must return None or a list of one Ack(), Retry() or Reject() for each of its {count} messages, "
        f"but it returned {what}. The messages are given back"
    )


def check_result(returned: Any) -> None:
    """
    Check that what a handler of single messages returned can be the result of work that is done.

    :raises BrokenHandlerError: it shows that the work was not done.
    """
    if type(returned) not in _RESULTS and (what := why_not_done(returned)):
        raise BrokenHandlerError(f"The handler returned {what}. Its message is given back")


def why_not_done(returned: Any) -> str | None:
    """Return what a returned value is, if it shows that the handler did not do its work; else None."""
    if isinstance(returned, (Generator, AsyncGenerator, map, filter)):
        return f"a {type(returned).__name__}, which does not run by itself: do the work in the handler"
    if inspect.isawaitable(returned):
        if inspect.iscoroutine(returned):
            returned.close()
        return "an awaitable that another awaitable returned: await it in the handler"
    if isinstance(returned, BaseException) or (isinstance(returned, type) and issubclass(returned, BaseException)):
        return f"an exception ({to_reason(returned, 100)}): raise it"
    if _is_future(returned):
        return f"a {type(returned).__name__}, whose work may not be done yet: wait for its result in the handler"
    if inspect.isroutine(returned) or isinstance(returned, partial):
        return "a function that was not called"
    if isinstance(returned, (list, tuple)) and any(read_outcome(each) is not None for each in returned[:100]):
        return "a list of outcomes, which only a handler with batch=True may return"
    if type(returned).__module__.startswith("airflow.") and hasattr(returned, "operator"):
        return f"a {type(returned).__name__}, which is a task of a DAG and does not run here"
    return None


def _is_future(value: Any) -> bool:
    """Tell the futures of concurrent.futures, dask, multiprocessing, celery and others, and threads, from results."""
    kind = type(value)
    return any(all(callable(getattr(kind, name, None)) for name in names) for names in _FUTURES)


_FUTURES = (("result", "done"), ("get", "ready", "wait"), ("start", "join", "is_alive"))
