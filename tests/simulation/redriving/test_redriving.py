"""Redrives through seeds of faults; and the simulation's own proof: it finds bugs planted on purpose."""

from __future__ import annotations

import asyncio
import re

import pytest

from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.redriving.redrive import Redrive
from airflow_provider_cfqueues.engines.settlement import Case, Happened, choose_settlement
from airflow_provider_cfqueues.models import Consumer
from simulation.redriving.world import World
from simulation.run import play

SEEDS = 200


def test_no_message_is_lost_acked_unsent_or_given_back_to_be_deleted_whatever_fails():
    failed = [f"seed {result.seed}: {result.violation}" for result in play(range(SEEDS), World) if result.violation]
    assert failed == []


def test_a_seed_gives_the_same_run_whatever_ran_before_it():
    [alone] = play([19], World, with_trace=True)
    *_, last = play(range(10, 20), World, with_trace=True)
    assert alone == last


class ForgetsTheRule(Redrive):
    """Gives back messages as if nothing could ever delete them."""

    async def move(self, consumer):
        await super().move(Consumer(type="http_pull", max_retries=1_000))


class AcksUnsent(Redrive):
    """Takes what it is about to send for sent."""

    async def _send(self, batch):
        batch.sent.update(message.lease_id for message in batch.messages)
        await super()._send(batch)


class PullsAhead(Redrive):
    """Pulls the next messages while the last ones are sent."""

    async def _send(self, batch):
        ahead = asyncio.ensure_future(self._source.pull(100))
        await super()._send(batch)
        await ahead


class GivesNothingBack(Redrive):
    """Forgets what it did not come to send."""

    async def _settle(self, batch):
        batch.messages = [message for message in batch.messages if message.lease_id in batch.sent]
        await super()._settle(batch)


class RenewsWithoutACopy(HookQueue):
    """Acks what is to be sent again without waiting for the copy to be accepted."""

    async def settle(self, settling):
        settling._copied |= {settlement.message.lease_id for settlement in settling.open}
        await super().settle(settling)


class TrustsItsCopies(Redrive):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._source.__class__ = RenewsWithoutACopy


class MovesWhatStays(Redrive):
    """Acks what does not match."""

    def _choose(self, message, batch, staying):
        if message.lease_id in staying:
            return choose_settlement(Case(message=message, happened=Happened.HANDLED), self._source.situation)
        return super()._choose(message, batch, staying)


@pytest.mark.parametrize(
    ("redrive", "violation"),
    [
        (ForgetsTheRule, "Cloudflare may delete it by that"),
        (AcksUnsent, "is acked, and no queue accepted"),
        (PullsAhead, "pulls, and .* is not moved yet"),
        (GivesNothingBack, "pulled .*, and reports"),
        (TrustsItsCopies, "is acked, and no queue accepted"),
        (MovesWhatStays, "is acked, and no queue accepted"),
    ],
)
def test_a_bug_planted_on_purpose_is_found(redrive, violation):
    found = next((result for result in play(range(300), World, redrive_class=redrive) if result.violation), None)
    assert found is not None
    assert re.search(violation, found.violation)
