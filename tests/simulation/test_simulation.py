"""The engine through thousands of seeds of faults; and the simulation's own proof: it finds bugs planted on purpose."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timezone

import msgspec
import pytest

from airflow_provider_cfqueues.engines.processing.engine import Engine
from airflow_provider_cfqueues.engines.processing.handling import Handling
from airflow_provider_cfqueues.engines.processing.report import Handled
from airflow_provider_cfqueues.engines.processing.settler import Settler
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Happened, Kind
from airflow_provider_cfqueues.exceptions import TransportError
from airflow_provider_cfqueues.models import Consumer
from simulation.run import play, play_on_all_cores

SEEDS = 1_000


def test_nothing_is_lost_hidden_or_acked_undone_whatever_fails():
    results = play_on_all_cores(range(SEEDS))
    failed = [f"seed {result.seed}: {result.violation}" for result in results if result.violation]
    assert failed == []


def test_the_same_seed_gives_the_same_run():
    first, again = ([result.trace for result in play(range(40), with_trace=True)] for _ in range(2))
    assert first == again


def test_a_seed_does_not_depend_on_those_before_it():
    [alone] = play([39], with_trace=True)
    *_, last = play(range(40), with_trace=True)
    assert alone == last


class AcksFirst(Handling):
    """Says that messages are done, and then handles them."""

    async def run(self, messages, on_done):
        for message in messages:
            on_done(Handled(message=message, happened=Happened.HANDLED, finished_at=self._now()))
        await super().run(messages, lambda handled: None)


class HandlesExpired(Handling):
    """Does not look at the lease."""

    def _sort_out(self, messages, on_done):
        now, self._now = self._now, lambda: datetime.min.replace(tzinfo=timezone.utc)
        try:
            return super()._sort_out(messages, on_done)
        finally:
            self._now = now


class DropsStaged(Settler):
    """Clears, when a request is answered, also what was staged while it was under way."""

    async def _send(self, batch):
        await super()._send(batch)
        self._staged.clear()


class CountsUnconfirmed(Settler):
    """Reports as done what the API did not confirm."""

    async def _send(self, batch):
        await super()._send(batch)
        fates = self._state.report.fates
        fates[Kind.ACKED] += fates.pop(Kind.UNCONFIRMED, 0)


class ForgetsRetries(Settler):
    """Sends the acks of a batch only."""

    async def _send(self, batch):
        await super()._send([settlement for settlement in batch if settlement.kind is not Kind.RETRIED])


class TrustsTheDeadLetterQueue(HookQueue):
    """Acks what is rejected without waiting for the copy to be accepted."""

    async def settle(self, settling):
        settling._copied |= {settlement.message.lease_id for settlement in settling.open}
        await super().settle(settling)


class TakesSilenceForAnAck(HookQueue):
    """Counts as settled what a request without an answer was to settle."""

    async def settle(self, settling):
        try:
            await super().settle(settling)
        except TransportError:
            settling.settled += [(settlement, True) for settlement in settling.open]
            settling.open = []


class OverlooksAShortage(HookQueue):
    """Counts as settled what no warning names, whatever the API counted."""

    async def settle(self, settling):
        await super().settle(settling)
        settling.settled = [
            (settlement, is_confirmed or "counted fewer" in settling._texts[settlement.message.lease_id])
            for settlement, is_confirmed in settling.settled
        ]


def planted(*, handling=Handling, settler=Settler, queue=HookQueue):
    class Planted(Engine):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._handling.__class__ = handling
            self._settler.__class__ = settler
            self.state.queue.__class__ = queue

    Planted.__name__ = next(
        bug for bug in (handling, settler, queue) if bug not in (Handling, Settler, HookQueue)
    ).__name__
    return Planted


class GivesNothingBack(Engine):
    """Forgets, at its end, what it pulled and did not handle."""

    def _give_back(self, messages, reason):
        super()._give_back([], reason)


class RetriesAtOnce(Engine):
    """Takes no heed of the delay that was asked for."""

    def _settle(self, handled):
        super()._settle(msgspec.structs.replace(handled, delay_seconds=0))


class PullsOn(Engine):
    """Goes on when it is told to stop."""

    def stop(self, *, killed=False):
        pass


class ForgetsTheRule(Engine):
    """Gives back messages as if nothing could ever delete them."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        consumer = Consumer(type="http_pull", max_retries=1_000)
        self.state.situation = replace(self.state.situation, consumer=consumer)


class JournalsEverything(Engine):
    """Notes in its journal also what was not handled with success."""

    def _settle(self, handled):
        super()._settle(handled)
        if self.journal is not None:
            self.journal.note(handled.message)


FIRST_SEEDS = {"TrustsTheDeadLetterQueue": 3_100, "TakesSilenceForAnAck": 1_200}
"""Requests are repeated: few seeds have a copy that is refused for good, or an ack that never gets an answer."""


@pytest.mark.parametrize(
    ("engine", "violation"),
    [
        (planted(handling=AcksFirst), "is acked, and was neither handled nor accepted"),
        (planted(handling=HandlesExpired), "though its lease ended"),
        (planted(settler=DropsStaged), "pulled .*, and reports"),
        (planted(settler=CountsUnconfirmed), "reports more acks than took place"),
        (planted(settler=ForgetsRetries), "pulled .*, and reports"),
        (planted(queue=TrustsTheDeadLetterQueue), "is acked, and was neither handled nor accepted"),
        (planted(queue=TakesSilenceForAnAck), "reports more acks than took place"),
        (planted(queue=OverlooksAShortage), "reports more (acks|retries) than took place"),
        (GivesNothingBack, "pulled .*, and reports"),
        (RetriesAtOnce, "s were asked for"),
        (ForgetsTheRule, "Cloudflare may delete it by that"),
        (JournalsEverything, "is acked, and was neither handled nor accepted"),
        (PullsOn, "begins after stop|runs on after it was killed"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_bug_planted_on_purpose_is_found(engine, violation):
    first = FIRST_SEEDS.get(engine.__name__, 0)
    found = next((result for result in play(range(first, first + 400), engine_class=engine) if result.violation), None)
    assert found is not None
    assert re.search(violation, found.violation)
    [again] = play([found.seed], engine_class=engine)
    assert again == found
