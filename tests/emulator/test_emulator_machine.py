"""
The law of the broker, under any sequence of calls and any passing of time.

The machine keeps its own ledger from the answers alone: what was sent, and which live lease owns what.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from airflow_provider_cfqueues.emulator import Clock
from airflow_provider_cfqueues.emulator.broker import Broker
from airflow_provider_cfqueues.emulator.model import ConsumerSettings, Outgoing, QueueSettings, Retry

RETENTION = 600
MAX_RETRIES = 2
DELAYS = st.sampled_from([0, 0.5, 7, 40])


@dataclass
class Lease:
    queue: str
    message: str
    ends_ms: int
    expires_ms: int


class BrokerMachine(RuleBasedStateMachine):
    leases = Bundle("leases")
    refs = Bundle("refs")

    def __init__(self):
        super().__init__()
        self.clock = Clock(lambda: 1_800_000_000)
        self.broker = Broker(clock=self.clock, random=random.Random(0))
        self.live: dict[str, Lease] = {}
        self.sent: set[str] = set()
        self.settled: set[str] = set()
        self.lossy = False

    @initialize(dead_letters=st.booleans(), retry_delay=st.sampled_from([0, 7.5]))
    def make_queues(self, dead_letters, retry_delay):
        brief = QueueSettings(message_retention_period=RETENTION)
        consumer = ConsumerSettings(max_retries=MAX_RETRIES, retry_delay=retry_delay, visibility_timeout_ms=20_000)
        self.queues = [self.broker.queues.create(name, settings=brief).id for name in ("dead", "work")]
        names = ["", "dead" if dead_letters else ""]
        for queue, dead_letter_queue in zip(self.queues, names, strict=True):
            self.broker.queues.add_consumer(queue, dead_letter_queue=dead_letter_queue, settings=consumer)
        self.dead, self.work = self.queues

    def forget_ended(self):
        now = self.clock.now_ms()
        self.live = {ticket: lease for ticket, lease in self.live.items() if min(lease.ends_ms, lease.expires_ms) > now}

    def end(self, message):
        self.live = {ticket: lease for ticket, lease in self.live.items() if lease.message != message}

    @rule(count=st.integers(1, 3), delay=st.one_of(st.none(), DELAYS))
    def send(self, count, delay):
        ids = self.broker.send(self.work, [Outgoing(body=b"x", delay_seconds=delay)] * count)
        assert self.sent.isdisjoint(ids)
        self.sent.update(ids)

    @rule(
        target=leases,
        dead=st.booleans(),
        size=st.integers(1, 4),
        timeout=st.one_of(st.none(), st.integers(1, 60_000)),
    )
    def pull(self, dead, size, timeout):
        queue = self.dead if dead else self.work
        self.forget_ended()
        owned = {lease.message for lease in self.live.values()}
        messages = self.broker.pull(queue, size, timeout)
        ids = [message.id for message in messages]
        assert len(ids) == len(set(ids)) <= size
        assert owned.isdisjoint(ids), "two live leases on one message"
        assert self.sent.issuperset(ids)
        assert self.settled.isdisjoint(ids), "delivered after it was acknowledged"
        ends = self.clock.now_ms() + (20_000 if timeout is None else timeout)
        for message in messages:
            assert 1 <= message.attempts <= MAX_RETRIES + 1
            assert message.ticket not in self.live
            self.live[message.ticket] = Lease(queue, message.id, ends, message.timestamp_ms + RETENTION * 1000)
        return multiple(*((queue, message.ticket, message.id) for message in messages))

    @rule(lease=leases)
    def ack(self, lease):
        queue, ticket, message = lease
        self.forget_ended()
        done = self.broker.settle(queue, acks=[ticket])
        assert done.acked + len(done.warnings) == 1
        if ticket in self.live:
            assert done.acked == 1, done.warnings
        if done.acked:
            self.settled.add(message)
            self.end(message)

    @rule(lease=leases, delay=st.one_of(st.none(), DELAYS))
    def retry(self, lease, delay):
        queue, ticket, _ = lease
        self.forget_ended()
        done = self.broker.settle(queue, retries=[Retry(ticket, delay)])
        assert done.retried + len(done.warnings) == 1
        if ticket in self.live:
            assert done.retried == 1, done.warnings
            del self.live[ticket]

    @rule(acked=consumes(leases), retried=leases)
    def settle_both(self, acked, retried):
        queue = acked[0]
        self.forget_ended()
        done = self.broker.settle(queue, [acked[1]], [Retry(retried[1])])
        assert done.acked + done.retried + len(done.warnings) >= 1
        if done.acked:
            self.settled.add(acked[2])
            self.end(acked[2])
        if done.retried:
            self.live.pop(retried[1], None)

    @rule(lease=leases, timeout=st.integers(1, 90_000))
    def extend(self, lease, timeout):
        queue, ticket, _message = lease
        self.forget_ended()
        renewed, _ = self.broker.extend(queue, [ticket], timeout)
        assert (ticket in renewed) == (ticket in self.live)
        if renewed:
            self.live[ticket].ends_ms = self.clock.now_ms() + timeout

    @rule(target=refs, dead=st.booleans())
    def peek(self, dead):
        queue = self.dead if dead else self.work
        self.forget_ended()
        messages = self.broker.peek(queue)
        assert {lease.message for lease in self.live.values()}.isdisjoint(message.id for message in messages)
        return multiple(*((queue, message.ticket, message.id) for message in messages))

    @rule(ref=consumes(refs))
    def purge_one(self, ref):
        queue, ticket, message = ref
        if not self.broker.remove(queue, [ticket]):
            self.settled.add(message)
            self.end(message)

    @rule(seconds=st.sampled_from([0.001, 1, 19.999, 20, 60, RETENTION]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def every_message_is_somewhere_exactly_once(self):
        if not hasattr(self, "queues"):
            return
        reports = [self.broker.report(queue) for queue in self.queues]
        there = Counter(message.id for report in reports for message in report.messages)
        assert all(count == 1 for count in there.values())
        assert self.settled.isdisjoint(there)
        gone = sum(report.totals[how] for report in reports for how in ("acked", "purged", "expired", "exhausted"))
        assert len(self.sent) == len(there) + gone, "a message was lost or doubled"

    @invariant()
    def counts_add_up(self):
        for queue in getattr(self, "queues", ()):
            report = self.broker.report(queue)
            ways_out = ("acked", "purged", "expired", "exhausted", "dead_lettered")
            assert report.totals["received"] == report.metrics.backlog_count + sum(
                report.totals[way] for way in ways_out
            )
            assert sum(report.states.values()) == report.metrics.backlog_count == len(report.messages)
            assert report.metrics.backlog_bytes == report.metrics.backlog_count
            assert report.totals["delivered"] >= report.totals["acked"]

    @invariant()
    def a_live_lease_owns_a_leased_message(self):
        self.forget_ended()
        for queue in getattr(self, "queues", ()):
            states = {message.id: message.state for message in self.broker.report(queue).messages}
            for lease in self.live.values():
                if lease.queue == queue:
                    assert states[lease.message] == "leased"

    def teardown(self):
        self.broker.close()


BrokerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_the_broker_keeps_its_law = BrokerMachine.TestCase
