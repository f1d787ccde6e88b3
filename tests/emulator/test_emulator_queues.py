"""Queues, consumers and credentials, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_cfqueues.emulator import Emulator

if TYPE_CHECKING:
    import httpx


def queues(api) -> str:
    return f"{api.account}/queues"


def test_a_new_queue_has_its_defaults_and_no_consumer(api):
    queue = api.result("POST", queues(api), {"queue_name": "orders", "unknown": 1})
    assert queue["settings"] == {
        "delivery_delay": 0,
        "delivery_paused": False,
        "message_retention_period": 345_600,
    }
    assert (queue["consumers"], queue["consumers_total_count"]) == ([], 0)
    assert (len(queue["queue_id"]), int(queue["queue_id"], 16) >= 0) == (32, True)
    assert api.result("GET", f"{queues(api)}/{queue['queue_id']}") == queue


def test_a_queue_can_be_made_with_settings_and_jurisdiction(api):
    body = {"queue_name": "eu", "jurisdiction": "eu", "settings": {"delivery_delay": 1.5}}
    queue = api.result("POST", queues(api), body)
    assert (queue["jurisdiction"], queue["settings"]["delivery_delay"]) == ("eu", 1.5)


def test_patch_keeps_and_put_resets_what_is_not_named(api):
    api.result("PATCH", api.queue, {"settings": {"delivery_delay": 5}})
    patched = api.result("PATCH", api.queue, {"settings": {"delivery_paused": True}})
    assert patched["settings"] | {"message_retention_period": 0} == {
        "delivery_delay": 5,
        "delivery_paused": True,
        "message_retention_period": 0,
    }
    put = api.result("PUT", api.queue, {"queue_name": "renamed", "settings": {"delivery_delay": 7}})
    assert (put["queue_name"], put["settings"]["delivery_paused"]) == ("renamed", False)
    assert put["settings"]["delivery_delay"] == 7


def test_a_deleted_queue_is_gone(api):
    api.result("DELETE", api.queue)
    assert api.refused("GET", api.queue)[:2] == (404, 11000)


def test_the_list_has_pages_and_filters_by_names(api):
    for number in range(24):
        api.result("POST", queues(api), {"queue_name": f"q{number}"})
    first = api.call("GET", queues(api)).json()
    assert first["result_info"] == {
        "count": 20,
        "page": 1,
        "per_page": 20,
        "total_count": 25,
        "total_pages": 2,
    }
    second = api.call("GET", f"{queues(api)}?page=2").json()
    names = [queue["queue_name"] for page in (first, second) for queue in page["result"]]
    assert names == ["my-queue", *(f"q{number}" for number in range(24))]
    assert api.result("GET", f"{queues(api)}?page=3") == []
    named = api.result("GET", f"{queues(api)}?name=q3&name=q7&name=nix")
    assert [queue["queue_name"] for queue in named] == ["q3", "q7"]
    assert len(api.result("GET", f"{queues(api)}?per_page=100")) == 25


@pytest.mark.parametrize("query", ["page=0", "page=x", "page=", "page=-1", "per_page=101", "page=²"])
def test_a_wrong_page_is_a_400(api, query):
    assert api.refused("GET", f"{queues(api)}?{query}")[0] == 400


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, 10207),
        ({"queue_name": 5}, 10207),
        ({"queue_name": ""}, 11003),
        ({"queue_name": "Orders"}, 11003),
        ({"queue_name": "-a"}, 11003),
        ({"queue_name": "a" * 64}, 11003),
        ({"queue_name": "a", "jurisdiction": "mars"}, 100128),
        ({"queue_name": "a", "settings": []}, 100128),
        ({"queue_name": "a", "settings": {"delivery_delay": 86_401}}, 100128),
        ({"queue_name": "a", "settings": {"message_retention_period": 59}}, 100128),
        ({"queue_name": "a", "settings": {"message_retention_period": 1_209_601}}, 100128),
        ({"queue_name": "a", "settings": {"delivery_paused": 1}}, 100128),
    ],
)
def test_a_queue_that_cannot_be(api, body, code):
    assert api.refused("POST", queues(api), body)[:2] == (400, code)


def test_a_name_is_taken_once(api):
    assert api.refused("POST", queues(api), {"queue_name": "my-queue"})[:2] == (409, 11009)


def test_consumers_come_change_and_go(api):
    queue = api.result("POST", queues(api), {"queue_name": "orders"})["queue_id"]
    consumers = f"{queues(api)}/{queue}/consumers"
    assert api.result("GET", consumers) == []
    made = api.result("POST", consumers, {"type": "http_pull"})
    assert made["settings"] == {
        "batch_size": 10,
        "max_retries": 3,
        "retry_delay": 0,
        "visibility_timeout_ms": 30_000,
    }
    assert (made["type"], made["dead_letter_queue"], made["queue_name"]) == ("http_pull", "", "orders")
    one = f"{consumers}/{made['consumer_id']}"
    body = {"type": "http_pull", "dead_letter_queue": "dead", "settings": {"max_retries": 0}}
    changed = api.result("PUT", one, body)
    assert changed["settings"]["max_retries"] == 0
    assert api.result("GET", one) == changed
    assert api.result("GET", consumers) == [changed]
    assert [found["queue_name"] for found in api.result("GET", f"{queues(api)}?name=dead")] == ["dead"]
    assert api.refused("POST", consumers, {"type": "http_pull"})[:2] == (409, 11004)
    api.result("DELETE", one)
    assert api.refused("GET", one)[:2] == (404, 11006)
    assert api.result("PUT", one, body)["dead_letter_queue"] == "dead"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, 10026),
        ({"type": "pull"}, 400, 10026),
        ({"type": "worker", "script_name": "w"}, 404, 10007),
        ({"type": "http_pull", "dead_letter_queue": "No"}, 400, 11003),
        ({"type": "http_pull", "dead_letter_queue": 7}, 400, 10207),
        ({"type": "http_pull", "dead_letter_queue": "orders"}, 400, 100127),
        ({"type": "http_pull", "settings": {"batch_size": 0}}, 400, 100127),
        ({"type": "http_pull", "settings": {"max_retries": 101}}, 400, 100127),
        ({"type": "http_pull", "settings": {"retry_delay": 86_401}}, 400, 100127),
        ({"type": "http_pull", "settings": {"visibility_timeout_ms": 43_200_001}}, 400, 100127),
        ({"type": "http_pull", "settings": None}, 400, 100127),
    ],
)
def test_a_consumer_that_cannot_be(api, body, status, code):
    queue = api.result("POST", queues(api), {"queue_name": "orders"})["queue_id"]
    assert api.refused("POST", f"{queues(api)}/{queue}/consumers", body)[:2] == (status, code)


def test_every_answer_has_a_ray(api):
    for response in (api.call("GET", api.queue), api.call("GET", "/nix")):
        assert response.headers["cf-ray"]


def test_what_is_no_path_or_method_of_the_api(api):
    assert api.refused("GET", "/nix")[:2] == (404, 7003)
    assert api.refused("GET", f"{api.queue}/messages/push")[:2] == (404, 7003)
    assert api.refused("GET", "/accounts/no%20account/queues")[:2] == (404, 7003)
    assert api.refused("DELETE", f"{api.queue}/messages")[:2] == (405, 7001)


def get(http: httpx.Client, url: str, **headers: str) -> tuple[int, int | None]:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    response = http.get(url, headers=named)
    errors = response.json()["errors"]
    return response.status_code, errors[0]["code"] if errors else None


def test_both_ways_to_say_who_one_is(cf, api):
    assert get(api.http, cf.base_url + queues(api), authorization=f"Bearer {cf.api_token}") == (200, None)
    assert get(api.http, cf.base_url + queues(api), x_auth_email="me@example.com", x_auth_key=cf.api_token) == (
        200,
        None,
    )


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({}, (401, 10000)),
        ({"authorization": "Bearer wrong"}, (401, 10000)),
        ({"authorization": "Bearer"}, (400, 6003)),
        ({"authorization": "Bearer Bearer emulator-token"}, (400, 6003)),
        ({"authorization": "Basic abc"}, (400, 6003)),
        ({"x_auth_key": "emulator-token"}, (401, 10000)),
        ({"x_auth_email": "me@example.com", "x_auth_key": "wrong"}, (401, 10000)),
    ],
)
def test_wrong_credentials(cf, api, headers, answer):
    assert get(api.http, cf.base_url + queues(api), **headers) == answer


def test_another_account_is_refused(api):
    assert api.refused("GET", "/accounts/other/queues")[:2] == (403, 10000)


def test_a_token_can_be_verified(api, cf):
    for path in ("/user/tokens/verify", f"{api.account}/tokens/verify"):
        envelope = api.call("GET", path).json()
        assert envelope["result"]["status"] == "active"
        assert envelope["messages"] == [{"code": 10000, "message": "This API Token is valid and active"}]
        assert get(api.http, cf.base_url + path, authorization="Bearer wrong") == (401, 1000)
        assert get(api.http, cf.base_url + path, x_auth_email="me@example.com", x_auth_key=cf.api_token) == (
            401,
            1000,
        )


def test_a_token_of_an_account_is_verified_under_that_account_only(http):
    with Emulator(api_token="cfat_secret") as cf:
        headers = {"authorization": "Bearer cfat_secret"}
        assert get(http, f"{cf.base_url}/user/tokens/verify", **headers) == (401, 1000)
        assert get(http, f"{cf.base_url}/accounts/{cf.account_id}/tokens/verify", **headers) == (200, None)
