"""
Which messages a trigger or sensor wants: ``match``, one condition as text, or a list of which one must hold.

==========================================  =====================================================================
``literal:TEXT``                            the body is this text; or, as JSON, this object, array, number, …
``jsonpath:$.type``                         the path finds something in a JSON body, be it false or null
``jsonpath:$.type == "order"``              it finds this value
``jsonpath:$.type in ["order", "refund"]``  it finds one of these values
``function:package.module.name``            this function of a message returns something true
==========================================  =====================================================================

Conditions are text because Airflow stores the arguments of a trigger, and compares them to find equal triggers. A
filter at the root of a path, ``$[?(@.type == "order")]``, looks at the items of an array, as RFC 9535 has it; for an
object, write ``$.type == "order"``. A JSONPath finds nothing in a body that is not a JSON object or array, or that
could not be decoded. A function gets every message.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from airflow_provider_cfqueues._compat import import_string
from airflow_provider_cfqueues.exceptions import MatchFailedError
from airflow_provider_cfqueues.models import Message, PeekedMessage

Match: TypeAlias = "str | Sequence[str] | None"
AnyMessage: TypeAlias = "Message | PeekedMessage"

_COMPARISON = re.compile(r"\s(==|in)\s")
_DOTTED_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """
    One condition of a ``match``, read but not yet loaded.

    :param text: the condition as it was given.
    :param kind: ``literal``, ``jsonpath`` or ``function``.
    :param subject: the text, the JSONPath or the dotted path.
    :param expected: the values of which a JSONPath must find one; None = any value.
    """

    text: str
    kind: str
    subject: str
    expected: tuple[Any, ...] | None = None


class Matcher:
    """
    Decides which messages are wanted; made once, where its functions can be imported.

    :param match: the conditions; None wants every message.
    :raises TypeError: a condition is not text.
    :raises ValueError: a condition cannot be read, or its function cannot be imported.
    :raises ModuleNotFoundError: a JSONPath needs the extra ``jsonpath``, which is not installed.
    """

    def __init__(self, match: Match) -> None:
        self._tests = [(condition, _LOADERS[condition.kind](condition)) for condition in parse_match(match)]

    def wants(self, message: AnyMessage) -> bool:
        """
        Return whether a message is wanted.

        :param message: the message.
        :raises MatchFailedError: a condition raised an error for this message.
        """
        return not self._tests or any(self._holds(condition, test, message) for condition, test in self._tests)

    def _holds(self, condition: Condition, test: Callable[[AnyMessage], Any], message: AnyMessage) -> bool:
        try:
            held = test(message)
            if inspect.isawaitable(held):
                if inspect.iscoroutine(held):
                    held.close()
                msg = "it must be a plain function that returns a bool, not an async one"
                raise TypeError(msg)  # noqa: TRY301 - it fails like any other bad function
            return bool(held)
        except (Exception, SystemExit) as error:
            msg = f"match {condition.text!r} failed for message {message.id}: {type(error).__name__}: {error}"
            raise MatchFailedError(msg, message_id=message.id) from error


def check_match(match: Match) -> None:
    """
    Check a ``match`` without loading its functions: in the constructor, so that a typo is an import error of the DAG.

    The syntax of a JSONPath is checked if its library is installed.

    :param match: the conditions.
    :raises TypeError: a condition is not text.
    :raises ValueError: a condition cannot be read.
    """
    for condition in parse_match(match):
        if condition.kind == "jsonpath":
            with suppress(ModuleNotFoundError):  # the library is needed only where the trigger runs
                _load_jsonpath(condition)


def parse_match(match: Match) -> list[Condition]:
    """
    Read a ``match`` without loading anything.

    :param match: the conditions.
    :raises TypeError: a condition is not text.
    :raises ValueError: a condition cannot be read.
    """
    if match is None:
        return []
    conditions = [match] if isinstance(match, str) else match
    if not isinstance(conditions, (list, tuple)) or not all(isinstance(text, str) for text in conditions):
        hint = ". Give a function as 'function:' and its dotted path" if callable(match) else ""
        msg = f"match must be a text such as 'jsonpath:$.type == \"order\"', or a list of them, not {match!r}{hint}"
        raise TypeError(msg)
    if not conditions:
        raise ValueError("match is an empty list, which no message matches; leave it out to want every message")
    return [_parse(text) for text in conditions]


def refuse_functions(match: Match) -> None:
    """
    Refuse a condition that names a function, in text that a template rendered to: a function is code that runs.

    :param match: the conditions.
    :raises ValueError: one of them names a function.
    """
    if named := [condition.text for condition in parse_match(match) if condition.kind == "function"]:
        raise ValueError(
            f"match rendered to {named[0]!r}, but a template may not name a function: whoever triggers the DAG "
            "could run any code. Write the function into the DAG itself, or use 'literal:' or 'jsonpath:'"
        )


def _parse(text: str) -> Condition:
    kind, colon, subject = text.partition(":")
    if not colon or kind not in _LOADERS:
        raise ValueError(f"match {text!r} must begin with 'literal:', 'jsonpath:' or 'function:'")
    if kind == "literal":
        return Condition(text=text, kind=kind, subject=subject)
    subject, expected = subject.strip(), None
    if kind == "function" and not _DOTTED_PATH.fullmatch(subject):
        raise ValueError(f"match {text!r} must name a function as 'function:package.module.name'")
    if kind == "jsonpath":
        subject, expected = _split_comparison(subject)
    if not subject:
        raise ValueError(f"match {text!r} has no path; an example: 'jsonpath:$.type == \"order\"'")
    return Condition(text=text, kind=kind, subject=subject, expected=expected)


def _split_comparison(subject: str) -> tuple[str, tuple[Any, ...] | None]:
    """
    Split ``$.type == "order"`` into the path and the values.

    A comparison inside a path is followed by the path's closing brackets, so the rest cannot be read as a value.
    """
    for found in _COMPARISON.finditer(subject):
        try:
            value = _read_value(subject[found.end() :])
        except ValueError:
            continue
        if found[1] == "==":
            return subject[: found.start()].rstrip(), (value,)
        if isinstance(value, list):
            return subject[: found.start()].rstrip(), tuple(value)
    return subject, None


def _read_value(text: str) -> Any:
    """Read JSON, or a Python literal: people quote either way."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return read(text.strip())
    raise ValueError(text)


def _load_literal(condition: Condition) -> Callable[[AnyMessage], bool]:
    text = condition.subject
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text

    def holds(message: AnyMessage) -> bool:
        if message.body_error is not None or isinstance(message.body, bytes):
            return False
        return message.body == text if isinstance(message.body, str) else _same(message.body, value)

    return holds


def _load_jsonpath(condition: Condition) -> Callable[[AnyMessage], bool]:
    try:
        from jsonpath_ng.ext import parse
    except ModuleNotFoundError as error:
        msg = f"match {condition.text!r} needs a library: pip install 'airflow-provider-cfqueues[jsonpath]'"
        raise ModuleNotFoundError(msg, name=error.name) from error
    try:
        path = parse(condition.subject)
    except Exception as error:  # the library raises more than one kind
        raise ValueError(
            f"match {condition.text!r}: {condition.subject!r} is not a JSONPath ({error}). Compare what a path finds "
            "with == VALUE or in [VALUE, …], values as JSON"
        ) from error

    def holds(message: AnyMessage) -> bool:
        if not isinstance(message.body, (dict, list)):
            return False
        values = [found.value for found in path.find(message.body)]
        if condition.expected is None:
            return bool(values)
        return any(_same(value, expected) for value in values for expected in condition.expected)

    return holds


def _load_function(condition: Condition) -> Callable[[AnyMessage], Any]:
    try:
        function = import_string(condition.subject)
    except Exception as error:  # importing a module of the user's may raise anything
        raise ValueError(f"match {condition.text!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(function):
        msg = f"match {condition.text!r} is not a function but {type(function).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - the text is wrong, not its type
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"match {condition.text!r} is an async function; it must be a plain one that returns a bool")
    return function  # type: ignore[no-any-return]


_LOADERS = {"literal": _load_literal, "jsonpath": _load_jsonpath, "function": _load_function}


def _same(left: Any, right: Any) -> bool:
    """Compare JSON values: unlike in Python, true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(isinstance(left, bool) == isinstance(right, bool) and left == right)
