"""What really happened in a seed: its requests, which lease was given to whom, and what the broker did."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from airflow_provider_cfqueues.bodies import decode_body
from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.engines.settlement import Kind
from simulation.loop import VirtualTime
from simulation.scenario import QUEUE_ID


class Violation(Exception):
    """Something happened that must never happen."""


@dataclass(slots=True, eq=False, kw_only=True)
class Delivery:
    """
    A lease, and what became of it.

    :param number: of the message.
    :param message_id: its ID in the queue. A message that is sent again gets a new one.
    :param attempt: which delivery of it.
    :param process: whose lease it is.
    :param ends_ms: when it ends, by the broker's clock.
    """

    number: int
    message_id: str
    attempt: int
    process: Any
    ends_ms: int
    is_read: bool = False
    is_copied: bool = False
    sent: str = ""
    honoured: str = ""

    def __str__(self) -> str:
        return f"message {self.number}, delivery {self.attempt}, of {self.process.name}"


class Record:
    """
    What happened in a seed, in order, and the first thing that must not.

    :param time: the time.
    """

    delivery_class: type[Any] = Delivery

    def __init__(self, time: VirtualTime) -> None:
        self.trace: list[tuple[Any, ...]] = []
        self.violation = ""
        self.counts: Counter[str] = Counter()
        self.deliveries: dict[str, Any] = {}
        self.numbers: dict[str, int] = {}
        self._time = time

    def note(self, process: Any, text: str, *args: Any) -> None:
        """Add to the trace; it is formatted only if somebody looks."""
        self.trace.append((self._time.now, process and process.name, text, args))

    def check(self, holds: bool, text: str, *args: Any) -> None:
        """Blame the code under test unless something holds."""
        if not holds:
            self.blame(text % args)

    def blame(self, text: str) -> None:
        """Remember the first thing that must not happen; the code under test cannot swallow it."""
        self.violation = self.violation or text
        self.trace.append((self._time.now, None, f"VIOLATION: {text}".replace("%", "%%"), ()))

    def show_trace(self) -> list[str]:
        """Return the trace as lines."""
        return [f"{now:10.3f}  {name or 'world':<6} {text % args}" for now, name, text, args in self.trace]

    # -- what a request does

    def number_of(self, message_id: str, body: Any) -> int:
        """Return the number of a message; one that was sent again has another ID, and a dead letter that of another."""
        if message_id not in self.numbers:
            document = json.loads(body) if isinstance(body, (bytes, str)) else body
            if "id" in document:
                return self.numbers[document["id"]]
            self.numbers[message_id] = document["n"]
        return self.numbers[message_id]

    def sends(self, process: Any, call: Call[Any], fault: str) -> None:
        """
        Judge a request as it leaves its process.

        :param process: who makes it.
        :param call: what for.
        :param fault: what goes wrong with it.
        """
        if call.path.endswith("/ack"):
            self.check_settlement(process, call.payload)

    def check_settlement(self, process: Any, payload: Any) -> None:
        """Judge a request to settle leases."""
        for item in payload["acks"]:
            self.check_ack(process, self.deliveries[item["lease_id"]])
        for item in payload["retries"]:
            self.check_retry(process, self.deliveries[item["lease_id"]], item.get("delay_seconds"))

    def check_ack(self, process: Any, delivery: Any) -> None:
        """Judge an ack."""
        raise NotImplementedError

    def check_retry(self, process: Any, delivery: Any, delay: int | None) -> None:
        """Judge that a message is given back."""
        raise NotImplementedError

    def note_sent(self, process: Any, delivery: Any, kind: str) -> None:
        """Note how a lease is settled, by its own process, and always in the same way."""
        self.check(delivery.process is process, "%s settles %s", process.name, delivery)
        self.check(delivery.sent in ("", kind), "%s is %s after it was %s", delivery, kind, delivery.sent)
        delivery.sent = kind

    def applied(self, process: Any, call: Call[Any], document: Any, number: int, broker_ms: int) -> Any:
        """
        Note what the broker did at a request; return the leases it gave.

        :param process: who asked.
        :param call: what for.
        :param document: the broker's answer.
        :param number: of the request.
        :param broker_ms: the broker's time.
        """
        if not document["success"]:
            return None
        result = document["result"]
        if call.path.endswith("/pull"):
            ends_ms = broker_ms + call.payload["visibility_timeout_ms"]
            given = [self.given(process, item, ends_ms) for item in result["messages"]]
            self.deliveries |= zip((item["lease_id"] for item in result["messages"]), given, strict=True)
            process.deliveries += given
            shown = [(delivery.number, delivery.attempt) for delivery in given]
            self.note(process, "request %d gives (message, delivery): %s", number, shown)
            return [item["lease_id"] for item in result["messages"]]
        if call.path.endswith("/ack"):
            self.settled(call.payload, result)
            self.note(process, "request %d settles %s and %s", number, result["ackCount"], result["retryCount"])
        if call.path.endswith("/batch"):
            is_renewal = f"/queues/{QUEUE_ID}/" in call.path
            copied = [self._note_copy(process, call, copy["body"], is_renewal) for copy in call.payload["messages"]]
            self.note(process, "request %d %s messages %s", number, "renews" if is_renewal else "copies", copied)
        return None

    def given(self, process: Any, item: Any, ends_ms: int) -> Any:
        """Return the delivery that an item of a pull is."""
        content_type = item["metadata"].get("CF-Content-Type")
        body = None if item["id"] in self.numbers else decode_body(item["body"], content_type)
        return self.delivery_class(
            number=self.number_of(item["id"], body),
            message_id=item["id"],
            attempt=item["attempts"],
            process=process,
            ends_ms=ends_ms,
        )

    def settled(self, payload: Any, result: Any) -> None:
        """Note which leases the broker settled."""
        for kind in ("acks", "retries"):
            for item in payload[kind]:
                if item["lease_id"] not in result["warnings"]:
                    self.deliveries[item["lease_id"]].honoured = kind

    def _note_copy(self, process: Any, call: Call[Any], body: Any, is_renewal: bool) -> int:
        """
        Note that a queue accepted a copy of a message.

        A queue may hold several copies of a message, and a copy whose answer was lost is sent again. A copy in a
        dead-letter queue says of which delivery it is.
        """
        number = self.numbers[body["id"]] if "id" in body else body["n"]
        mine = [one for one in reversed(self.may_copy(process, call)) if one.number == number and one.is_read]
        if is_renewal:
            fitting = [one for one in mine if may_delete(one)]
        else:
            fitting = [one for one in mine if body.get("attempts") in (None, one.attempt)]
        new = (one for one in fitting if not (one.is_copied or one.sent))
        delivery = next(new, (fitting or mine)[0])
        delivery.is_copied = True
        if is_renewal:
            self.check(may_delete(delivery), "%s is sent again, and nothing would delete it", delivery)
        self.check_copy(process, delivery, fitting, is_renewal)
        return number

    def may_copy(self, process: Any, call: Call[Any]) -> list[Any]:
        """Return the deliveries that a process may copy by a call."""
        deliveries: list[Any] = process.deliveries
        return deliveries

    def check_copy(self, process: Any, delivery: Any, fitting: list[Any], is_renewal: bool) -> None:
        """Judge a copy, which may be of other deliveries that fit as well."""
        raise NotImplementedError

    # -- judgement

    def check_tasks(self, process: Any) -> None:
        """Judge that a process that came to its end has nothing unfinished in it."""
        alive = [task for task in process.loop._tasks if not task.done()]
        self.check(not alive, "%s left tasks behind: %s", process.name, alive)

    def check_report(self, process: Any, report: Any, acked: int) -> None:
        """
        Judge that a report counts no more than took place.

        :param process: whose report it is.
        :param report: the report.
        :param acked: how many acks it has.
        """
        honoured = Counter(delivery.honoured for delivery in process.deliveries if delivery.is_read)
        self.check(acked <= honoured["acks"], "%s reports more acks than took place", process.name)
        is_right = report.fates[Kind.RETRIED] <= honoured["retries"]
        self.check(is_right, "%s reports more retries than took place", process.name)


def may_delete(delivery: Delivery) -> bool:
    """Return whether Cloudflare may delete a message that is given back, as its process has to see it."""
    consumer = delivery.process.consumer
    limit = 3 if consumer is None or consumer.max_retries is None else consumer.max_retries
    return delivery.attempt >= limit and (consumer is None or consumer.dead_letter_queue is None)
