"""Messages into a queue from the command line, and there and back through the file of ``drain``."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import in_queue, messages
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

REFUSED = [
    ("bytes", base64.b64encode(b"\x00\xff").decode(), "a body of content type 'bytes' cannot be sent over HTTP"),
    ("json", '"42"', "a json body that is a str cannot be sent over HTTP"),
    ("json", "[NaN]", "JSON cannot hold the body"),
    ("json", '{"n": 1e999}', "JSON cannot hold the body"),
    ("v8", "/w8=", "its body could not be decoded"),
    (None, "{}", "a body of content type None cannot be sent over HTTP"),
]
ODD = [
    ("text", "one\u2028two\u2029three\x85four\x0cfive\rsix\nseven"),
    ("text", "\x1b[2J\x9b31m\x7f\0"),
    ("text", ""),
    ("text", '{"body": "a text"}'),
    ("text", "42"),
    ("json", {"__type": "dict", "__var": 1, "n": 2**80}),
    ("json", [json.loads("[" * 90 + "]" * 90)]),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
bodies = (
    st.tuples(st.just("text"), st.text())
    | st.tuples(st.just("json"), st.lists(json_values, max_size=3))
    | st.tuples(st.just("json"), st.dictionaries(st.text(), json_values, max_size=3))
)


@pytest.fixture
def typed(monkeypatch):
    def typed(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return typed


def sent(cf, name="orders"):
    return [(message["content_type"], message["body"]) for message in messages(cf, name)]


def pulled(cf, content_type, raw):
    """Let the next pull give such a message."""
    metadata = {"CF-Content-Type": content_type} if content_type else {}
    message = {"id": "i", "lease_id": "l", "body": raw, "metadata": metadata}
    answer = {"success": True, "result": {"messages": [message]}}
    cf.add_fault(path="pull", status=200, body=json.dumps(answer))
    cf.add_fault(path="ack", status=200, body={"success": True, "result": {"ackCount": 1, "retryCount": 0}})


def test_send_takes_text_and_json_from_arguments_stdin_and_files(cf, run, typed, tmp_path):
    code, out, _ = run("send", "orders", "hello", '{"n": 1}', "--delay", "0")
    assert (code, out) == (0, "Sent 2 messages to orders; its backlog is 2\n")
    typed(b"from stdin\r\n[1, 2]\n  \n")
    assert json.loads(run("send", cf.queues["orders"], "--json")[1])["sent_count"] == 3
    (tmp_path / "lines").write_text('{"n": 2}')
    assert run("send", "orders", "--text", "--file", str(tmp_path / "lines"))[0] == 0
    bodies = [message.body for message in CloudflareQueuesHook().peek(cf.queues["orders"])]
    assert bodies == ["hello", {"n": 1}, "from stdin", [1, 2], "  ", '{"n": 2}']


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["good", "{bad"], "message 2: this message looks like JSON, but is not"),
        (["good", ""], "message 2: this message is empty. To send an empty text, give --text"),
        (["good", "x" * 130_000], "message 2: the message is larger than 128 KB"),
        (["good", '{"n": NaN}'], "message 2: the message is larger than 128 KB, or has a value that JSON cannot hold"),
        (["good", "--drained", "--text"], "not both"),
    ],
)
def test_a_bad_message_stops_all_before_the_first_is_sent(cf, run, arguments, says):
    code, out, err = run("send", "orders", *arguments)
    assert (code, out, in_queue(cf)) == (2, "", {})
    assert err.startswith("error: ")
    assert says in err


@pytest.mark.parametrize(
    ("data", "says"), [(b"a\n\nb\n", "line 2: this message is empty"), (b"a\n\xff\n", "line 2 is not UTF-8")]
)
def test_a_bad_line_is_named_by_its_number(cf, run, typed, data, says):
    typed(data)
    code, _, err = run("send", "orders")
    assert (code, in_queue(cf)) == (2, {})
    assert says in err


def test_a_request_that_fails_is_told_with_how_many_messages_are_not_sent(cf, run):
    cf.add_fault("batch", drop="after")
    code, out, err = run("send", "orders", *map(str, range(150)))
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith(" Of 150 messages: unknown: 100; certainly not done: 50.")


def test_an_empty_text_is_a_message_where_it_is_meant(cf, run):
    assert run("send", "orders", "a", "", "b", "--text")[1] == "Sent 3 messages to orders; its backlog is 3\n"
    assert sent(cf) == [("text", "a"), ("text", ""), ("text", "b")]


def test_only_line_ends_part_messages(cf, run, typed):
    typed("\ufeffpage one\x0cpage two\u2028still\x85two\n".encode())
    assert run("send", "orders")[0] == 0
    assert sent(cf) == [("text", "page one\x0cpage two\u2028still\x85two")]


@given(st.lists(bodies, min_size=1, max_size=20))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_drained_is_sent_as_what_it_was(cf, run, drain, tmp_path, given_bodies):
    cf.reset()
    path = tmp_path / "orders.jsonl"
    path.unlink(missing_ok=True)
    for content_type, body in (*given_bodies, *ODD):
        cf.send(cf.queues["orders"], body, content_type=content_type)
    before = sent(cf)
    assert drain(path)[0] == 0
    assert in_queue(cf) == {}
    code, _, err = run("send", "orders-failed", "--drained", "--file", str(path))
    assert (code, sent(cf, "orders-failed")) == (0, before), err


def test_a_file_of_bytes_has_them_as_base64(cf, drain, tmp_path):
    data = bytes(range(256))
    cf.send(cf.queues["orders"], base64.b64encode(data).decode(), content_type="bytes")
    assert drain(tmp_path / "f")[0] == 0
    line = json.loads((tmp_path / "f").read_text())
    assert (line["content_type"], base64.b64decode(line["body"])) == ("bytes", data)


@pytest.mark.parametrize(("content_type", "raw", "says"), REFUSED)
def test_what_cannot_be_sent_as_it_was_is_in_the_file_and_refused(cf, run, drain, tmp_path, content_type, raw, says):
    path = tmp_path / "orders.jsonl"
    cf.send(cf.queues["orders"], "good", content_type="text")
    assert drain(path)[0] == 0
    pulled(cf, content_type, raw)
    assert drain(path)[0] == 0
    line = json.loads(path.read_text().split("\n")[1], parse_constant=pytest.fail)
    assert raw in (line["body"], json.dumps(line["body"]), line.get("raw_body"))
    code, _, err = run("send", "orders-failed", "--drained", "--file", str(path))
    assert (code, in_queue(cf, "orders-failed")) == (2, {})
    assert err.startswith("error: line 2: ")
    assert says in err


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_filter_of_the_page_leaves_what_can_be_sent(cf, run, drain, typed, tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    (chosen,) = re.findall(r"^jq -c '(.*)' \\\n  orders.jsonl", page, re.MULTILINE)
    bodies_given = [("text", "a"), ("bytes", "AAE="), ("json", "42"), ("json", [1]), ("v8", "/w8="), ("json", {})]
    for content_type, body in bodies_given:
        cf.send(cf.queues["orders"], body, content_type=content_type)
    path = tmp_path / "orders.jsonl"
    assert drain(path)[0] == 0
    typed(subprocess.run(["jq", "-c", chosen, str(path)], capture_output=True, check=True).stdout)
    assert run("send", "orders", "--drained")[0] == 0
    assert [message.body for message in CloudflareQueuesHook().peek(cf.queues["orders"])] == ["a", [1], {}]


@pytest.mark.parametrize("line", ["", "42", "{}", '{"body": "no content type"}', "half a line"])
def test_a_line_that_drain_did_not_write_is_refused(cf, run, line, tmp_path):
    (tmp_path / "f").write_text(f"{line}\n")
    code, _, err = run("send", "orders", "--drained", "--file", str(tmp_path / "f"))
    assert (code, in_queue(cf)) == (2, {})
    assert (err.startswith("error: line 1: "), "drain did not write" in err) == (True, True)
