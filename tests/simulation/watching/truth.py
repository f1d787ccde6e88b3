"""
What really happened: who was offered which lease, what Airflow stored, what the broker did.

The watchers are judged by that: at each request, and at the end of each seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.models import Message
from harness.audit import account
from simulation.loop import VirtualTime
from simulation.process import QUEUE_ID
from simulation.truth import Record, Violation
from simulation.watching.matches import verdict

if TYPE_CHECKING:
    from simulation.watching.scenario import Scenario, Watcher
    from simulation.watching.scheduler import Scheduler
    from simulation.watching.triggerer import Triggerer


@dataclass(slots=True, eq=False)
class Delivery:
    """
    A lease, and what became of it.

    :param number: of the message.
    :param kind: of the message.
    :param attempt: which delivery of it.
    :param process: whose lease it is; None where the broker's answer never came.
    :param batch: the batch that it was handed to Airflow in; 0 = it never was.
    :param offered_to: the watchers that were there when it was handed to Airflow; None = it never was.
    :param unmatched: what becomes of it where none of them wants it.
    :param taken_by: the watchers whose event of it Airflow took.
    :param stored_for: the watchers whose event of it was stored.
    """

    number: int
    kind: str
    attempt: int
    process: Triggerer
    batch: int = 0
    offered_to: dict[int, Watcher] | None = None
    unmatched: str = ""
    taken_by: set[int] = field(default_factory=set)
    stored_for: set[int] = field(default_factory=set)
    is_read: bool = False
    is_resolved: bool = False
    is_copied: bool = False
    sent: str = ""
    honoured: str = ""

    def __str__(self) -> str:
        return f"message {self.number}, delivery {self.attempt}, of {self.process.name}"


class Truth(Record):
    """
    The record of a seed, and its judge.

    :param time: the time.
    :param scenario: the seed.
    """

    def __init__(self, time: VirtualTime, scenario: Scenario) -> None:
        super().__init__(time)
        self.deliveries: dict[str, Delivery] = {}
        self.numbers: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.watchers: dict[int, Watcher] = {}
        self.find_renewed: Callable[[], None] = lambda: None
        self.scheduler: Scheduler
        self._scenario = scenario
        self._batches = 0
        self._sizes: Counter[int] = Counter()
        self._settlings: Counter[int] = Counter()
        self._troubled: set[int] = set()

    def kind(self, number: int) -> str:
        """Return the kind of a message."""
        return self._scenario.items[number].kind

    # -- what Airflow does

    def fanned_out(self, process: Triggerer, messages: list[Message], watchers: set[int], unmatched: str) -> None:
        """Note that a batch is handed to Airflow, and which watchers get it."""
        self._batches += 1
        self._sizes[self._batches] = len(messages)
        for message in messages:
            delivery = self.deliveries[message.lease_id]
            self.check(delivery.process is process, "%s is handed on by %s", delivery, process.name)
            self.check(delivery.offered_to is None, "%s is handed on twice", delivery)
            self.check(not delivery.sent, "%s is handed on after it was %s", delivery, delivery.sent)
            delivery.offered_to = {number: self.watchers[number] for number in sorted(watchers)}
            delivery.unmatched = unmatched
            delivery.batch = self._batches
        shown = [(self.numbers[message.id], message.attempts) for message in messages]
        self.note(process, "batch %d, (message, delivery) %s, goes to %s", self._batches, shown, sorted(watchers))

    def bound(self, process: Triggerer, entry: Any) -> None:
        """Note that Airflow took an event."""
        for delivery in self.in_event(entry):
            if delivery.is_resolved:
                # Airflow gave up on its watcher while that awaited a line of the log, and yet takes its event.
                self.counts["messages in events taken after the ack timeout"] += 1
            else:
                delivery.taken_by.add(entry.trigger_id)
            wants = verdict(self.watchers[entry.trigger_id], delivery.kind)
            self.check(wants is True, "watcher %d put %s, which it does not want, in", entry.trigger_id, delivery)
        shown = [delivery.number for delivery in self.in_event(entry)]
        self.note(process, "takes an event of messages %s for watcher %d", shown, entry.trigger_id)

    def resolved(self, message: Message) -> None:
        """Note that Airflow is through with a message."""
        self.deliveries[message.lease_id].is_resolved = True

    def stored(self, process: Triggerer, entry: Any, *, is_there: bool) -> tuple[int, ...]:
        """Note that an event was stored, or swallowed because its trigger's row is gone; return its messages."""
        number = entry.trigger_id
        messages = tuple(delivery.number for delivery in self.in_event(entry))
        verb = "stores" if is_there else "swallows"
        self.note(process, "%s the event of messages %s, watcher %d", verb, messages, number)
        for delivery in self.in_event(entry):
            if is_there:
                delivery.stored_for.add(number)
        self.counts["events stored" if is_there else "events swallowed by Airflow"] += 1
        return messages

    def in_event(self, entry: Any) -> list[Delivery]:
        """Return the messages of an event."""
        return [self.deliveries[message["lease_id"]] for message in entry.event.payload["messages"]]

    def closed(self, process: Triggerer) -> None:
        """Judge that a stream that was closed kept nothing that nobody got to see."""
        scenario = self._scenario
        is_clear = not (scenario.fault_rate or scenario.outage or scenario.broker_jumps or process.has_jumped)
        if not (is_clear and scenario.has_one_stream):
            return
        for delivery in process.deliveries:
            is_right = not delivery.is_read or delivery.offered_to is not None or delivery.sent
            is_right = (
                is_right or delivery.is_copied or scenario.deletes(delivery.attempt)
            )  # stays leased, and is named
            self.check(is_right, "%s was handed to nobody, and is not given back", delivery)

    # -- what a request does

    def check_settlement(self, process: Triggerer, payload: Any) -> None:
        """Judge a request to settle leases as it is sent."""
        items = [*payload["acks"], *payload["retries"]]
        for batch in {self.deliveries[item["lease_id"]].batch for item in items} - {0}:
            self._settlings[batch] += 1
            is_right = self._settlings[batch] <= -(-self._sizes[batch] // 100) or batch in self._troubled
            self.check(is_right, "batch %d is settled in more requests than it needs, and none failed", batch)
        for item in payload["acks"]:
            self._check_ack(process, self.deliveries[item["lease_id"]])
        for item in payload["retries"]:
            self._check_retry(process, self.deliveries[item["lease_id"]], item.get("delay_seconds"))

    def settling_meets_fault(self, payload: Any) -> None:
        """Note that the leases may be settled again."""
        self._troubled.update(
            self.deliveries[item["lease_id"]].batch for item in (*payload["acks"], *payload["retries"])
        )

    def copying_meets_fault(self, process: Triggerer) -> None:
        """Note that what waits for its copy is settled later than the others."""
        self._troubled.update(delivery.batch for delivery in process.deliveries if not delivery.honoured)

    def _check_ack(self, process: Triggerer, delivery: Delivery) -> None:
        self._check_sent(process, delivery, "acked")
        if delivery.is_copied:
            return
        offered_to = delivery.offered_to or {}
        self.check(bool(offered_to), "%s is acked, and no watcher was given it", delivery)
        verdicts = {number: verdict(watcher, delivery.kind) for number, watcher in offered_to.items()}
        self.check(None not in verdicts.values(), "%s is acked, and a watcher refused it", delivery)
        wanted_by = {number for number, wants in verdicts.items() if wants}
        missing = sorted(wanted_by - delivery.stored_for)
        self.check(not missing, "%s is acked, and its event is not stored for the watchers %s", delivery, missing)
        is_right = bool(wanted_by) or delivery.unmatched == "ack"
        self.check(is_right, "%s is acked, no watcher wants it, and it is not to be acked then", delivery)
        if not wanted_by:
            self.counts["acked unwanted"] += 1
        for watcher in (self.watchers[number] for number in delivery.stored_for):
            self._check_run_is_due(delivery, watcher)

    def _check_run_is_due(self, delivery: Delivery, watcher: Watcher) -> None:
        """Judge that what is acked is in a run, or will be even if no event ever follows."""
        missed = [
            dag
            for dag, assets in self._scenario.dags.items()
            if watcher.asset in assets and self.scheduler.is_missed(dag, delivery.number)
        ]
        if self._scenario.is_sure_of_runs(watcher):
            self.check(
                not missed, "%s is acked, and waits for another event before it is in a run of %s", delivery, missed
            )
        self.counts["acked while their run was only guessed"] += bool(missed)

    def _check_retry(self, process: Triggerer, delivery: Delivery, delay: int | None) -> None:
        self._check_sent(process, delivery, "given back")
        is_kept = not self._scenario.deletes(delivery.attempt) or self._is_chosen(delivery)
        self.check(is_kept, "%s is given back, and Cloudflare may delete it", delivery)
        expected = self._scenario.watchers[0].delay_seconds
        is_right = delay == expected or (delivery.offered_to is None and not delay)
        self.check(is_right, "%s waits %s s instead of %s", delivery, delay, expected)
        # A watcher that is told to end gives back what may be in no run.
        if self._scenario.is_calm and delivery.offered_to and not process.is_ending:
            is_wanted = any(verdict(watcher, delivery.kind) for watcher in delivery.offered_to.values())
            is_refused = any(verdict(watcher, delivery.kind) is None for watcher in delivery.offered_to.values())
            self.check(is_refused or not is_wanted, "%s is given back though nothing failed", delivery)

    def _check_sent(self, process: Triggerer, delivery: Delivery, kind: str) -> None:
        self.check(delivery.process is process, "%s settles %s", process.name, delivery)
        held = [number for number in delivery.taken_by if self.watchers[number].settle == "task"]
        # A request may be repeated after Airflow took an event that it does not wait for.
        self.check(
            not held or delivery.sent == kind,
            "%s is %s by the trigger, and the DAG of watcher %s settles it",
            delivery,
            kind,
            held,
        )
        self.check(delivery.sent in ("", kind), "%s is %s after it was %s", delivery, kind, delivery.sent)
        delivery.sent = kind

    def applied(self, process: Triggerer, call: Call[Any], document: Any, number: int, broker_ms: int) -> Any:
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
            for item in result["messages"]:
                message = self.numbers[item["id"]]
                delivery = Delivery(message, self.kind(message), item["attempts"], process)
                self.deliveries[item["lease_id"]] = delivery
                process.deliveries.append(delivery)
            shown = [(self.numbers[item["id"]], item["attempts"]) for item in result["messages"]]
            self.note(process, "request %d gives (message, delivery): %s", number, shown)
            return [item["lease_id"] for item in result["messages"]]
        if call.path.endswith("/ack"):
            self.honoured(call.payload, result)
            self.note(process, "request %d settles %s and %s", number, result["ackCount"], result["retryCount"])
        if call.path.endswith("/batch"):
            self._note_copies(process, call.payload["messages"], number, is_renewal=QUEUE_ID in call.path)
            self.find_renewed()
        return None

    def honoured(self, payload: Any, result: Any) -> None:
        """Note which leases the broker settled."""
        for kind in ("acks", "retries"):
            for item in payload[kind]:
                if item["lease_id"] not in result["warnings"]:
                    self.deliveries[item["lease_id"]].honoured = kind

    def _note_copies(self, process: Triggerer, copies: list[Any], number: int, *, is_renewal: bool) -> None:
        copied = []
        for copy in copies:
            if (delivery := self._copied(process, copy)) is None:
                continue
            copied.append(delivery)
            delivery.is_copied = True
            self.counts["renewals" if is_renewal else "copies"] += 1
            deletes = self._scenario.deletes(delivery.attempt)
            if is_renewal:
                self.check(deletes, "%s is sent again, and could have been given back", delivery)
                continue
            verdicts = [verdict(watcher, delivery.kind) for watcher in (delivery.offered_to or {}).values()]
            is_unwanted = delivery.unmatched == "dead_letter" and not any(verdicts)
            is_right = None in verdicts or is_unwanted or deletes
            self.check(is_right, "%s is dead-lettered, and nobody refused it", delivery)
        verb = "sends again" if is_renewal else "copies"
        self.note(process, "request %d %s %s", number, verb, [delivery.number for delivery in copied])

    def _copied(self, process: Triggerer, copy: Any) -> Delivery | None:
        """
        Return the delivery that a copy is of; None where it was copied before.

        A bare copy does not say which delivery it is of. As long as one is not acked, its copy may be sent once more.
        """
        body = copy["body"]
        is_wrapped = "attempts" in body
        message = self.numbers[body["id"]] if is_wrapped else body["number"]
        found = [
            delivery
            for delivery in process.deliveries
            if delivery.number == message
            and not delivery.honoured
            and (not is_wrapped or delivery.attempt == body["attempts"])
        ]
        new = [delivery for delivery in found if not delivery.is_copied]
        is_repeated = len(new) < len(found) and not is_wrapped
        return new[-1] if new and not (is_repeated and not self._scenario.deletes(new[-1].attempt)) else None

    # -- judgement

    def judge_run(self, process: Triggerer) -> None:
        """Judge a triggerer that came to its end."""
        self.note(process, "ends")
        alive = [task for task in process.loop._tasks if not task.done()]
        self.check(not alive, "%s left tasks behind: %s", process.name, alive)
        airflows = {details["task"] for details in process.runner.triggers.values()}
        untold = [task for task in process.loop._tasks if task.done() and task._log_traceback and task not in airflows]
        self.check(not untold, "%s: nobody took what ended %s", process.name, untold)

    def judge(self, left: set[int], dead: set[int]) -> None:
        """
        Judge the seed: each message is somewhere, or was settled by right.

        :param left: the messages that are in the queue.
        :param dead: the messages that are in the dead-letter queue.
        """
        acked = (delivery.number for delivery in self.deliveries.values() if delivery.honoured == "acks")
        for number in sorted(account(self.numbers.values(), acked, left | dead).lost):
            deliveries = [delivery for delivery in self.deliveries.values() if delivery.number == number]
            last = max(deliveries, key=lambda delivery: delivery.attempt, default=None)
            if last is None or last.attempt <= self._scenario.max_retries:
                raise Violation(f"message {number} is lost: nobody acked it, and Cloudflare had no reason to delete it")
            if last.sent == "given back" and self._scenario.knows_consumer and not self._is_chosen(last):
                raise Violation(f"message {number} is lost: it was given back, and Cloudflare deleted it")
            self.counts["deleted by Cloudflare after max_retries"] += 1
        if self._scenario.is_calm:
            self._judge_calm()

    def _is_chosen(self, delivery: Delivery) -> bool:
        """Return whether whoever set up the watchers chose that a message nobody wants may be deleted."""
        verdicts = [verdict(watcher, delivery.kind) for watcher in (delivery.offered_to or {}).values()]
        is_unwanted = delivery.unmatched == "retry" and not any(verdicts) and None not in verdicts
        return is_unwanted or self._scenario.has_dead_letter_queue

    def judge_runs(self, runs: dict[str, list[set[int]]]) -> None:
        """
        Judge that each message that the trigger acked, because its event is stored, is in a run of each DAG.

        :param runs: the messages of each DAG's runs.
        """
        for delivery in self.deliveries.values():
            is_left_to_dag = any(self.watchers[number].settle == "task" for number in delivery.taken_by)
            if delivery.honoured != "acks" or delivery.is_copied or is_left_to_dag:
                continue
            for number in delivery.stored_for:
                watcher = self.watchers[number]
                for dag, assets in self._scenario.dags.items():
                    is_right = watcher.asset not in assets or any(delivery.number in run for run in runs[dag])
                    if not is_right and self._scenario.is_sure_of_runs(watcher):
                        raise Violation(f"{delivery} is acked, and in no run of {dag}")
                    self.counts["messages without a run"] += not is_right

    def judge_calm_runs(self, runs: dict[str, list[set[int]]]) -> None:
        """
        Judge that no run is without messages where nothing goes wrong, and a watcher shares none of the DAGs it knows.

        :param runs: the messages of each DAG's runs.
        """
        if not self._scenario.is_calm:
            return
        shared = {asset for assets in self._scenario.dags.values() if len(set(assets)) > 1 for asset in assets}
        for watcher in self._scenario.watchers:
            for dag in watcher.dag_ids or ():
                if watcher.asset not in shared and not all(runs[dag]):
                    raise Violation(f"{dag} has a run without messages")

    def _judge_calm(self) -> None:
        if any(self._scenario.pulls_nothing(watcher) for watcher in self.watchers.values()):
            return
        stored: Counter[tuple[int, int]] = Counter()
        for delivery in self.deliveries.values():
            stored.update((number, delivery.number) for number in delivery.stored_for)
        for number in set(self.numbers.values()):
            for row, watcher in self.watchers.items():
                wants = verdict(watcher, self.kind(number))
                is_refused = any(verdict(one, self.kind(number)) is None for one in self.watchers.values())
                if wants and not is_refused and stored[row, number] != 1:
                    raise Violation(f"message {number} has {stored[row, number]} events for watcher {row}, not one")
