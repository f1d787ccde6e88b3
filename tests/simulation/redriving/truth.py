"""What happened in a seed, and what must not: a message is acked unsent, given back to be deleted, or lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.bodies import decode_body
from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.engines.settlement import Kind
from harness.audit import account
from simulation.loop import VirtualTime
from simulation.redriving.scenario import TARGET_ID, Scenario
from simulation.truth import Delivery, Record, Violation, may_delete

if TYPE_CHECKING:
    from simulation.redriving.process import Process

LONG_MS = 100_000
"""A message whose lease lasts for so long by the broker's clock has not ended for its process either."""


class Truth(Record):
    """
    The record of a seed, and its judge.

    :param time: the time.
    :param scenario: the seed.
    """

    def __init__(self, time: VirtualTime, scenario: Scenario) -> None:
        super().__init__(time)
        self.numbers: dict[str, int] = {}
        self.deliveries: dict[str, Delivery] = {}
        self.moved: list[int] = []
        self._last_pull = 0
        self._calls: list[Call[Any]] = []
        self._given: dict[int, list[Delivery]] = {}
        self._scenario = scenario

    def applied(self, process: Process, call: Call[Any], document: Any, number: int, broker_ms: int) -> Any:
        """Note what the broker did at a request; return the leases it gave."""
        if not document["success"]:
            return None
        result = document["result"]
        if call.path.endswith("/pull"):
            self._check_pull(process, number, broker_ms)
            for item in result["messages"]:
                content_type = item["metadata"].get("CF-Content-Type")
                body = None if item["id"] in self.numbers else decode_body(item["body"], content_type)
                ends_ms = broker_ms + call.payload["visibility_timeout_ms"]
                delivery = Delivery(self.number_of(item["id"], body), item["id"], item["attempts"], process, ends_ms)
                self.deliveries[item["lease_id"]] = delivery
                process.deliveries.append(delivery)
            shown = [(d.number, d.attempt) for d in process.deliveries[-len(result["messages"]) :]]
            self.note(process, "request %d gives (message, delivery): %s", number, shown)
            return [item["lease_id"] for item in result["messages"]]
        if call.path.endswith("/ack"):
            for kind in ("acks", "retries"):
                for item in call.payload[kind]:
                    if item["lease_id"] not in result["warnings"]:
                        self.deliveries[item["lease_id"]].honoured = kind
            self.note(process, "request %d settles %s and %s", number, result["ackCount"], result["retryCount"])
        if call.path.endswith("/batch"):
            is_move = TARGET_ID in call.path
            copied = [copy["body"]["n"] for copy in call.payload["messages"]]
            self.note(process, "request %d %s messages %s", number, "moves" if is_move else "renews", copied)
            for one in copied:
                self._note_copy(process, one, self._given[id(call)], is_move=is_move)
        return None

    def sends(self, process: Process, call: Call[Any]) -> None:
        """Note what had been given to a process when it first made a call, and so what it may copy by that."""
        if call.path.endswith("/batch"):
            self._calls.append(call)  # so that no other has its id
            self._given.setdefault(id(call), [one for one in process.deliveries if one.is_read])

    def _note_copy(self, process: Process, number: int, given: list[Delivery], *, is_move: bool) -> None:
        mine = [one for one in reversed(given) if one.number == number]
        # A source may hold several copies of a message, and a copy whose answer was lost is sent again.
        fitting = [one for one in mine if not one.sent and (is_move or may_delete(one))]
        delivery = next((one for one in fitting if not one.is_copied), (fitting or mine)[0])
        delivery.is_copied = True
        if is_move:
            self.moved.append(number)
            self.check(self._is_to_move(process, number), "%s is moved, and does not match", delivery)
        else:
            self.check(may_delete(delivery), "%s is sent again, and nothing would delete it", delivery)

    def _is_to_move(self, process: Process, number: int) -> bool:
        return number not in self._scenario.unsendable and (process.run.options.match is None or bool(number % 4))

    def _check_pull(self, process: Process, number: int, broker_ms: int) -> None:
        """Judge that the target took all that was pulled before: one batch at a time."""
        if number < self._last_pull:
            return  # the network was slow, and its process has given it up
        self._last_pull = number
        for delivery in process.deliveries:
            is_open = delivery.is_read and not delivery.is_copied and not delivery.sent
            if is_open and delivery.ends_ms - broker_ms > LONG_MS and not process.has_jumped:
                is_to_move = self._is_to_move(process, delivery.number)
                self.check(not is_to_move, "%s pulls, and %s is not moved yet", process.name, delivery)

    def check_settlement(self, process: Process, payload: Any) -> None:
        """Judge a request to settle leases as it is sent."""
        for kind in ("acks", "retries"):
            for item in payload[kind]:
                delivery = self.deliveries[item["lease_id"]]
                self.check(delivery.process is process, "%s settles %s", process.name, delivery)
                self.check(delivery.sent in ("", kind), "%s is settled twice, differently", delivery)
                delivery.sent = kind
        for item in payload["acks"]:
            delivery = self.deliveries[item["lease_id"]]
            self.check(delivery.is_copied, "%s is acked, and no queue accepted a copy of it", delivery)
        for item in payload["retries"]:
            delivery = self.deliveries[item["lease_id"]]
            self.check(not may_delete(delivery), "%s is given back, and Cloudflare may delete it by that", delivery)

    def judge_run(self, process: Process) -> None:
        """Judge a run that came to its end."""
        report, error = process.redrive.report, process.redrive.state.error
        raised = process.main.exception()
        self.note(process, "ends: %s, error %r, raised %r", report.to_xcom(), error, raised)
        is_defect = isinstance(raised, RuntimeError) and "Cannot send a request" in str(raised)
        if is_defect:  # of the HTTP library, which ends a task as a crash would
            return
        self.check(raised is None, "%s raised %r", process.name, raised)
        read = [delivery for delivery in process.deliveries if delivery.is_read]
        ended = report.fates.total()
        self.check(report.pulled == ended, "%s pulled %d, and reports %d", process.name, report.pulled, ended)
        self.check(report.pulled <= len(read), "%s was given %d, pulled %d", process.name, len(read), report.pulled)
        acked = sum(delivery.honoured == "acks" for delivery in read)
        retried = sum(delivery.honoured == "retries" for delivery in read)
        kept = report.moved + report.fates[Kind.RENEWED]
        self.check(kept <= acked, "%s reports more acks than took place", process.name)
        self.check(report.fates[Kind.RETRIED] <= retried, "%s reports more retries than took place", process.name)
        alive = [task for task in process.loop._tasks if not task.done()]
        self.check(not alive, "%s left tasks behind: %s", process.name, alive)

    def judge(self, kept: set[int]) -> None:
        """
        Judge the seed: every message was moved, is kept, or Cloudflare had a reason to delete it.

        :param kept: the messages that are in the source or its dead-letter queue.
        """
        lost = []
        for number in sorted(account(range(self._scenario.count), self.moved, kept).lost):
            last = [delivery for delivery in self.deliveries.values() if delivery.number == number][-1]
            limit = self._scenario.consumer.max_retries or 0
            if last.attempt <= limit or last.honoured:
                lost.append(number)
        if lost and self._scenario.knows_consumer:
            raise Violation(f"messages {lost} are lost: never moved, and in no queue")
