"""The largest and the smallest value of each setting, and one beyond it."""

from __future__ import annotations

from typing import Any

from airflow_provider_cfqueues.emulator.conformance.api import Answer
from airflow_provider_cfqueues.emulator.conformance.facts import Fact, Saw, Steps, documented, probe
from airflow_provider_cfqueues.emulator.conformance.lab import Lab, Queue

_KEPT = "kept; one more is refused: 400, code {}"


def _limit(at: Answer, beyond: Answer) -> str:
    return f"kept; one more is {beyond.said()}" if at.ok else at.said()


def _of_consumer(name: str, question: str, setting: str, largest: int) -> None:
    @probe(documented(name, question, _KEPT.format(100127), "status"))
    def look(lab: Lab, saw: Saw) -> Steps:
        queue = lab.create()
        queue.consume()
        saw[name] = _limit(queue.consume("", **{setting: largest}), queue.consume("", **{setting: largest + 1}))
        yield 0


_of_consumer("retry-delay-largest", "A retry_delay of 24 hours.", "retry_delay", 86_400)
_of_consumer("visibility-timeout-largest", "A visibility timeout of 12 hours.", "visibility_timeout_ms", 43_200_000)
_of_consumer("max-retries-largest", "A max_retries of 100.", "max_retries", 100)
_of_consumer("batch-size-largest", "A batch_size of 100 of a consumer.", "batch_size", 100)


@probe(
    documented("retention-smallest", "A retention of 60 seconds.", _KEPT.format(100128), "status"),
    Fact("delivery-delay-largest", "A delivery delay of 24 hours.", _KEPT.format(100128), "status"),
)
def of_queue(lab: Lab, saw: Saw) -> Steps:
    """Change the settings of a queue."""
    queue = lab.create()
    saw["retention-smallest"] = _limit(
        _set(queue, message_retention_period=60), _set(queue, message_retention_period=59)
    )
    saw["delivery-delay-largest"] = _limit(_set(queue, delivery_delay=86_400), _set(queue, delivery_delay=86_401))
    yield 0


def _set(queue: Queue, **settings: Any) -> Answer:
    return queue.call("PATCH", "", {"settings": settings})


@probe(
    documented("delay-largest", "A message with a delay of 24 hours.", _KEPT.format(10203)),
    documented("batch-delay-largest", "A batch with a delay of 24 hours.", _KEPT.format(10202)),
    Fact("pull-largest", "A pull of 100 messages.", _KEPT.format(10207), "status"),
    Fact("lease-largest", "A lease of 12 hours.", _KEPT.format(10207), "status"),
    Fact("fraction-sent", "A delay of 1.5 seconds on a message.", "accepted", "fractions"),
    Fact("fraction-consumer", "A retry_delay of 1.5 seconds.", "accepted", "fractions"),
    Fact("null-delay", "A delay of null.", "refused: 400, code 10203", "null"),
)
def of_messages(lab: Lab, saw: Saw) -> Steps:
    """Send and pull with delays and sizes at their limits."""
    queue = yield from lab.queue()
    saw["delay-largest"] = _limit(queue.send("a", delay_seconds=86_400), queue.send("a", delay_seconds=86_401))
    saw["batch-delay-largest"] = _limit(_send_batch(queue, 86_400), _send_batch(queue, 86_401))
    saw["pull-largest"] = _limit(queue.pull_once(100), queue.pull_once(101))
    saw["lease-largest"] = _limit(queue.pull_once(1, 43_200), queue.pull_once(1, 43_200.001))
    saw["fraction-sent"] = queue.send("a", delay_seconds=1.5).said()
    saw["fraction-consumer"] = queue.consume(retry_delay=1.5).said()
    saw["null-delay"] = queue.send("a", delay_seconds=None).said()


def _send_batch(queue: Queue, delay: float) -> Answer:
    body = {"messages": [{"body": "a", "content_type": "text"}], "delay_seconds": delay}
    return queue.push(body, 1, action="/messages/batch")
