"""Watchers of a queue through seeds of faults; and the simulation's own proof: it finds bugs planted on purpose."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import suppress
from dataclasses import replace

import pytest

pytest.importorskip("airflow.triggers.shared_stream", reason="shared streams came with Airflow 3.3")

from airflow_provider_cfqueues._compat import reject_shared_stream_event
from airflow_provider_cfqueues.engines.settlement import Happened, Kind, Settlement
from airflow_provider_cfqueues.engines.watching.stream import QueueStream
from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger, _AloneOutcome
from simulation.watching.run import play

SEEDS = 200
FOUND = [704020, 138705312, 778772]
"""Seeds of longer runs that found a bug; the last one was the simulation's own."""


def test_no_message_is_lost_or_acked_before_it_is_stored_whatever_fails():
    failed = [f"seed {result.seed}: {result.violation}" for result in play([*range(SEEDS), *FOUND]) if result.violation]
    assert failed == []


def test_a_seed_gives_the_same_run_whatever_ran_before_it():
    [alone] = play(range(19, 20), with_trace=True)
    *_, last = play(range(10, 20), with_trace=True)
    assert alone == last


class MarksFirst(QueueMessageTrigger):
    """Counts an event as taken before it is yielded: Airflow may drop it, and say that its watcher is through."""

    async def filter_shared_stream(self, shared_stream):
        matcher = await self._begin()
        async for delivery in shared_stream:
            event = self._judge(delivery, matcher)
            if event is not None:
                delivery.take(left_to_task=self._options.settle == "task")
                yield event


class SettlesWhatADagSettles(QueueMessageTrigger):
    """Forgets that a DAG holds the lease."""

    async def filter_shared_stream(self, shared_stream):
        matcher = await self._begin()
        async for delivery in shared_stream:
            event = self._judge(delivery, matcher)
            if event is not None:
                yield event
                delivery.take(left_to_task=False)


class TrustsAnEndingTriggerer(QueueMessageTrigger):
    """Takes it that Airflow waits for every event that it takes."""

    async def filter_shared_stream(self, shared_stream):
        matcher = await self._begin()
        async for delivery in shared_stream:
            event = self._judge(delivery, matcher)
            if event is not None:
                yield event
                delivery.take(left_to_task=self._options.settle == "task")
            elif delivery.refusals:
                reject_shared_stream_event()


class GoesOnAlone(QueueStream):
    """Does not end where it is cancelled at the moment at which it has room again, before Python 3.12."""

    async def _change_or(self, time):
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), time and time.total_seconds())


class AcksAtOnce(QueueStream):
    """Acks what it hands on, as if Airflow had stored it."""

    async def deliveries(self):
        async for delivery in super().deliveries():
            delivery.judged = delivery.taken = 1
            await self.settle([(delivery, _AloneOutcome())])
            yield delivery


class GivesNothingBack(QueueStream):
    """Forgets, at its end, what nobody got to see."""

    async def _take_in_late(self):
        await super()._take_in_late()
        self._not_handed_on.clear()


class GivesEventsBack(QueueStream):
    """Gives back, at its end, what may be in an event as well."""

    async def aclose(self):
        for pull in self._pulls:
            if pull.undecided:
                pull.settlements += [
                    Settlement(message=message, happened=Happened.NOT_STARTED, kind=Kind.RETRIED, delay_seconds=0)
                    for message in pull.result
                ]
        await super().aclose()


class AcksUnmatched(QueueStream):
    """Takes it that nobody needs what no watcher wants."""

    def __init__(self, options, *args, **kwargs):
        super().__init__(replace(options, unmatched="ack"), *args, **kwargs)


class SettlesOneByOne(QueueStream):
    """Makes a request for each message."""

    async def settle(self, resolved):
        for delivery, outcome in resolved:
            delivery.pull.undecided -= 1
            self._changed.set()
            if (settlement := delivery.decide(outcome)) is not None:
                delivery.pull.settlements.append(settlement)
                await self._settle(delivery.pull)


class RaisesFailures(QueueStream):
    """Lets Airflow know of a failure, which ends every watcher of the queue."""

    async def _settle(self, pull):
        await super()._settle(pull)
        if pull.unsettled:
            raise TimeoutError("not settled")


class EndsAtFailure(QueueStream):
    """Ends with a pull that fails."""

    def _after_failure(self, error):
        raise error


FIRST_SEEDS = {"TrustsAnEndingTriggerer": 440, "GoesOnAlone": 100}
"""Some take a rare moment: seeds that do not have it are left out."""


@pytest.mark.parametrize(
    ("planted", "violation"),
    [
        (MarksFirst, "is acked, and its event is not stored"),
        (TrustsAnEndingTriggerer, "is acked, and its event is not stored"),
        pytest.param(
            GoesOnAlone,
            "a stream goes on that nobody watches",
            marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="wait_for was mended in Python 3.12"),
        ),
        (SettlesWhatADagSettles, "by the trigger, and the DAG of watcher .* settles it"),
        (AcksAtOnce, "is acked, and its event is not stored|is acked, and no watcher was given it"),
        (GivesNothingBack, "was handed to nobody, and is not given back"),
        (GivesEventsBack, "waits 0 s instead of|the DAG of watcher .* settles it"),
        (AcksUnmatched, "no watcher wants it, and it is not to be acked"),
        (SettlesOneByOne, "settled in more requests than one"),
        (RaisesFailures, "advance raised|aclose raised"),
        (EndsAtFailure, "the stream raised"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_bug_planted_on_purpose_is_found(planted, violation):
    classes = {"trigger_class" if issubclass(planted, QueueMessageTrigger) else "stream_class": planted}
    first = FIRST_SEEDS.get(planted.__name__, 0)
    found = next((result for result in play(range(first, first + 400), **classes) if result.violation), None)
    assert found is not None
    assert re.search(violation, found.violation)
    [again] = play(range(found.seed, found.seed + 1), **classes)
    assert again == found
