"""Queues by name, over all pages of the list; metrics."""

from __future__ import annotations

import pytest
import requests

from airflow_provider_cfqueues.exceptions import NotFoundError


def create(cf, *names):
    url = f"{cf.base_url}/accounts/{cf.account_id}/queues"
    for name in names:
        answer = requests.post(
            url, json={"queue_name": name}, headers={"Authorization": f"Bearer {cf.api_token}"}, timeout=5
        )
        answer.raise_for_status()


def lists(cf):
    return [request for request in cf.requests() if request["method"] == "GET" and request["path"].endswith("/queues")]


def test_all_pages_of_the_list_are_read(hook, cf):
    names = [f"queue-{number:03}" for number in range(130)]
    create(cf, *names)
    assert {queue.queue_name for queue in hook.list_queues()} == {*names, *cf.queues}
    assert len(lists(cf)) > 1


def test_a_queue_is_found_by_name_and_remembered(hook, cf):
    (name, queue_id) = next(iter(cf.queues.items()))
    assert hook.get_queue_id(name) == queue_id
    assert hook.get_queue_id(name) == queue_id
    assert len(lists(cf)) == 1


def test_a_missing_queue_is_an_error_that_names_similar_ones(hook, cf):
    create(cf, "orders-eu")
    with pytest.raises(NotFoundError, match=r"'order-eu'.*similar names: orders-eu") as caught:
        hook.get_queue_id("order-eu")
    assert "cloudflare_default" in str(caught.value)


def test_looking_for_a_missing_queue_does_not_read_every_page_of_a_large_account(hook, cf):
    create(cf, *[f"queue-{number:03}" for number in range(130)])
    with pytest.raises(NotFoundError, match="similar names: queue-01"):
        hook.get_queue_id("queue-01x")
    assert len(lists(cf)) == 2


def test_an_api_that_ignores_the_name_asked_for_names_similar_ones_in_one_look(hook, cf):
    queues = [{"queue_id": "1" * 32, "queue_name": "orders-eu", "settings": {}}]
    cf.add_fault("queues", status=200, body={"success": True, "result": queues})
    with pytest.raises(NotFoundError, match=r"'order-eu'.*similar names: orders-eu"):
        hook.get_queue_id("order-eu")
    assert len(lists(cf)) == 1


def test_metrics_tell_the_backlog(hook, cf):
    queue = next(iter(cf.queues.values()))
    assert hook.get_metrics(queue).backlog_count == 0
    hook.send(queue, ["a", "b"])
    metrics = hook.get_metrics(queue)
    assert metrics.backlog_count == 2
    assert metrics.backlog_bytes > 0
    assert metrics.oldest_message_timestamp is not None


def test_the_number_of_pages_is_believed(cf, hook):
    more = {
        "success": True,
        "result": [{"queue_id": "a" * 32, "queue_name": "first"}],
        "result_info": {"total_pages": 2},
    }
    cf.add_fault("queues", status=200, body=more)
    cf.add_fault("queues", status=200, body={"success": True, "result": [], "result_info": {}})
    assert [queue.queue_name for queue in hook.list_queues()] == ["first"]
    assert [request["query"] for request in cf.requests()] == ["page=1", "page=2"]
