"""Looking at messages without pulling them, counting them, and deleting them."""

from __future__ import annotations

from airflow_provider_cfqueues.emulator.conformance.api import Answer, NoOccasion
from airflow_provider_cfqueues.emulator.conformance.facts import Fact, Saw, Steps, documented, probe
from airflow_provider_cfqueues.emulator.conformance.lab import Lab, Queue, Wait, leases

SETTLES = 5
"""Seconds until the numbers of a real queue follow what happened to it."""


@probe(
    documented("peek", "Peek, while one of two messages is leased.", "shows the other", "peek"),
    documented("peek-attempts", "Whether a peek counts as a delivery.", "no"),
    Fact("peek-without-consumer", "Peek at a queue without a consumer.", "accepted"),
    documented("purge-ref", "Deleting a message by its ref.", "deleted, without a warning"),
    Fact("purge-ref-again", "Deleting it once more.", "with a warning", "lease-refused"),
)
def peek(lab: Lab, saw: Saw) -> Steps:
    """Look at messages, and delete by ref."""
    saw["peek-without-consumer"] = lab.create().call("POST", "/messages/peek", {}).said()
    queue = yield from lab.queue()
    queue.send("a", "b")
    yield from queue.pull(1)
    yield SETTLES
    peeked = queue.call("POST", "/messages/peek", {"batch_size": 10}).messages
    saw["peek"] = "shows the other" if len(peeked) == 1 else f"shows {len(peeked)}"
    ready = [message for message in peeked if not message.get("attempts")]
    saw["peek-attempts"] = "no" if ready else "yes"
    if ready:
        refs = {"refs": [{"ref": ready[0]["ref"]}]}
        answer = queue.call("POST", "/messages/purge", refs)
        _, left = yield from queue.arrives(SETTLES)
        saw["purge-ref"] = answer.said(f"{'still there' if left else 'deleted'}, {_warned(answer)}")
        again = queue.call("POST", "/messages/purge", refs)
        saw["purge-ref-again"] = again.said(_warned(again))


def _warned(answer: Answer) -> str:
    return f"{'with' if answer.result.get('warnings') or answer.result.get('errors') else 'without'} a warning"


@probe(
    documented("preview", "Preview.", "accepted", "preview"),
    Fact("preview-retry", "Retrying what was previewed.", "accepted, and it is still there", "preview-retries"),
    Fact("preview-ack", "Acking what was previewed.", "accepted, and it is gone", "preview"),
)
def preview(lab: Lab, saw: Saw) -> Steps:
    """Preview messages; the SDKs do not, and one caller could not."""
    queue = yield from lab.queue()
    queue.send("a")
    yield SETTLES
    answer = queue.call("POST", "/messages/preview", {"batch_size": 1})
    saw["preview"] = answer.said()
    messages = answer.messages
    if messages:
        lease = messages[0]["lease_id"]
        body = {"acks": [], "retries": [{"lease_id": lease}]}
        saw["preview-retry"] = yield from _after(queue, body)
        saw["preview-ack"] = yield from _after(queue, {"acks": leases([lease]), "retries": []})


def _after(queue: Queue, body: object) -> Wait[str]:
    answer = queue.call("POST", "/messages/preview/ack", body)
    yield SETTLES
    left = queue.call("POST", "/messages/peek", {"batch_size": 10}).messages
    return f"{answer.said()}, and it is {'still there' if left else 'gone'}"


@probe(
    Fact("metrics-leased", "The backlog_count with one message leased and one ready.", "2"),
    Fact("metrics-delayed", "The backlog_count with one more that is delayed.", "3", "metrics"),
    documented("metrics-keys", "The keys of the metrics.", "backlog_bytes, backlog_count, oldest_message_timestamp_ms"),
    Fact("metrics-bytes", "The backlog_bytes of three messages of one byte.", "3"),
)
def metrics(lab: Lab, saw: Saw) -> Steps:
    """Measure a queue."""
    queue = yield from lab.queue()
    queue.send("a", "b")
    yield from queue.pull(1)
    yield SETTLES
    found = queue.call("GET", "/metrics").result
    saw["metrics-keys"] = ", ".join(sorted(found))
    saw["metrics-leased"] = str(found.get("backlog_count"))
    queue.send("c", delay_seconds=600)
    yield SETTLES
    found = queue.call("GET", "/metrics").result
    saw["metrics-delayed"] = str(found.get("backlog_count"))
    saw["metrics-bytes"] = str(found.get("backlog_bytes"))


@probe(
    Fact(
        "purge-unconfirmed", "A purge that does not say that it deletes for good.", "refused: 400, code 10207", "status"
    ),
    Fact("purge-before", "The status before the first purge.", "completed is empty", "purge"),
    Fact("purge-after", "The status right after a purge.", "completed is true", "purge"),
    documented("purge-delayed", "A delayed message after a purge.", "gone"),
    Fact("purge-leased", "An ack of a message that was leased when the queue was purged.", "not counted", "purge"),
)
def purge(lab: Lab, saw: Saw) -> Steps:
    """Purge a queue."""
    queue = yield from lab.queue()
    queue.send("leased")
    lease = (yield from queue.one())["lease_id"]
    queue.send("later", delay_seconds=SETTLES * 3)
    saw["purge-unconfirmed"] = queue.call("POST", "/purge", {}).said()
    saw["purge-before"] = _completed(queue)
    queue.call("POST", "/purge", {"delete_messages_permanently": True})
    saw["purge-after"] = _completed(queue)
    yield SETTLES * 3
    _, left = yield from queue.arrives(SETTLES)
    saw["purge-delayed"] = "still there" if left else "gone"
    saw["purge-leased"] = queue.settle([lease]).taken()


def _completed(queue: Queue) -> str:
    return f"completed is {queue.call('GET', '/purge').result.get('completed') or 'empty'}"


@probe(documented("subscriptions-list", "The list of event subscriptions.", "accepted"))
def subscriptions_list(lab: Lab, saw: Saw) -> Steps:
    """List event subscriptions; none is created, since they would touch other resources of the account."""
    saw["subscriptions-list"] = lab.api.call("GET", "/event_subscriptions/subscriptions?per_page=1").said()
    yield 0


def _never(fact: Fact, reason: str) -> None:
    @probe(fact)
    def look(_: Lab, __: Saw) -> Steps:
        yield 0
        raise NoOccasion(reason)


_never(
    Fact("rate-limit", "Whether pulls and acks count towards the API limit.", "they do", "rate-limit"),
    "it would take 1,200 requests, and block the token for five minutes",
)
_never(
    Fact("second-subscription", "A second event subscription on a resource.", "405, code 11000", "subscriptions"),
    "it would send events of other resources of the account",
)
_never(
    Fact("notification-consumer", "A pull with a notification consumer.", "405, code 0", "notification-consumers"),
    "it would send mail",
)
