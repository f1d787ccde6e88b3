"""Which messages a ``match`` wants, and what it says when it cannot be read."""

from __future__ import annotations

import sys

import pytest

from airflow_provider_cfqueues.exceptions import MatchFailedError
from airflow_provider_cfqueues.matching import Matcher, check_match
from airflow_provider_cfqueues.models import Message

HERE = __name__


def message(body, **facts):
    return Message(id="m1", lease_id="l1", body=body, **facts)


def wants(match, body, **facts):
    return Matcher(match).wants(message(body, **facts))


def is_large(message):
    return message.body["total"] > 100


def is_old(message):
    return (message.attempts or 0) > 1


async def is_async(message):
    return True


def makes_an_awaitable(message):
    return is_async(message)


ORDER = {"type": "order", "total": 120, "paid": False, "note": None, "items": [{"id": 1}, {"id": 7}]}


def test_without_a_match_every_message_is_wanted():
    assert wants(None, "a")
    assert wants(None, None, body_error="no JSON")


@pytest.mark.parametrize(
    ("match", "body"),
    [
        ("literal:order", "order"),
        ("literal: a: b ", " a: b "),
        ("literal:", ""),
        ("literal:5", "5"),
        ("literal:5", 5),
        ('literal:{"b": [1, true], "a": null}', {"a": None, "b": [1, True]}),
        ("literal:null", None),
        ("jsonpath:$.type", ORDER),
        ("jsonpath:$.paid", ORDER),
        ("jsonpath:$.note", ORDER),
        ('jsonpath:$.type == "order"', ORDER),
        ("jsonpath: $.type == 'order' ", ORDER),
        ('jsonpath:$.type in ["refund", "order"]', ORDER),
        ("jsonpath:$.paid == false", ORDER),
        ("jsonpath:$.note == null", ORDER),
        ("jsonpath:$.items[*].id == 7", ORDER),
        ("jsonpath:$.items[?(@.id == 7)]", ORDER),
        ("jsonpath:$.items[?(@.id == 7)].id in [7]", ORDER),
        ("jsonpath:$['a == 1'] == 2", {"a == 1": 2}),
        ('jsonpath:$[?(@.type == "order")]', [ORDER]),
        ("function:{here}.is_large", ORDER),
        (["literal:b", "literal:a"], "a"),
        (["literal:b", "jsonpath:$.type"], ORDER),
    ],
)
def test_a_message_that_fits_is_wanted(match, body):
    match = match.format(here=HERE) if isinstance(match, str) and match.startswith("function:") else match
    assert wants(match, body)


@pytest.mark.parametrize(
    ("match", "body"),
    [
        ("literal:order", "orders"),
        ("literal:1", True),
        ("literal:[1]", [True]),
        ('literal:{"a": 1}', {"a": 1, "b": 2}),
        ("literal:[1]", [1, 1]),
        ("literal:AA==", b"\0"),
        ("literal:order", {"order": 1}),
        ("jsonpath:$.missing", ORDER),
        ('jsonpath:$.type == "refund"', ORDER),
        ("jsonpath:$.paid == 0", ORDER),
        ("jsonpath:$.type in []", ORDER),
        ("jsonpath:$.type", '{"type": "order"}'),
        ("jsonpath:$", 5),
        ("jsonpath:$", b"{}"),
        ("function:{here}.is_old", ORDER),
        (["literal:b", "literal:c"], "a"),
    ],
)
def test_a_message_that_does_not_fit_is_not_wanted(match, body):
    match = match.format(here=HERE) if isinstance(match, str) and match.startswith("function:") else match
    assert not wants(match, body)


def test_a_body_that_could_not_be_decoded_is_for_functions_only():
    undecoded = {"body_error": "v8", "attempts": 2}
    assert not wants("literal:null", None, **undecoded)
    assert not wants("jsonpath:$", None, **undecoded)
    assert wants(f"function:{HERE}.is_old", None, **undecoded)


@pytest.mark.parametrize("name", ["is_large", "makes_an_awaitable"])
def test_a_function_that_fails_for_a_message_is_a_signal_of_its_own(name):
    with pytest.raises(MatchFailedError, match=rf"{name}.*message m1: TypeError") as raised:
        wants(f"function:{HERE}.{name}", "no mapping")
    assert raised.value.message_id == "m1"


@pytest.mark.parametrize(
    ("match", "error"),
    [
        ("order", "must begin with 'literal:', 'jsonpath:' or 'function:'"),
        ("sql:a = b", "must begin with"),
        ("jsonpath:", "has no path"),
        ("jsonpath:$.", "is not a JSONPath"),
        ("jsonpath:$.type = 'order'", "is not a JSONPath"),
        ("jsonpath:$.type == order", "values as JSON"),
        ("jsonpath:$.type in 'order'", "values as JSON"),
        ("function:is_large", "'function:package.module.name'"),
        ("function:lambda m: True", "'function:package.module.name'"),
        ([], "empty list"),
    ],
)
def test_a_match_with_a_typo_is_an_error_when_the_dag_is_parsed(match, error):
    with pytest.raises(ValueError, match=error):
        check_match(match)


@pytest.mark.parametrize("match", [5, {"literal": "a"}, ["literal:a", 5], b"literal:a"])
def test_a_match_that_is_no_text_is_an_error(match):
    with pytest.raises(TypeError, match="match must be a text such as"):
        check_match(match)


def test_a_function_itself_is_asked_for_by_its_path():
    with pytest.raises(TypeError, match="dotted path"):
        check_match(is_large)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("no_such_module.function", "cannot be imported: ModuleNotFoundError"),
        ("json.no_such_function", "cannot be imported: ImportError"),
        ("sys.platform", "is not a function but str"),
        ("{here}.is_async", "is an async function"),
    ],
)
def test_a_function_is_looked_for_where_it_is_used_not_where_the_dag_is_parsed(path, error):
    match = f"function:{path.format(here=HERE)}"
    check_match(match)
    with pytest.raises(ValueError, match=error):
        Matcher(match)


def test_a_missing_library_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonpath_ng.ext", None)
    check_match("jsonpath:$.type")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'airflow-provider-cfqueues\[jsonpath\]'"):
        Matcher("jsonpath:$.type")
