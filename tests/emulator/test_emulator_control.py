"""Faults, clock, log, state and reset, through the control paths and through ``Emulator``."""

from __future__ import annotations

import json
import threading
import time

import httpx
import pytest

from airflow_provider_cfqueues.emulator import Clock, Emulator


def control(api, method: str, name: str, body=None) -> httpx.Response:
    root = api.cf.base_url.removesuffix("/client/v4")
    return api.http.request(method, f"{root}/_emulator/{name}", json=body)


def test_a_status_fault_answers_instead_of_the_call(api, cf):
    api.push("a")
    rule = {"path": "pull", "status": 429, "headers": {"Retry-After": "7"}, "body": {"success": False}}
    assert control(api, "POST", "faults", [rule]).status_code == 200
    response = api.post("messages/pull", {})
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert response.json() == {"success": False}
    assert len(api.pull()) == 1


def test_a_fault_body_can_be_html(api, cf):
    cf.add_fault("pull", status=502, body="<html>Bad gateway</html>")
    response = api.post("messages/pull", {})
    assert response.text == "<html>Bad gateway</html>"
    assert response.headers["content-type"].startswith("text/html")


def test_a_status_fault_can_come_after_the_call_was_applied(api, cf):
    api.push("a")
    cf.add_fault("pull", status=500, apply=True)
    assert api.post("messages/pull", {}).status_code == 500
    assert api.pull() == []


def test_rules_are_used_up_in_order_each_as_often_as_it_says(api, cf):
    cf.add_fault("pull", status=500, times=2)
    cf.add_fault("pull", status=503)
    cf.add_fault("ack", status=418)
    assert [api.post("messages/pull", {}).status_code for _ in range(4)] == [500, 500, 503, 200]
    assert [fault["path"] for fault in cf.state()["faults"]] == ["ack"]


def test_a_rule_with_a_share_meets_that_share_of_the_calls_the_same_ones_for_a_seed(api, cf):
    def statuses(seed):
        cf.reset()
        cf.add_fault("pull", status=500, share=0.3, seed=seed, times=1000)
        cf.add_fault("pull", status=503, share=0.5, seed=seed + 1, times=1000)
        return [api.post("messages/pull", {}).status_code for _ in range(200)]

    first = statuses(1)
    assert 40 <= first.count(500) <= 80
    assert 50 <= first.count(503) <= 90
    assert statuses(1) == first
    assert statuses(3) != first


def test_a_rule_with_a_share_is_used_up_by_the_calls_that_it_met(api, cf):
    cf.add_fault("pull", status=500, share=0.5, times=3)
    assert [api.post("messages/pull", {}).status_code for _ in range(30)].count(500) == 3
    assert cf.state()["faults"] == []


def test_the_path_of_a_queue_ends_with_its_id(api, cf):
    cf.add_fault(cf.queues["my-queue"], status=500)
    assert [api.call("GET", api.queue).status_code for _ in range(2)] == [500, 200]


@pytest.mark.parametrize(("drop", "left"), [("before", 1), ("after", 0)])
def test_a_dropped_connection_answers_nothing(api, cf, drop, left):
    api.push("a")
    cf.add_fault("pull", drop=drop)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        api.post("messages/pull", {})
    assert cf.requests()[-1]["status"] is None
    assert len(api.pull()) == left


def test_a_truncated_answer_breaks_off_half_way(api, cf):
    cf.add_fault("pull", truncate=True)
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        api.post("messages/pull", {})


def test_an_answer_truncated_to_a_number_of_bytes_is_complete_http(api, cf):
    cf.add_fault("pull", truncate=10)
    response = api.post("messages/pull", {})
    assert (response.status_code, response.content) == (200, b'{"success"')


def test_a_delay_holds_up_its_own_request_only(api, cf):
    api.push("a")
    cf.add_fault("pull", delay_ms=300)
    answers = []
    with httpx.Client(headers=api.headers) as other:
        url = f"{cf.base_url}{api.queue}/messages/pull"
        slow = threading.Thread(target=lambda: answers.append(other.post(url, json={})))
        began = time.monotonic()
        slow.start()
        while cf.state()["faults"]:
            pass
        assert api.result("GET", f"{api.queue}/metrics")["backlog_count"] == 1
        assert not answers
        slow.join()
    assert time.monotonic() - began >= 0.3
    assert len(answers[0].json()["result"]["messages"]) == 1


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, "faults are a JSON list"),
        ([1], "a fault is a JSON object"),
        ([{"status": 500}], "needs a path"),
        ([{"path": "pull"}], "needs one of"),
        ([{"path": "messages/pull", "status": 500}], "one path segment"),
        ([{"path": "pull", "status": 99}], "200 to 599"),
        ([{"path": "pull", "status": 500, "times": 0}], "whole number from 1"),
        ([{"path": "pull", "status": 500, "share": 0}], "above 0, up to 1"),
        ([{"path": "pull", "status": 500, "share": True}], "above 0, up to 1"),
        ([{"path": "pull", "status": 500, "seed": 0.5}], "whole number from 0"),
        ([{"path": "pull", "drop": "now"}], "'before' or 'after'"),
        ([{"path": "pull", "truncate": False}], "true or a number of bytes"),
        ([{"path": "pull", "delay_ms": -1}], "a number from 0"),
        ([{"path": "pull", "drop": "before", "body": "x"}], "need a status"),
        ([{"path": "pull", "status": 500, "headers": {"a": 1}}], "an object of strings"),
        ([{"path": "pull", "status": 500, "statsu": 1}], "unknown key 'statsu'"),
    ],
)
def test_a_malformed_fault_adds_nothing_and_says_why(api, cf, rules, message):
    valid = [{"path": "ack", "status": 500}]
    response = control(api, "POST", "faults", valid + rules if isinstance(rules, list) else rules)
    assert response.status_code == 400
    assert message in response.json()["error"]
    assert cf.state()["faults"] == []


def test_the_clock_moves_forward(api, cf):
    api.push("a")
    api.pull()
    before = cf.state()["now_ms"]
    response = control(api, "POST", "clock", {"advance_seconds": 30.5})
    assert response.json()["now_ms"] - before >= 30_500
    assert len(api.pull()) == 1


@pytest.mark.parametrize("body", [None, {}, {"advance_seconds": -1}, {"advance_seconds": "1"}, {"advance": 1}, []])
def test_a_malformed_clock_request_is_refused(api, body):
    response = control(api, "POST", "clock", body)
    assert (response.status_code, bool(response.json()["error"])) == (400, True)


def test_the_log_has_every_call_and_no_credentials(api, cf):
    api.push({"a": 1})
    api.call("GET", f"{api.account}/queues?name=x")
    api.http.post(f"{cf.base_url}{api.queue}/messages", content=b"{", headers=api.headers)
    pushed, listed, broken = control(api, "GET", "requests").json()
    assert pushed["time_ms"] > 0
    assert (pushed["method"], pushed["status"]) == ("POST", 200)
    assert pushed["path"].endswith("/messages")
    assert pushed["body"] == {"body": {"a": 1}, "content_type": "json"}
    assert (listed["query"], listed["body"]) == ("name=x", None)
    assert (broken["status"], broken["body"]) == (400, "{")
    assert cf.api_token not in json.dumps(cf.requests())


def test_the_state_shows_what_became_of_every_message(api, cf):
    api.push("acked", "leased", {"ready": 1})
    acked, leased = api.pull(batch_size=2)
    api.ack([acked["lease_id"]])
    cf.send(cf.queues["my-queue"], {"delayed": 1}, delay_seconds=60)
    [queue] = control(api, "GET", "state").json()["queues"]
    assert (queue["name"], queue["id"]) == ("my-queue", cf.queues["my-queue"])
    assert (queue["backlog_count"], queue["totals"]["acked"], queue["totals"]["received"]) == (3, 1, 4)
    assert queue["states"] == {"ready": 1, "delayed": 1, "leased": 1}
    shown = [(message["body"], message["state"], message["attempts"]) for message in queue["messages"]]
    assert shown == [("leased", "leased", 1), ({"ready": 1}, "ready", 0), ({"delayed": 1}, "delayed", 0)]
    assert queue["messages"][0]["id"] == leased["id"]
    assert queue["consumer"]["settings"]["max_retries"] == 3


def test_reset_goes_back_to_the_start(api, cf):
    queue = cf.queues["my-queue"]
    api.push("a")
    [message] = api.pull()
    api.result("DELETE", api.queue)
    api.result("POST", f"{api.account}/queues", {"queue_name": "other"})
    cf.add_fault("pull", status=500)
    cf.advance(3600)
    cf.set_json_encoding("plain")
    assert control(api, "POST", "reset").json() == {"queues": {"my-queue": queue}}
    assert (cf.queues, cf.requests()) == ({"my-queue": queue}, [])
    state = cf.state()
    assert (state["faults"], state["json_encoding"]) == ([], "base64")
    assert abs(state["now_ms"] - time.time() * 1000) < 5000
    assert api.ack([message["lease_id"]])["ackCount"] == 0


def test_workers_can_send_what_rest_cannot(api, cf):
    def send(**message) -> None:
        body = {"queue_id": cf.queues["my-queue"], **message}
        assert control(api, "POST", "messages", body).status_code == 200

    send(body="AAE=", content_type="bytes")
    send(body="/w8=", content_type="v8")
    send(body="a string", json_encoding="plain")
    send(body={"a": 1}, json_encoding="base64")
    send(body="{", content_type="text", metadata={"CF-Content-Type": "json"})
    send(body="{}", content_type="text", metadata={})
    shown = [(message["body"], message["metadata"]) for message in api.pull(batch_size=10)]
    assert shown == [
        ("AAE=", {"CF-Content-Type": "bytes"}),
        ("/w8=", {"CF-Content-Type": "v8"}),
        ('"a string"', {"CF-Content-Type": "json"}),
        ("eyJhIjoxfQ==", {"CF-Content-Type": "json"}),
        ("{", {"CF-Content-Type": "json"}),
        ("{}", {}),
    ]
    assert [message["body"] for message in cf.state()["queues"][0]["messages"]][:3] == [
        "AAE=",
        "/w8=",
        "a string",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"content_type": "xml"}, "content_type must be one of json, text, bytes, v8"),
        ({"content_type": "bytes", "body": "?"}, "base64"),
        ({"content_type": "text", "body": 1}, "must be a string"),
        ({"json_encoding": "hex"}, "json_encoding must be one of base64, plain"),
        ({"queue_id": "nix"}, "nix"),
        ({"delay_seconds": "x"}, "delay_seconds"),
        ({"metadata": [1]}, "metadata"),
        ({"to": 1}, "unknown key 'to'"),
    ],
)
def test_a_malformed_worker_message_is_refused(api, cf, change, message):
    response = control(api, "POST", "messages", {"queue_id": cf.queues["my-queue"], "body": "", **change})
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_the_json_encoding_can_be_switched(api, cf):
    assert control(api, "POST", "settings", {"json_encoding": "plain"}).status_code == 200
    api.push([1])
    assert api.pull()[0]["body"] == "[1]"
    assert control(api, "POST", "settings", {"json_encoding": "x"}).status_code == 400


def test_control_paths_are_no_calls_of_the_api(api, cf):
    cf.add_fault("state", status=500)
    assert control(api, "GET", "state").status_code == 200
    assert control(api, "POST", "nix").status_code == 404
    assert cf.requests()[-1]["path"] == "/_emulator/nix"


def test_an_emulator_takes_its_options_and_only_good_ones():
    options = {"queues": {"orders": "abc", "other": None}, "account_id": "me", "api_token": "t"}
    with Emulator(**options) as cf:
        assert (cf.queues["orders"], cf.account_id, cf.api_token) == ("abc", "me", "t")
        assert cf.base_url.startswith("http://127.0.0.1:")
        assert len(cf.queues["other"]) == 32
    with Emulator(queues=()) as cf:
        assert cf.queues == {}


@pytest.mark.parametrize(
    "options",
    [
        {"account_id": "a b"},
        {"api_token": "a\nb"},
        {"api_token": ""},
        {"queues": ["No"]},
        {"queues": {"a": "b-c"}},
        {"queues": {"a": "same", "b": "same"}},
        {"queues": "name"},
        {"json_encoding": "hex"},
    ],
)
def test_a_wrong_option_is_an_error(options):
    with pytest.raises((ValueError, TypeError)):
        Emulator(**options).start()


def test_an_emulator_can_live_in_virtual_time(http):
    clock = Clock(lambda: 1_800_000_000)
    with Emulator(clock=clock) as cf:
        cf.send(cf.queues["my-queue"], [1])
        cf.advance(5)
        assert cf.state()["now_ms"] == 1_800_000_005_000


def test_a_port_that_is_taken_is_an_error(cf):
    port = int(cf.base_url.split(":")[2].split("/")[0])
    with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1 port {port}: Address already in use"):
        Emulator(port=port).start()
