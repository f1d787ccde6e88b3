"""The rule for messages that a redrive does not move, under drawn faults: whatever fails, nothing is deleted."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest

from airflow_provider_cfqueues.emulator import Emulator
from airflow_provider_cfqueues.engines.redriving.options import RedriveOptions
from airflow_provider_cfqueues.engines.redriving.redrive import Redrive
from airflow_provider_cfqueues.engines.settlement import Situation
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Consumer

SEEDS = 12
NO = {"success": False, "errors": [{"code": 10000, "message": "no"}]}
FAULTS = [
    {"path": "batch", "status": 403, "body": NO},
    {"path": "batch", "status": 400, "body": NO, "times": 3},
    {"path": "batch", "status": 429, "body": {"success": False, "errors": [{"code": 10251, "message": "full"}]}},
    {"path": "ack", "status": 403, "body": NO},
    {"path": "consumers", "status": 403, "body": NO},
]


class ForgetsTheRule(Redrive):
    """Gives back messages as if nothing could ever delete them."""

    async def _settle(self, batch):
        self._source.situation = Situation(consumer=Consumer(type="http_pull", max_retries=1_000))
        await super()._settle(batch)


def is_even(message):
    return message.body["n"] % 2 == 0


def play(seed, connect, kind=Redrive):
    """Redrive a queue whose messages have few deliveries, a few times; return what the emulator deleted."""
    random = Random(seed)
    with Emulator(queues=["failed", "orders"]) as cf:
        connect(cf)
        hook = CloudflareQueuesHook()
        failed, orders = cf.queues["failed"], cf.queues["orders"]
        hook.update_pull_consumer(failed, consumer_max_retries=random.choice((3, 4)))
        count = random.choice((1, 5, 30))
        hook.send(failed, [{"n": n} for n in range(count)])
        for _ in range(6):
            for fault in random.sample(FAULTS, random.choice((0, 1, 1, 2))):
                cf.add_fault(**fault)
            options = RedriveOptions(
                match=random.choice((None, f"function:{__name__}.is_even")),
                unmatched_delay_seconds=0,
                max_messages=count,
                idle_timeout=0,
                visibility_timeout=4,
            )
            with suppress(CloudflareQueuesError):
                kind(CloudflareQueuesHook(), failed, orders, options).run()
        queues = {queue["name"]: queue for queue in cf.state()["queues"]}
        kept = queues["failed"]["backlog_count"] + queues["orders"]["backlog_count"]
        assert kept >= count - queues["failed"]["totals"]["exhausted"]
        return queues["failed"]["totals"]["exhausted"]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_redrive_never_costs_a_message_its_last_delivery_whatever_fails(seed, connect):
    assert play(seed, connect) == 0


def test_a_redrive_that_forgets_the_rule_is_found(connect):
    assert any(play(seed, connect, ForgetsTheRule) for seed in range(SEEDS))
