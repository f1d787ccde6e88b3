"""Check the handlers that users give, and make each a function that takes only the message."""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, cast

from airflow_provider_cfqueues._compat import determine_kwargs, import_string


def check_handler(handler: Any) -> Callable[..., Any]:
    """Return what was given as a handler; raise a TypeError if it cannot be one."""
    if (why := _why_refused(handler)) is not None:
        msg = f"handler must be a function that takes a message: {why}"
        raise TypeError(msg)
    return cast("Callable[..., Any]", handler)


def bind_handler(
    handler: Callable[..., Any] | str, args: Collection[Any], kwargs: Mapping[str, Any], context: Mapping[str, Any]
) -> Callable[[Any], Any]:
    """
    Return a handler as a function of the message alone.

    :param handler: the handler, or its dotted path.
    :param args: what it is called with after the message.
    :param kwargs: likewise, by name.
    :param context: the context of the task, for parameters that are named like its keys.
    :raises TypeError: it cannot be a handler.
    """
    call = check_handler(import_string(handler) if isinstance(handler, str) else handler)
    args = tuple(args)
    # A view, not a copy: Airflow 2 warns of each deprecated key that is looked at.
    known = ChainMap(dict(kwargs), cast("dict[str, Any]", context))
    named = determine_kwargs(call, (None, *args), known) if _has_signature(call) else dict(kwargs)
    if is_async(call):

        async def handle_async(message: Any) -> Any:
            return await call(message, *args, **named)

        return handle_async
    return lambda message: call(message, *args, **named)


def is_async(handler: Callable[..., Any]) -> bool:
    """Return whether calling a handler gives something to await: what is called decides, not what it wraps."""
    return _is(inspect.iscoroutinefunction, handler)


def _why_refused(handler: Any) -> str | None:
    if not callable(handler):
        return f"a {type(handler).__name__} cannot be called"
    if type(handler).__module__.startswith("airflow.") and hasattr(handler, "operator_class"):
        return "it is a task made by a decorator such as @task. Give the plain function"
    if _is(inspect.isgeneratorfunction, handler) or _is(inspect.isasyncgenfunction, handler):
        return "it is a generator function, so its body would not run. Remove the 'yield'"
    return None


def _is(kind: Callable[[Any], bool], handler: Any) -> bool:
    while isinstance(handler, partial):
        handler = handler.func
    return kind(handler) or kind(getattr(type(handler), "__call__", None))  # noqa: B004 - the method, not its presence


def _has_signature(handler: Callable[..., Any]) -> bool:
    """Return whether Python knows the parameters of a handler: for some builtins and objects it does not."""
    try:
        inspect.signature(handler)
    except ValueError:
        return False
    return True
