"""Event subscriptions and consumers that send notifications, over HTTP."""

from __future__ import annotations

import pytest


def path(api) -> str:
    return f"{api.account}/event_subscriptions/subscriptions"


def request(api, **changes):
    destination = {"type": "queues.queue", "queue_id": api.cf.queues["my-queue"]}
    given = {"name": "kv", "source": {"type": "kv"}, "events": ["namespace.created"], "destination": destination}
    return {**given, **changes}


def test_a_subscription_comes_changes_and_goes(api):
    made = api.result("POST", path(api), request(api))
    assert {key: made[key] for key in ("name", "enabled", "source", "events", "destination")} == {
        **request(api),
        "enabled": True,
    }
    one = f"{path(api)}/{made['id']}"
    assert api.result("GET", one) == made
    api.cf.advance(1)
    changed = api.result("PATCH", one, {"enabled": False, "events": ["namespace.deleted"]})
    assert (changed["enabled"], changed["events"], changed["name"]) == (False, ["namespace.deleted"], "kv")
    assert changed["modified_at"] > changed["created_at"] == made["created_at"]
    assert api.result("DELETE", one) == changed
    assert api.refused("GET", one)[0] == 404
    assert api.refused("DELETE", one)[0] == 404


def test_the_list_has_pages_an_order_and_a_filter(api):
    other = api.cf.create_queue("other")
    for name, kind in (("b", "kv"), ("a", "r2"), ("c", "images")):
        api.result("POST", path(api), request(api, name=name, source={"type": kind}))
    elsewhere = {"type": "queues.queue", "queue_id": other}
    api.result("POST", path(api), request(api, name="d", source={"type": "vectorize"}, destination=elsewhere))

    def names(query: str) -> list[str]:
        return [item["name"] for item in api.result("GET", f"{path(api)}?{query}")]

    assert names("") == ["a", "b", "c", "d"]
    assert names("order=source&direction=desc") == ["d", "a", "b", "c"]
    assert names("per_page=3&page=2") == ["d"]
    assert names(f"queue_id={other}") == ["d"]
    assert api.call("GET", f"{path(api)}?per_page=3").json()["result_info"]["total_pages"] == 2
    assert api.refused("GET", f"{path(api)}?order=size")[0] == 400


def test_a_resource_has_one_subscription_and_a_name_is_taken_once(api):
    api.result("POST", path(api), request(api))
    assert api.refused("POST", path(api), request(api, name="other"))[0] == 405
    assert api.refused("POST", path(api), request(api, source={"type": "r2"}))[0] == 409


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"events": []}, 400),
        ({"events": [1]}, 400),
        ({"name": ""}, 400),
        ({"source": {}}, 400),
        ({"source": {"type": "mars"}}, 400),
        ({"source": {"type": "workers.script"}}, 400),
        ({"destination": {"type": "queues.queue", "queue_id": "nix"}}, 404),
        ({"destination": {"type": "r2", "queue_id": "nix"}}, 400),
        ({"destination": None}, 400),
    ],
)
def test_a_subscription_that_cannot_be(api, changes, status):
    assert api.refused("POST", path(api), request(api, **changes))[0] == status


def test_a_deleted_queue_takes_its_subscriptions_with_it(api):
    api.result("POST", path(api), request(api))
    api.result("DELETE", api.queue)
    assert api.result("GET", path(api)) == []


def test_a_notification_consumer_keeps_its_settings_and_cannot_be_pulled(api):
    queue = api.result("POST", f"{api.account}/queues", {"queue_name": "alerts"})["queue_id"]
    consumers = f"{api.account}/queues/{queue}/consumers"
    settings = {"email": [{"id": "me@example.com"}]}
    made = api.result("POST", consumers, {"type": "notification", "settings": settings})
    assert (made["type"], made["settings"]) == ("notification", settings)
    assert api.result("GET", consumers) == [made]
    assert api.refused("POST", f"{api.account}/queues/{queue}/messages/pull", {})[:2] == (405, 0)
    one = f"{consumers}/{made['consumer_id']}"
    assert api.result("PUT", one, {"type": "http_pull"})["type"] == "http_pull"
    assert api.result("POST", f"{api.account}/queues/{queue}/messages/pull", {})["messages"] == []


def test_the_old_name_of_the_visibility_timeout_changes_nothing_and_the_log_says_so(api, caplog):
    api.push("a")
    [message] = api.pull(visibility_timeout=5)
    assert "visibility_timeout_ms" in caplog.text
    api.cf.advance(20)
    assert (message["body"], api.pull()) == ("a", [])
    caplog.clear()
    api.pull(visibility_timeout_ms=5000)
    assert caplog.text.count("visibility_timeout") == 0
