"""What happened in a seed, and what must not: a message is acked unsent, given back to be deleted, or lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.engines.settlement import Kind
from harness.audit import account
from simulation.loop import VirtualTime
from simulation.record import Delivery, Record, Violation, may_delete
from simulation.redriving.scenario import Scenario

if TYPE_CHECKING:
    from simulation.redriving.process import Process

LONG_MS = 150_000
"""A lease that lasts for so long by the broker's clock lasts for its process too: no clock jumps any further."""


class Truth(Record):
    """
    The record of a seed, and its judge.

    :param time: the time.
    :param scenario: the seed.
    """

    def __init__(self, time: VirtualTime, scenario: Scenario) -> None:
        super().__init__(time)
        self.moved: list[int] = []
        self._last_pull = 0
        self._calls: list[Call[Any]] = []
        self._given: dict[int, list[Delivery]] = {}
        self._scenario = scenario

    def sends(self, process: Process, call: Call[Any], fault: str) -> None:
        """Note what had been given to a process when it first made a call, and so what it may copy by that."""
        super().sends(process, call, fault)
        if call.path.endswith("/batch"):
            self._calls.append(call)  # so that no other has its id
            self._given.setdefault(id(call), [one for one in process.deliveries if one.is_read])

    def may_copy(self, process: Process, call: Call[Any]) -> list[Delivery]:
        """Return the deliveries that a process may copy by a call."""
        return self._given[id(call)]

    def check_copy(self, process: Process, delivery: Delivery, fitting: list[Delivery], is_renewal: bool) -> None:
        """Judge that what is moved is to be moved."""
        if not is_renewal:
            self.moved.append(delivery.number)
            self.check(self._is_to_move(process, delivery.number), "%s is moved, and does not match", delivery)

    def _is_to_move(self, process: Process, number: int) -> bool:
        return number not in self._scenario.unsendable and (process.run.options.match is None or bool(number % 4))

    def applied(self, process: Process, call: Call[Any], document: Any, number: int, broker_ms: int) -> Any:
        """Note what the broker did at a request; judge that the target took all that was pulled before."""
        if call.path.endswith("/pull") and number > self._last_pull:
            # else the network was slow, and its process has given it up
            self._last_pull = number
            self._check_pull(process, broker_ms)
        return super().applied(process, call, document, number, broker_ms)

    def _check_pull(self, process: Process, broker_ms: int) -> None:
        for delivery in process.deliveries:
            is_open = delivery.is_read and not delivery.is_copied and not delivery.sent
            if is_open and delivery.ends_ms - broker_ms > LONG_MS:
                is_to_move = self._is_to_move(process, delivery.number)
                self.check(not is_to_move, "%s pulls, and %s is not moved yet", process.name, delivery)

    def check_ack(self, process: Process, delivery: Delivery) -> None:
        """Judge that what is acked was copied."""
        self.check(delivery.is_copied, "%s is acked, and no queue accepted a copy of it", delivery)
        self.note_sent(process, delivery, "acked")

    def check_retry(self, process: Process, delivery: Delivery, delay: int | None) -> None:
        """Judge that what is given back is not deleted by that."""
        self.check(not may_delete(delivery), "%s is given back, and Cloudflare may delete it by that", delivery)
        self.note_sent(process, delivery, "given back")

    def judge_run(self, process: Process) -> None:
        """Judge a run that came to its end."""
        report, error = process.engine.report, process.engine.state.error
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
        self.check_report(process, report, report.moved + report.fates[Kind.RENEWED])
        self.check_tasks(process)

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
