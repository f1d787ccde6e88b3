"""Creating queues and pull consumers, and changing those that exist."""

from __future__ import annotations

import json

import pytest


def queue_of(cf, name):
    (queue,) = (queue for queue in cf.state()["queues"] if queue["name"] == name)
    return queue


def test_a_queue_is_created_with_a_consumer_and_its_dead_letter_queue(cf, run):
    consumer = "--dead-letter-queue new-failed --max-retries 5 --retry-delay 10 --visibility-timeout 90 --batch-size 7"
    code, out, _ = run("create", "new", *consumer.split(), "--delivery-delay", "3", "--retention", "60")
    queue = queue_of(cf, "new")
    assert (code, out.splitlines()[-2:]) == (
        0,
        [f"Queue new ({queue['id']}): created", "Its pull consumer: created, max_retries=5, then new-failed"],
    )
    assert queue["consumer"]["dead_letter_queue"] == "new-failed"
    assert queue["consumer"]["settings"] == {
        "batch_size": 7,
        "max_retries": 5,
        "retry_delay": 10,
        "visibility_timeout_ms": 90_000,
    }
    assert queue["settings"]["delivery_delay"] == 3
    assert queue["settings"]["message_retention_period"] == 60
    code, out, _ = run("create", "new-failed")
    assert (code, out.splitlines()[-2]) == (0, f"Queue new-failed ({cf.queues['new-failed']}): existed already")
    told = "messages are deleted after their last delivery (a dead-letter queue itself usually has none)"
    assert f"created, max_retries=3, no dead-letter queue: {told}" in out


def test_an_existing_queue_gets_what_is_named_and_keeps_the_rest(cf, run):
    cf.create_queue("old", max_retries=9, batch_size=7)
    code, out, _ = run("create", "old", "--dead-letter-queue", "orders-failed", "--delivery-delay", "3", "--json")
    facts = json.loads(out)
    assert (code, facts["created"], facts["consumer"]) == (0, False, "updated")
    assert (facts["consumer_max_retries"], facts["batch_size"], facts["dead_letter_queue"]) == (9, 7, "orders-failed")
    assert queue_of(cf, "old")["settings"]["delivery_delay"] == 3
    assert json.loads(run("create", "old", "--json")[1])["consumer"] == "unchanged"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-retries", "101"), ("--retry-delay", "-1"), ("--retention", "1"), ("--dead-letter-queue", "")],
)
def test_a_wrong_setting_is_an_error_before_anything_is_created(cf, run, option, value):
    code, out, err = run("create", "new", option, value)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {option} must be ")
    assert "new" not in cf.queues
    assert cf.requests() == []
