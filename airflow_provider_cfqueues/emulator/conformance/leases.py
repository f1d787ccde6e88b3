"""What becomes of leases: unknown, used, doubled, foreign, late and many ones."""

from __future__ import annotations

from airflow_provider_cfqueues.emulator.conformance.facts import Fact, Saw, Steps, documented, probe
from airflow_provider_cfqueues.emulator.conformance.lab import PATIENCE, SHORT, Lab

_REFUSED = "0 counted, with a warning"
_COUNTED = "1 counted, without a warning"


@probe(
    Fact("unknown-lease", "An ack of a lease that looks right and was never given.", _REFUSED, "lease-refused"),
    Fact("malformed-lease", "An ack of a lease that looks like none.", _REFUSED, "lease-refused"),
    Fact("foreign-lease", "An ack of a lease at another queue.", _REFUSED, "lease-refused"),
    Fact("acked-lease", "An ack of a lease that was acked before.", _REFUSED, "lease-refused"),
    Fact("acked-lease-retried", "A retry of a lease that was acked before.", _REFUSED, "lease-refused"),
    Fact("retried-lease", "An ack of a lease that was retried before.", _REFUSED, "lease-refused"),
    documented("warnings-shape", "The warnings of an ack.", "an object, lease to text", "lease-refused"),
    Fact(
        "warning-text",
        "The text of the warning about an unknown lease.",
        "lease is unknown or malformed",
        "lease-refused",
    ),
)
def refused(lab: Lab, saw: Saw) -> Steps:
    """Ack leases that are not good, or not good any more."""
    queue = yield from lab.queue()
    other = yield from lab.queue()
    queue.send("a", "b")
    first, second = (message["lease_id"] for message in (yield from queue.pull(2)))
    unknown = first[:-8] + ("A" * 8 if first[-8:] != "A" * 8 else "B" * 8)
    answer = queue.settle([unknown])
    saw["unknown-lease"] = answer.settled()
    warnings = answer.result.get("warnings")
    if warnings:
        keyed = isinstance(warnings, dict) and list(warnings) == [unknown]
        saw["warnings-shape"] = "an object, lease to text" if keyed else f"another {type(warnings).__name__}"
        saw["warning-text"] = str(warnings[unknown] if keyed else warnings).replace(unknown, "LEASE")
    saw["malformed-lease"] = queue.settle(["no-lease"]).settled()
    saw["foreign-lease"] = other.settle([first]).settled()
    queue.settle([first])
    saw["acked-lease"] = queue.settle([first]).settled()
    saw["acked-lease-retried"] = queue.retry(first).settled("retryCount")
    queue.retry(second, delay_seconds=600)
    saw["retried-lease"] = queue.settle([second]).settled()


@probe(
    Fact("doubled-lease", "A lease that is twice in the acks of a call.", "1 counted, with a warning", "lease-refused"),
    Fact("ack-and-retry", "A lease in the acks and in the retries of a call.", "1 acked, 0 retried", "first-use-wins"),
    Fact("ack-of-nothing", "A call without acks and retries.", "0 counted, without a warning"),
)
def doubled(lab: Lab, saw: Saw) -> Steps:
    """Name a lease twice in a call."""
    queue = yield from lab.queue()
    queue.send("a", "b")
    first, second = (message["lease_id"] for message in (yield from queue.pull(2)))
    saw["doubled-lease"] = queue.settle([first, first]).settled()
    both = queue.settle([second], [{"lease_id": second}])
    if both.ok:
        saw["ack-and-retry"] = f"{both.result.get('ackCount')} acked, {both.result.get('retryCount')} retried"
    saw["ack-of-nothing"] = queue.settle().settled()


@probe(
    documented("late-ack", "An ack after the lease ended.", _COUNTED, "late-ack", _REFUSED),
    Fact("late-retry", "A retry after the lease ended.", _COUNTED, "late-retry"),
)
def late(lab: Lab, saw: Saw) -> Steps:
    """Settle messages whose leases have ended, and that nobody else has pulled."""
    queue = yield from lab.queue()
    queue.send("a", "b")
    first, second = (message["lease_id"] for message in (yield from queue.pull(2, SHORT)))
    yield SHORT + PATIENCE / 2
    saw["late-ack"] = queue.settle([first]).settled()
    saw["late-retry"] = queue.retry(second).settled("retryCount")


@probe(
    documented("later-lease", "An ack of the second lease, after a late ack of the first.", _COUNTED, "late-ack"),
    documented(
        "late-ack-pulled-again",
        "An ack after the lease ended and the message was pulled again.",
        _COUNTED,
        "late-ack",
        _REFUSED,
    ),
)
def late_ack_of_another(lab: Lab, saw: Saw) -> Steps:
    """Ack a message twice, by each of two leases."""
    queue = yield from lab.queue()
    queue.send("a")
    first = yield from queue.one(SHORT)
    yield SHORT
    second = yield from queue.one()
    saw["late-ack-pulled-again"] = queue.settle([first["lease_id"]]).settled()
    saw["later-lease"] = queue.settle([second["lease_id"]]).settled()


@probe(
    Fact(
        "late-retry-pulled-again",
        "A retry after the lease ended and the message was pulled again.",
        _COUNTED,
        "late-retry",
    ),
    Fact("later-lease-held", "The second lease after such a retry.", "it holds, and acks"),
)
def late_retry_of_another(lab: Lab, saw: Saw) -> Steps:
    """Give a message back by a lease that has ended, while another holds it."""
    queue = yield from lab.queue()
    queue.send("a")
    first = yield from queue.one(SHORT)
    yield SHORT
    second = yield from queue.one()
    saw["late-retry-pulled-again"] = queue.retry(first["lease_id"], delay_seconds=0).settled("retryCount")
    _, again = yield from queue.arrives(within=6)
    acked = queue.settle([second["lease_id"]]).settled()
    held = not again and acked == _COUNTED
    saw["later-lease-held"] = "it holds, and acks" if held else f"{'pulled again' if again else 'held'}, {acked}"


@probe(Fact("lease-count", "An ack of 101 leases.", "101 counted, without a warning", "lease-count"))
def many(lab: Lab, saw: Saw) -> Steps:
    """Ack more leases than a pull can give."""
    queue = yield from lab.queue()
    queue.send(*["a"] * 100)
    queue.send("a")
    messages = yield from queue.pull(100)
    messages += yield from queue.pull(1)
    saw["lease-count"] = queue.settle(message["lease_id"] for message in messages).settled()


@probe(
    Fact(
        "ack-without-consumer", "An ack at a queue whose consumer was deleted.", _COUNTED, "settling-needs-no-consumer"
    ),
    Fact("ack-while-paused", "An ack while delivery is paused.", _COUNTED),
    documented("send-while-paused", "A message while delivery is paused.", "accepted"),
    documented("pull-while-paused", "A pull while delivery is paused.", "409, code 0", "paused", "429, code 10252"),
)
def paused(lab: Lab, saw: Saw) -> Steps:
    """Settle and pull while the queue is paused, and without a consumer."""
    queue = yield from lab.queue()
    queue.send("a", "b")
    first, second = (message["lease_id"] for message in (yield from queue.pull(2)))
    queue.call("PATCH", "", {"settings": {"delivery_paused": True}})
    yield 3
    saw["pull-while-paused"] = str(queue.pull_once())
    saw["send-while-paused"] = queue.send("c").said()
    saw["ack-while-paused"] = queue.settle([first]).settled()
    queue.call("PATCH", "", {"settings": {"delivery_paused": False}})
    queue.call("DELETE", f"/consumers/{queue.consumer_id}")
    yield 3
    saw["ack-without-consumer"] = queue.settle([second]).settled()


@probe(
    documented("extend", "Extending a lease.", "accepted", "extend"),
    documented("extended-lease", "An extended lease after its first end.", "it holds", "extend"),
    Fact("extended-old-lease", "A retry with the lease that was extended.", "counted", "extend"),
    documented("extended-attempts", "The attempts of the next delivery.", "2", "extend"),
    Fact("extend-ended", "Extending a lease that has ended.", "not counted", "extend"),
)
def extend(lab: Lab, saw: Saw) -> Steps:
    """Extend leases; no page of the documentation speaks of it, only the schema does."""
    queue = yield from lab.queue()
    queue.send("a", "b")
    first, second = (message["lease_id"] for message in (yield from queue.pull(2, SHORT + 3)))
    answer = queue.call("POST", "/messages/extend", {"extend": [{"lease_id": first}], "visibility_timeout_ms": 600_000})
    saw["extend"] = answer.said()
    if not answer.ok:
        return
    yield SHORT + 3 + PATIENCE / 2
    ended = queue.call("POST", "/messages/extend", {"extend": [{"lease_id": second}]})
    saw["extend-ended"] = ended.taken("extendCount")
    yield from queue.one()  # the second
    _, again = yield from queue.arrives(within=4)
    saw["extended-lease"] = "it has ended" if again else "it holds"
    retried = queue.retry(first, delay_seconds=0)
    saw["extended-old-lease"] = retried.taken("retryCount")
    if retried.taken("retryCount") == "counted":
        saw["extended-attempts"] = str((yield from queue.one())["attempts"])


@probe(Fact("old-name", "visibility_timeout of 2 seconds, the wrong name, in a pull.", "ignored"))
def old_name(lab: Lab, saw: Saw) -> Steps:
    """Pull with the name that wrangler still prints."""
    queue = yield from lab.queue()
    queue.send("a")
    yield from queue.answered(1, None, visibility_timeout=2)
    waited, message = yield from queue.arrives(within=2 + PATIENCE / 2)
    saw["old-name"] = f"taken as {'seconds' if waited else 'milliseconds'}" if message else "ignored"
