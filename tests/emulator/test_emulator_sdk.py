"""Every queue call of Cloudflare's own SDK, which validates each answer strictly."""

from __future__ import annotations

import pytest

cloudflare = pytest.importorskip("cloudflare")


@pytest.fixture
def sdk(cf):
    with cloudflare.Cloudflare(
        base_url=cf.base_url, api_token=cf.api_token, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
def here(cf):
    return {"account_id": cf.account_id, "queue_id": cf.queues["my-queue"]}


def test_queues(sdk, cf):
    account = {"account_id": cf.account_id}
    queue = sdk.queues.create(**account, queue_name="orders", jurisdiction="eu")
    assert [found.queue_name for found in sdk.queues.list(**account)] == ["my-queue", "orders"]
    assert sdk.queues.get(queue.queue_id, **account) == queue
    edited = sdk.queues.edit(queue.queue_id, **account, settings={"delivery_delay": 5})
    assert edited.settings.delivery_delay == 5
    updated = sdk.queues.update(queue.queue_id, **account, queue_name="orders-2", settings={"delivery_paused": True})
    assert (updated.queue_name, updated.settings.delivery_delay) == ("orders-2", 0)
    assert sdk.queues.delete(queue.queue_id, **account).success is True
    with pytest.raises(cloudflare.NotFoundError):
        sdk.queues.get(queue.queue_id, **account)


def test_consumers(sdk, cf):
    account = {"account_id": cf.account_id}
    queue = sdk.queues.create(**account, queue_name="orders")
    here = {**account, "queue_id": queue.queue_id}
    made = sdk.queues.consumers.create(**here, type="http_pull", dead_letter_queue="dead")
    assert (made.type, made.dead_letter_queue, made.settings.max_retries) == ("http_pull", "dead", 3)
    assert [found.consumer_id for found in sdk.queues.consumers.list(**here)] == [made.consumer_id]
    assert sdk.queues.consumers.get(made.consumer_id, **here) == made
    changed = sdk.queues.consumers.update(made.consumer_id, **here, type="http_pull", settings={"max_retries": 7})
    assert changed.settings.max_retries == 7
    assert sdk.queues.consumers.delete(made.consumer_id, **here).success is True


def test_messages(sdk, here, cf):
    pushed = sdk.queues.messages.push(**here, body="one", content_type="text")
    assert pushed.metadata.metrics.backlog_count == 1
    batch = [
        {"body": {"two": 2}, "content_type": "json", "delay_seconds": 0},
        {"body": "3", "content_type": "text"},
    ]
    pushed = sdk.queues.messages.bulk_push(**here, messages=batch)
    assert pushed.metadata.metrics.backlog_count == 3
    pulled = sdk.queues.messages.pull(**here, batch_size=2, visibility_timeout_ms=6000)
    assert (pulled.message_backlog_count, len(pulled.messages)) == (3, 2)
    first, second = pulled.messages
    done = sdk.queues.messages.ack(
        **here,
        acks=[{"lease_id": first.lease_id}, {"lease_id": "nix"}],
        retries=[{"lease_id": second.lease_id, "delay_seconds": 10}],
    )
    assert (done.ack_count, done.retry_count) == (1, 1)
    assert list(done.warnings) == ["nix"]
    peeked = sdk.queues.messages.peek(**here, batch_size=5)
    assert [message.body for message in peeked.messages] == ["3"]
    purged = sdk.queues.messages.purge(**here, refs=[{"ref": peeked.messages[0].ref}, {"ref": "nix"}])
    assert (purged.errors, list(purged.warnings)) == ([], ["nix"])
    assert sdk.queues.get_metrics(**here).backlog_count == 1


def test_purge(sdk, here):
    sdk.queues.messages.push(**here, body={"a": 1})
    assert sdk.queues.purge.start(**here, delete_messages_permanently=True).queue_id == here["queue_id"]
    assert sdk.queues.purge.status(**here).completed == "true"
    assert sdk.queues.get_metrics(**here).backlog_count == 0


def test_tokens(sdk, cf):
    assert sdk.user.tokens.verify().status == "active"
    assert sdk.accounts.tokens.verify(account_id=cf.account_id).status == "active"


def test_the_legacy_scheme(cf):
    with cloudflare.Cloudflare(base_url=cf.base_url, api_email="me@example.com", api_key=cf.api_token) as client:
        assert len(list(client.queues.list(account_id=cf.account_id))) == 1


def test_errors_have_the_classes_of_the_sdk(sdk, here, cf):
    sdk.queues.edit(here["queue_id"], account_id=cf.account_id, settings={"delivery_paused": True})
    with pytest.raises(cloudflare.ConflictError):
        sdk.queues.messages.pull(**here)
    with pytest.raises(cloudflare.BadRequestError):
        sdk.queues.messages.push(**here, body="a string", content_type="json")
    with pytest.raises(cloudflare.PermissionDeniedError):
        sdk.queues.get(here["queue_id"], account_id="other")
    with pytest.raises(cloudflare.AuthenticationError):
        sdk.with_options(api_token="wrong").queues.get(here["queue_id"], account_id=cf.account_id)
