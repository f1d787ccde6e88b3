"""
What really happened: who was offered which lease, what Airflow stored, what the broker did.

The watchers are judged by that: at each request, and at the end of each seed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.models import Message
from harness.audit import account
from simulation.loop import VirtualTime
from simulation.record import Delivery, Record, Violation, may_delete
from simulation.watching.matches import verdict

if TYPE_CHECKING:
    from simulation.watching.scenario import Scenario, Watcher
    from simulation.watching.scheduler import Scheduler
    from simulation.watching.triggerer import Triggerer


@dataclass(slots=True, eq=False, kw_only=True)
class Offer(Delivery):
    """
    A lease whose message is for watchers.

    :param batch: the batch that it was handed to Airflow in; 0 = it never was.
    :param offered_to: the watchers that were there when it was handed to Airflow; None = it never was.
    :param unmatched: what becomes of it where none of them wants it.
    :param taken_by: the watchers whose event of it Airflow took.
    :param stored_for: the watchers whose event of it was stored.
    """

    batch: int = 0
    offered_to: dict[int, Watcher] | None = None
    unmatched: str = ""
    taken_by: set[int] = field(default_factory=set)
    stored_for: set[int] = field(default_factory=set)
    is_resolved: bool = False


class Truth(Record):
    """
    The record of a seed, and its judge.

    :param time: the time.
    :param scenario: the seed.
    """

    delivery_class = Offer

    def __init__(self, time: VirtualTime, scenario: Scenario) -> None:
        super().__init__(time)
        self.watchers: dict[int, Watcher] = {}
        self.scheduler: Scheduler
        self._scenario = scenario
        self._batches = 0
        self._sizes: Counter[int] = Counter()
        self._settlings: Counter[int] = Counter()
        self._troubled: set[int] = set()

    def kind(self, number: int) -> str:
        """Return the kind of a message."""
        return self._scenario.items[number].kind

    def verdicts(self, delivery: Offer) -> dict[int, bool | None]:
        """Return whether each watcher that a message was offered to wants it; None where it refuses it."""
        kind = self.kind(delivery.number)
        return {number: verdict(watcher, kind) for number, watcher in (delivery.offered_to or {}).items()}

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
            wants = verdict(self.watchers[entry.trigger_id], self.kind(delivery.number))
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

    def in_event(self, entry: Any) -> list[Offer]:
        """Return the messages of an event."""
        return [self.deliveries[message["lease_id"]] for message in entry.event.payload["messages"]]

    def closed(self, process: Triggerer) -> None:
        """Judge that a stream that was closed kept nothing that nobody got to see."""
        scenario = self._scenario
        is_clear = not (scenario.fault_rate or scenario.outage or scenario.broker_jumps or process.has_jumped)
        if not (is_clear and scenario.has_one_stream):
            return
        for delivery in process.deliveries:
            is_done = delivery.offered_to is not None or delivery.sent or delivery.is_copied
            is_right = not delivery.is_read or is_done or may_delete(delivery)  # stays leased, and is named
            self.check(is_right, "%s was handed to nobody, and is not given back", delivery)

    # -- what a request does

    def sends(self, process: Triggerer, call: Call[Any], fault: str) -> None:
        """Judge a request as it leaves its process; what meets a fault may be settled again, or later than others."""
        super().sends(process, call, fault)
        if fault and call.path.endswith("/ack"):
            items = [*call.payload["acks"], *call.payload["retries"]]
            self._troubled.update(self.deliveries[item["lease_id"]].batch for item in items)
        if fault and call.path.endswith("/batch"):
            self._troubled.update(delivery.batch for delivery in process.deliveries if not delivery.honoured)

    def check_settlement(self, process: Triggerer, payload: Any) -> None:
        """Judge that a batch is settled in as few requests as can be, and in what way."""
        items = [*payload["acks"], *payload["retries"]]
        for batch in {self.deliveries[item["lease_id"]].batch for item in items} - {0}:
            self._settlings[batch] += 1
            is_right = self._settlings[batch] <= -(-self._sizes[batch] // 100) or batch in self._troubled
            self.check(is_right, "batch %d is settled in more requests than it needs, and none failed", batch)
        super().check_settlement(process, payload)

    def check_ack(self, process: Triggerer, delivery: Offer) -> None:
        """Judge that what is acked is stored for each watcher that wants it, and will be in a run."""
        self._check_sent(process, delivery, "acked")
        if delivery.is_copied:
            return
        verdicts = self.verdicts(delivery)
        self.check(bool(verdicts), "%s is acked, and no watcher was given it", delivery)
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

    def _check_run_is_due(self, delivery: Offer, watcher: Watcher) -> None:
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

    def check_retry(self, process: Triggerer, delivery: Offer, delay: int | None) -> None:
        """Judge that what is given back is not deleted by that, and waits for as long as the watchers say."""
        self._check_sent(process, delivery, "given back")
        is_kept = not may_delete(delivery) or self._is_chosen(delivery)
        self.check(is_kept, "%s is given back, and Cloudflare may delete it", delivery)
        expected = self._scenario.watchers[0].delay_seconds
        is_right = delay == expected or (delivery.offered_to is None and not delay)
        self.check(is_right, "%s waits %s s instead of %s", delivery, delay, expected)
        # A watcher that is told to end gives back what may be in no run.
        if self._scenario.is_calm and not process.is_ending:
            verdicts = self.verdicts(delivery).values()
            is_right = None in verdicts or not any(verdicts)
            self.check(is_right, "%s is given back though nothing failed", delivery)

    def _check_sent(self, process: Triggerer, delivery: Offer, kind: str) -> None:
        held = [number for number in delivery.taken_by if self.watchers[number].settle == "task"]
        # A request may be repeated after Airflow took an event that it does not wait for.
        self.check(
            not held or delivery.sent == kind,
            "%s is %s by the trigger, and the DAG of watcher %s settles it",
            delivery,
            kind,
            held,
        )
        self.note_sent(process, delivery, kind)

    def check_copy(self, process: Triggerer, delivery: Offer, fitting: list[Offer], is_renewal: bool) -> None:
        """Judge that what is dead-lettered was refused, is wanted by no watcher, or may be deleted."""
        self.counts["renewals" if is_renewal else "copies"] += 1
        verdicts = self.verdicts(delivery).values()
        is_unwanted = delivery.unmatched == "dead_letter" and not any(verdicts)
        is_right = is_renewal or None in verdicts or is_unwanted or may_delete(delivery)
        self.check(is_right, "%s is dead-lettered, and nobody refused it", delivery)

    # -- judgement

    def judge_run(self, process: Triggerer) -> None:
        """Judge a triggerer that came to its end."""
        self.note(process, "ends")
        self.check_tasks(process)
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
            if last.sent == "given back" and not self._is_chosen(last):
                raise Violation(f"message {number} is lost: it was given back, and Cloudflare deleted it")
            self.counts["deleted by Cloudflare after max_retries"] += 1
        if self._scenario.is_calm:
            self._judge_calm()

    def _is_chosen(self, delivery: Offer) -> bool:
        """Return whether whoever set up the watchers chose that a message nobody wants may be deleted."""
        verdicts = self.verdicts(delivery).values()
        return delivery.unmatched == "retry" and not any(verdicts) and None not in verdicts

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
