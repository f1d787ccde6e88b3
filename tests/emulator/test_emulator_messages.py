"""Push, pull, ack and the rest, over HTTP."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def test_a_pull_has_the_shape_of_the_real_one(api):
    api.push({"order": 1})
    envelope = api.post("messages/pull", {}).json()
    assert (envelope["success"], envelope["errors"], envelope["messages"]) == (True, [], [])
    result = envelope["result"]
    assert result["message_backlog_count"] == 1
    assert set(result["metadata"]["metrics"]) == {
        "backlog_count",
        "backlog_bytes",
        "oldest_message_timestamp_ms",
    }
    [message] = result["messages"]
    assert set(message) == {"id", "timestamp_ms", "body", "attempts", "metadata", "lease_id"}
    assert (len(message["id"]), message["attempts"]) == (32, 1)
    assert message["metadata"] == {"CF-Content-Type": "json"}
    assert json.loads(base64.b64decode(message["body"])) == {"order": 1}


def test_text_is_pulled_as_it_is(api):
    api.push("grüße\n")
    assert api.pull()[0]["body"] == "grüße\n"


def test_json_can_be_pulled_plain(api, cf):
    cf.set_json_encoding("plain")
    api.push({"ü": [1, None]}, [1])
    assert [message["body"] for message in api.pull()] == ['{"ü":[1,null]}', "[1]"]


def test_an_empty_queue_answers_at_once_with_nothing(api):
    result = api.result("POST", f"{api.queue}/messages/pull", {"batch_size": 100})
    assert result["messages"] == []
    assert result["metadata"]["metrics"]["oldest_message_timestamp_ms"] == 0


def test_push_and_batch_report_the_backlog(api):
    api.push("a")
    batch = {"messages": [{"body": "b", "content_type": "text"}, {"body": {"c": 1}}]}
    result = api.result("POST", f"{api.queue}/messages/batch", batch)
    assert result["metadata"]["metrics"]["backlog_count"] == 3
    assert api.result("GET", f"{api.queue}/metrics")["backlog_bytes"] == 1 + 1 + 7


def test_delays_of_message_batch_and_queue(api, cf):
    api.result("PATCH", api.queue, {"settings": {"delivery_delay": 100}})
    api.push("queue")
    batch = {"delay_seconds": 10, "messages": [{"body": [1]}, {"body": [2], "delay_seconds": 0}]}
    api.result("POST", f"{api.queue}/messages/batch", batch)
    cf.set_json_encoding("plain")
    assert len(api.pull()) == 1
    cf.advance(10)
    assert len(api.pull()) == 1
    cf.advance(90)
    assert "queue" in {message["body"] for message in api.pull()}


def test_an_ack_counts_in_camel_case_and_warns_per_lease(api):
    api.push("a", "b")
    first, second = (message["lease_id"] for message in api.pull())
    result = api.ack([first, "nix"], [{"lease_id": second, "delay_seconds": 5}])
    assert result == {
        "ackCount": 1,
        "retryCount": 1,
        "warnings": {"nix": "lease is unknown or malformed"},
    }
    assert api.pull() == []


def test_an_empty_ack_settles_nothing(api):
    assert api.result("POST", f"{api.queue}/messages/ack", {}) == {
        "ackCount": 0,
        "retryCount": 0,
        "warnings": {},
    }


def test_more_leases_than_sqlite_has_parameters(api):
    result = api.ack([f"x{number}" for number in range(40_000)])
    assert len(result["warnings"]) == 40_000


def test_the_visibility_timeout_has_one_name_and_the_wrong_one_is_ignored(api, cf):
    api.push("a")
    api.pull(visibility_timeout=1, visibility_timeout_ms=60_000)
    cf.advance(40)
    assert api.pull() == []
    cf.advance(20)
    [message] = api.pull(visibility_timeout=1)
    cf.advance(20)
    assert api.pull() == []
    assert message["attempts"] == 2


def test_retries_run_out_into_the_dead_letter_queue(api, cf):
    queue = cf.create_queue("orders", dead_letter_queue="orders-dead", max_retries=1)
    path = f"{api.account}/queues/{queue}/messages"
    api.result("POST", path, {"body": "a", "content_type": "text"})
    for _ in range(2):
        assert len(api.result("POST", f"{path}/pull", {})["messages"]) == 1
        cf.advance(30)
    dead = cf.queues["orders-dead"]
    assert api.result("GET", f"{api.account}/queues/{dead}/metrics")["backlog_count"] == 1


def test_extend_gives_new_ids(api, cf):
    api.push("a")
    [message] = api.pull()
    body = {"extend": [{"lease_id": message["lease_id"]}], "visibility_timeout_ms": 90_000}
    result = api.result("POST", f"{api.queue}/messages/extend", body)
    assert result["extendCount"] == 1
    cf.advance(70)
    assert api.pull() == []
    assert api.ack([result["leases"][message["lease_id"]]])["ackCount"] == 1


def test_peek_and_purge_by_ref(api):
    api.push("a", "b")
    [first, _] = api.result("POST", f"{api.queue}/messages/peek", {})["messages"]
    assert set(first) == {"id", "timestamp_ms", "body", "attempts", "metadata", "ref"}
    body = {"refs": [{"ref": first["ref"]}, {"ref": "nix"}]}
    result = api.result("POST", f"{api.queue}/messages/purge", body)
    assert result == {"errors": [], "warnings": {"nix": "ref is unknown or malformed"}}
    assert [message["body"] for message in api.pull()] == ["b"]


def test_preview_and_its_ack(api):
    api.push("a", "b")
    [first, second] = api.result("POST", f"{api.queue}/messages/preview", {"batch_size": 2})["messages"]
    body = {
        "acks": [{"lease_id": first["lease_id"]}],
        "retries": [{"lease_id": second["lease_id"]}],
    }
    assert api.result("POST", f"{api.queue}/messages/preview/ack", body) == {"warnings": {}}
    assert [message["body"] for message in api.pull()] == ["b"]


def test_purge_and_its_status(api):
    api.push("a", "b")
    assert api.result("GET", f"{api.queue}/purge") == {"started_at": "", "completed": ""}
    purged = api.result("POST", f"{api.queue}/purge", {"delete_messages_permanently": True})
    assert purged["queue_name"] == "my-queue"
    status = api.result("GET", f"{api.queue}/purge")
    assert status["completed"] == "true"
    assert status["started_at"].endswith("Z")
    assert api.pull() == []


def test_a_paused_queue_answers_409(api):
    api.result("PATCH", api.queue, {"settings": {"delivery_paused": True}})
    assert api.refused("POST", f"{api.queue}/messages/pull", {}) == (409, 0, "queue_delivery_paused")


def test_a_queue_without_http_pull_answers_405(api):
    queue = api.result("POST", f"{api.account}/queues", {"queue_name": "push-only"})["queue_id"]
    assert api.refused("POST", f"{api.account}/queues/{queue}/messages/pull", {}) == (
        405,
        0,
        "messages cannot be pulled unless http_pull mode is enabled",
    )


PUSH, BATCH, PULL, ACK = "messages", "messages/batch", "messages/pull", "messages/ack"


@pytest.mark.parametrize(
    ("action", "body", "code", "message"),
    [
        (PUSH, {"body": "text"}, 10207, 'Expected object, received string at "body"'),
        (PUSH, {"body": 1}, 10207, 'Expected object, received number at "body"'),
        (PUSH, {"messages": []}, 10207, 'Required at "body"'),
        (PUSH, {"body": {}, "content_type": "text"}, 10207, 'Expected string, received object at "body"'),
        (PUSH, {"body": "AA==", "content_type": "bytes"}, 10203, "content_type must be 'text' or 'json'"),
        (PUSH, {"body": "AA==", "content_type": ["text"]}, 10203, "content_type must be 'text' or 'json'"),
        (PUSH, {"body": {}, "delay_seconds": 86_401}, 10203, "between 0 and 86400"),
        (PUSH, {"body": {}, "delay_seconds": -1}, 10203, "between 0 and 86400"),
        (PUSH, {"body": {}, "delay_seconds": True}, 10203, "Expected number, received boolean"),
        (BATCH, {}, 10207, 'Required at "messages"'),
        (BATCH, {"messages": []}, 10207, "at least 1"),
        (BATCH, {"messages": {}}, 10207, 'Expected array, received object at "messages"'),
        (BATCH, {"messages": [{"body": "x"}]}, 10207, 'received string at "messages[0].body"'),
        (BATCH, {"messages": [{"body": {}}] * 101}, 10206, "more than 100"),
        (
            BATCH,
            {"messages": [{"body": {}}], "delay_seconds": "1"},
            10202,
            "Expected number, received string",
        ),
        (PULL, [], 10207, 'Expected object, received array at "body"'),
        (PULL, {"batch_size": 0}, 10207, "between 1 and 100"),
        (PULL, {"batch_size": 101}, 10207, "between 1 and 100"),
        (PULL, {"batch_size": 1.5}, 10207, "Expected integer, received float"),
        (PULL, {"batch_size": None}, 10207, "Expected number, received null"),
        (PULL, {"visibility_timeout_ms": 43_200_001}, 10207, "between 1 and 43200000"),
        (PULL, {"visibility_timeout_ms": 0}, 10207, "between 1 and 43200000"),
        (ACK, {"acks": ["lease"]}, 10207, 'Expected object, received string at "acks[0]"'),
        (ACK, {"acks": [{"lease_id": None}]}, 10207, 'received null at "acks[0].lease_id"'),
        (ACK, {"acks": [{}]}, 10207, 'Required at "acks[0].lease_id"'),
        (ACK, {"acks": "x"}, 10207, "Expected array, received string"),
        (ACK, {"retries": [{"lease_id": "x", "delay_seconds": 86_401}]}, 10203, "between 0 and 86400"),
        ("messages/purge", {}, 10207, 'Required at "refs"'),
        ("messages/extend", {"extend": [1]}, 10207, 'received number at "extend[0]"'),
        ("purge", {}, 10207, "delete_messages_permanently"),
    ],
)
def test_a_malformed_request_is_a_400_that_says_why(api, action, body, code, message):
    status, found, text = api.refused("POST", f"{api.queue}/{action}", body)
    assert (status, found) == (400, code)
    assert message in text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a":NaN}',
        b"[" * 100_000,
        b'{"body":"\\ud800"}',
        b'{"body":"\\uDFFF"}',
        b'{"body":"\xed\xa0\x80","content_type":"text"}',
    ],
    ids=["nothing", "half", "no text", "NaN", "nested", "surrogate", "another surrogate", "bytes of a surrogate"],
)
@pytest.mark.parametrize("action", [PUSH, PULL, ACK])
def test_what_is_not_json_is_a_400(api, cf, action, data):
    response = api.http.post(f"{cf.base_url}{api.queue}/{action}", content=data, headers=api.headers)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (400, 10208)


def test_a_message_may_have_128_kb_and_a_batch_256(api):
    limit = {"body": "x" * 128_000, "content_type": "text"}
    over = {"body": "x" * 128_001, "content_type": "text"}
    api.result("POST", f"{api.queue}/messages", limit)
    assert api.refused("POST", f"{api.queue}/messages", over)[:2] == (413, 10204)
    api.result("POST", f"{api.queue}/messages/batch", {"messages": [limit, limit]})
    full = {"messages": [limit, limit, {"body": {}}]}
    assert api.refused("POST", f"{api.queue}/messages/batch", full)[:2] == (413, 10205)
    assert api.result("GET", f"{api.queue}/metrics")["backlog_count"] == 3


def test_a_refused_batch_sends_nothing(api):
    batch = {"messages": [{"body": {}}, {"body": "x"}]}
    assert api.refused("POST", f"{api.queue}/messages/batch", batch)[0] == 400
    assert api.pull() == []


def test_a_missing_queue_has_another_code_for_messages(api):
    missing = f"{api.account}/queues/{'0' * 32}"
    assert api.refused("GET", missing)[:2] == (404, 11000)
    assert api.refused("POST", f"{missing}/messages/pull", {})[:2] == (404, 10104)
    assert api.refused("POST", f"{api.account}/queues/my-queue/messages/pull", {})[:2] == (400, 10107)


KEYS = ["body", "content_type", "delay_seconds", "messages", "batch_size", "visibility_timeout_ms", "acks"]
KEYS += ["retries", "lease_id", "extend", "refs", "ref", "delete_messages_permanently", "settings", "type"]
KEYS += ["queue_name", "delivery_delay", "dead_letter_queue", "max_retries", "jurisdiction"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(KEYS), values, max_size=4),
    max_leaves=12,
)
ACTIONS = [
    "",
    "messages",
    "messages/batch",
    "messages/pull",
    "messages/ack",
    "messages/extend",
    "messages/peek",
]
ACTIONS += ["messages/purge", "messages/preview", "messages/preview/ack", "purge", "consumers"]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(action=st.sampled_from(ACTIONS), body=VALUES)
def test_nothing_that_is_sent_is_a_500(api, action, body):
    method = "PATCH" if action == "" else "POST"
    response = api.call(method, f"{api.queue}/{action}".rstrip("/"), body)
    assert response.status_code < 500
    assert response.json()["success"] is (response.status_code == 200)


def test_a_number_that_cannot_be_kept_is_refused(api, cf):
    url = f"{cf.base_url}{api.queue}/messages"
    response = api.http.post(url, content=b'{"body":{"a":1e999}}', headers=api.headers)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (400, 10207)


@pytest.mark.parametrize("depth", [500, 900, 990, 2000, 9000])
def test_deep_nesting_is_taken_or_refused(api, cf, depth):
    data = b'{"body":' + b"[" * depth + b"]" * depth + b"}"
    response = api.http.post(f"{cf.base_url}{api.queue}/messages", content=data, headers=api.headers)
    assert response.status_code in (200, 400)
