"""The two limits of Cloudflare, over HTTP and with the clock moved."""

from __future__ import annotations

import pytest


def pull(api) -> int:
    return api.post("messages/pull", {}).status_code


def test_one_request_too_many_blocks_all_for_five_minutes(make_api):
    api = make_api(rate_limit=3)
    assert [pull(api) for _ in range(4)] == [200, 200, 200, 429]
    assert api.refused("GET", api.queue) == (429, 971, "Please wait and consider throttling your request speed")
    api.cf.advance(240)
    refused = api.call("GET", api.queue)
    assert refused.status_code == 429
    assert 40 < int(refused.headers["retry-after"]) <= 60
    api.cf.advance(60)
    assert pull(api) == 200


def test_requests_that_are_five_minutes_old_count_no_more(make_api):
    api = make_api(rate_limit=2)
    assert pull(api) == 200
    api.cf.advance(200)
    assert pull(api) == 200
    api.cf.advance(100)
    assert [pull(api), pull(api)] == [200, 429]


def test_answers_say_what_is_left_of_the_limit(make_api):
    api = make_api(rate_limit=3)
    first = api.call("GET", api.queue).headers
    assert (first["ratelimit"], first["ratelimit-policy"]) == ('"default";r=2;t=300', '"default";q=3;w=300')
    api.cf.advance(10)
    assert api.call("GET", api.queue).headers["ratelimit"] == '"default";r=1;t=290'
    assert "retry-after" not in first


def test_pulls_and_acks_can_be_assumed_not_to_count(make_api):
    api = make_api(rate_limit=1, assume={"rate-limit": "not-pull-and-ack"})
    assert [pull(api) for _ in range(3)] == [200, 200, 200]
    assert api.ack() == {"ackCount": 0, "retryCount": 0, "warnings": {}}
    assert [api.call("GET", api.queue).status_code for _ in range(2)] == [200, 429]
    assert pull(api) == 200


def test_wrong_credentials_use_up_nothing_and_a_reset_forgets(make_api):
    api = make_api(rate_limit=1)
    for _ in range(2):
        wrong = api.http.get(f"{api.cf.base_url}{api.account}/queues", headers={"authorization": "Bearer wrong"})
        assert wrong.status_code == 401
    assert [pull(api), pull(api)] == [200, 429]
    api.cf.reset()
    assert pull(api) == 200


def test_without_a_limit_no_answer_speaks_of_one(api):
    assert not {"ratelimit", "ratelimit-policy", "retry-after"} & set(api.call("GET", api.queue).headers)


def test_a_day_has_so_many_operations_and_midnight_brings_new_ones(make_api):
    api = make_api(daily_operations=4)
    api.push("a", "b")
    lease = api.pull(batch_size=1)[0]["lease_id"]
    assert api.ack([lease])["ackCount"] == 1
    for action, body in (
        ("messages", {"body": "c", "content_type": "text"}),
        ("messages/batch", {"messages": [{"body": "c", "content_type": "text"}]}),
        ("messages/pull", {}),
        ("messages/ack", {}),
    ):
        assert api.refused("POST", f"{api.queue}/{action}", body)[:2] == (429, 10253)
    assert api.result("GET", f"{api.queue}/metrics")["backlog_count"] == 1
    api.cf.advance(86_399)
    assert api.post("messages/pull", {}).status_code == 429
    api.cf.advance(1)
    assert len(api.pull()) == 1


@pytest.mark.parametrize(
    ("steps", "operations"),
    [
        (lambda api: api.pull(), 1),
        (lambda api: api.push("x" * 64_000, "x" * 64_001), 3),
        (lambda api: (api.push("a", "b"), api.pull()), 4),
        (lambda api: (api.push("a"), api.ack([api.pull()[0]["lease_id"]])), 3),
        (lambda api: (api.push("a"), api.ack(retries=[api.pull()[0]["lease_id"]]), api.pull()), 3),
        (lambda api: (api.push("a"), api.call("GET", f"{api.queue}/metrics")), 1),
    ],
    ids=["an empty pull", "64 KB and a byte more", "two messages pulled", "one acked", "one pulled again", "metrics"],
)
def test_operations_are_counted_as_they_are_billed(api, steps, operations):
    steps(api)
    assert api.cf.state()["operations_today"] == operations


def test_dead_lettering_is_a_read_and_a_write(make_api):
    api = make_api()
    queue = api.cf.create_queue("lossy", dead_letter_queue="dead", max_retries=0)
    api.cf.send(queue, {"a": 1})
    message = api.result("POST", f"{api.account}/queues/{queue}/messages/pull", {})["messages"][0]
    retries = {"retries": [{"lease_id": message["lease_id"]}]}
    api.result("POST", f"{api.account}/queues/{queue}/messages/ack", retries)
    assert api.cf.state()["operations_today"] == 4
