"""How often and when a message is delivered, and what becomes of it at last."""

from __future__ import annotations

from collections.abc import Generator

from airflow_provider_cfqueues.emulator.conformance.api import NoOccasion
from airflow_provider_cfqueues.emulator.conformance.facts import Fact, Saw, Steps, documented, probe
from airflow_provider_cfqueues.emulator.conformance.lab import PATIENCE, SHORT, Lab, Queue

DELAY = 30
"""The retry_delay where it matters: much longer than the real API may be late."""
MAX_RETRIES = 2


def _timing(waited: float, message: object) -> str:
    if not message:
        return "not delivered again"
    return "at once" if waited < DELAY / 2 else "after the retry_delay"


def _retried(name: str, question: str, answer: str, **delay: int) -> None:
    @probe(documented(name, question, answer))
    def look(lab: Lab, saw: Saw) -> Steps:
        queue = yield from lab.queue(retry_delay=DELAY)
        queue.send("a")
        message = yield from queue.one()
        queue.retry(message["lease_id"], **delay)
        saw[name] = _timing(*(yield from queue.arrives(DELAY + PATIENCE)))


_retried("retry-delay", "A retry without a delay, where the consumer has a retry_delay.", "after the retry_delay")
_retried(
    "retry-delay-zero", "A retry with a delay of 0, where the consumer has a retry_delay.", "at once", delay_seconds=0
)


@probe(
    documented(
        "lease-end", "A lease that ends, where the consumer has a retry_delay.", "after the retry_delay", "lease-end"
    )
)
def lease_end(lab: Lab, saw: Saw) -> Steps:
    """Let a lease end."""
    queue = yield from lab.queue(retry_delay=DELAY)
    queue.send("a")
    yield from queue.one(SHORT)
    yield SHORT
    saw["lease-end"] = _timing(*(yield from queue.arrives(DELAY + PATIENCE)))


@probe(documented("delivery-delay-zero", "A message with a delay of 0 in a queue with a delivery_delay.", "at once"))
def delivery_delay(lab: Lab, saw: Saw) -> Steps:
    """Send a message that is to be delivered at once to a queue that delays."""
    queue = yield from lab.queue()
    queue.call("PATCH", "", {"settings": {"delivery_delay": DELAY}})
    yield 3
    queue.send("a", delay_seconds=0)
    saw["delivery-delay-zero"] = _timing(*(yield from queue.arrives(DELAY + PATIENCE)))


def _until_gone(
    queue: Queue, target: Queue | None, by_retry: bool
) -> Generator[float, None, tuple[int, dict[str, object]]]:
    """Fail a message until it is gone; return after how many deliveries, and what its dead-letter queue got."""
    for deliveries in range(5):
        _, message = yield from queue.arrives(PATIENCE / 2, SHORT)
        if not message:
            _, dead = (yield from target.arrives(PATIENCE)) if target else (0, {})
            return deliveries, dead
        if by_retry:
            queue.retry(message["lease_id"], delay_seconds=0)
        else:
            yield SHORT
    return 5, {}


def _count(deliveries: int, dead: object) -> str:
    much = {MAX_RETRIES: "max_retries", MAX_RETRIES + 1: "max_retries + 1"}.get(deliveries, str(deliveries))
    return f"{much} deliveries, then {'dead-lettered' if dead else 'gone'}"


def _deliveries(name: str, question: str, end: str) -> Fact:
    more, less = (f"{much} deliveries, then {end}" for much in ("max_retries + 1", "max_retries"))
    return documented(name, question, more, "attempts", less)


@probe(
    _deliveries("deliveries-retried", "How often a message is delivered that is retried each time.", "dead-lettered"),
    Fact("dead-letter-id", "The id of a dead-lettered message.", "kept", "dead-letter-id"),
    documented("dead-letter-body", "The body of a dead-lettered message.", "kept"),
    Fact("dead-letter-timestamp", "The timestamp of a dead-lettered message.", "new", "dead-letter-timestamp"),
    Fact(
        "dead-letter-attempts",
        "The attempts at the first delivery of a dead-lettered message.",
        "1",
        "dead-letter-attempts",
    ),
    documented("attempts", "The attempts at the first delivery of a message.", "1"),
)
def retried_to_death(lab: Lab, saw: Saw) -> Steps:
    """Retry a message until it is dead-lettered, and compare it."""
    dead_letter_queue = yield from lab.queue()
    queue = yield from lab.queue(dead_letter_queue.name, max_retries=MAX_RETRIES)
    queue.send("to be dead-lettered")
    message = yield from queue.one()
    saw["attempts"] = str(message["attempts"])
    yield SHORT
    queue.retry(message["lease_id"], delay_seconds=0)
    more, dead = yield from _until_gone(queue, dead_letter_queue, by_retry=True)
    saw["deliveries-retried"] = _count(more + 1, dead)
    if dead:
        saw["dead-letter-id"] = "kept" if dead["id"] == message["id"] else "new"
        saw["dead-letter-body"] = "kept" if dead["body"] == message["body"] else "changed"
        saw["dead-letter-timestamp"] = "kept" if dead["timestamp_ms"] == message["timestamp_ms"] else "new"
        saw["dead-letter-attempts"] = str(dead["attempts"])


@probe(_deliveries("deliveries-lease-end", "How often a message is delivered whose leases end.", "dead-lettered"))
def left_to_death(lab: Lab, saw: Saw) -> Steps:
    """Let the leases of a message end until it is dead-lettered."""
    dead_letter_queue = yield from lab.queue()
    queue = yield from lab.queue(dead_letter_queue.name, max_retries=MAX_RETRIES)
    queue.send("a")
    deliveries, dead = yield from _until_gone(queue, dead_letter_queue, by_retry=False)
    saw["deliveries-lease-end"] = _count(deliveries, dead)


@probe(_deliveries("deliveries-deleted", "How often a message is delivered without a dead-letter queue.", "gone"))
def retried_to_deletion(lab: Lab, saw: Saw) -> Steps:
    """Retry a message until it is deleted."""
    queue = yield from lab.queue(max_retries=MAX_RETRIES)
    queue.send("a")
    deliveries, _ = yield from _until_gone(queue, None, by_retry=True)
    saw["deliveries-deleted"] = _count(deliveries, None)


@probe(Fact("last-delivery", "max_retries is raised before the last lease ends.", "saves the message", "last-delivery"))
def saved(lab: Lab, saw: Saw) -> Steps:
    """Raise max_retries while the last lease of a message lasts."""
    queue = yield from lab.queue(max_retries=0)
    queue.send("a")
    yield from queue.one(SHORT + 3)
    queue.consume(max_retries=9)
    yield SHORT + 3
    _, message = yield from queue.arrives(PATIENCE)
    saw["last-delivery"] = "saves the message" if message else "comes too late"


@probe(
    Fact("retention", "A retention of 60 seconds, set after a message was sent.", "the message is gone", "retention"),
    Fact(
        "retention-leased",
        "An ack of a message older than the retention, while it is leased.",
        "not counted",
        "retention",
    ),
)
def retention(lab: Lab, saw: Saw) -> Steps:
    """Let a message expire."""
    queue = yield from lab.queue()
    queue.send("leased", "waits")
    [leased] = yield from queue.pull(1)
    answer = queue.call("PATCH", "", {"settings": {"message_retention_period": 60}})
    if not answer.ok:
        raise NoOccasion(f"the retention cannot be changed ({answer.said()})")
    yield 60 + PATIENCE
    _, message = yield from queue.arrives(PATIENCE / 2)
    saw["retention"] = "the message is there" if message else "the message is gone"
    saw["retention-leased"] = queue.settle([leased["lease_id"]]).taken()


@probe(
    Fact(
        "order",
        "Which message comes first: one that was retried, or a later one that has waited longer.",
        "the one that has waited longer",
        "order",
    )
)
def order(lab: Lab, saw: Saw) -> Steps:
    """Retry the first of two messages, and pull one."""
    queue = yield from lab.queue()
    queue.send("first")
    message = yield from queue.one()
    queue.send("second")
    yield 3
    queue.retry(message["lease_id"], delay_seconds=0)
    yield 3
    came = yield from queue.one()
    saw["order"] = {"second": "the one that has waited longer", "first": "the older one"}.get(came["body"], "another")


@probe(
    Fact(
        "pull-size",
        "A pull without batch_size, where the consumer's is 2 and 7 messages wait.",
        "2, that of the consumer",
        "batch-size",
        ("5",),
    )
)
def pull_size(lab: Lab, saw: Saw) -> Steps:
    """Pull without saying how many."""
    queue = yield from lab.queue(batch_size=2)
    queue.send(*"abcdefg")
    yield 3
    messages = (yield from queue.answered(None)).messages
    saw["pull-size"] = "2, that of the consumer" if len(messages) == 2 else str(len(messages))
