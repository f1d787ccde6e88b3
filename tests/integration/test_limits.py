"""What tasks do when Cloudflare's limits are reached: the API's rate limit, and the operations of a day."""

from __future__ import annotations

import re
from contextlib import closing, suppress

import pytest

from airflow_provider_cfqueues.emulator import Emulator
from airflow_provider_cfqueues.exceptions import OverQuotaError, RateLimitedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator


@pytest.fixture
def limited(connect):
    started = []

    def start(**options):
        cf = Emulator(queues=["orders"], **options)
        cf.start()
        started.append(cf)
        connect(cf)
        return cf

    yield start
    for cf in started:
        cf.stop()


def fill(cf, messages):
    for number in range(messages):
        cf.send(cf.queues["orders"], {"number": number})


def process(handled):
    operator = QueueProcessOperator(
        task_id="process",
        queue_name="orders",
        handler=lambda message: handled.append(message.body["number"]),
        batch_size=None,
        idle_timeout=0,
    )
    return operator.execute({})


def totals(cf):
    return cf.state()["queues"][0]["totals"]


def test_a_run_that_is_blocked_says_for_how_long_and_a_later_one_finishes_the_work(limited):
    cf = limited(rate_limit=20)
    fill(cf, 50)
    with closing(CloudflareQueuesHook()) as hook:
        for _ in range(17):
            hook.list_queues()
    handled = []
    with pytest.raises(RateLimitedError, match="code 971, asked to wait 300 s") as blocked:
        process(handled)  # it looks the queue and its consumer up and pulls; all else is refused
    assert blocked.value.retry_after == 300
    assert handled
    assert totals(cf)["acked"] == 0
    cf.advance(301)  # the block is over, and the leases have ended
    process(handled)
    assert set(handled) == set(range(50))
    assert (totals(cf)["acked"], totals(cf)["exhausted"]) == (50, 0)


def test_a_block_is_longer_than_a_task_waits(limited):
    cf = limited(rate_limit=1)
    with closing(CloudflareQueuesHook()) as hook:
        hook.list_queues()
        with pytest.raises(RateLimitedError, match="asked to wait 300 s"):
            hook.pull(cf.queues["orders"], max_messages=1)
    assert [request["status"] for request in cf.requests() if request["path"].endswith("/pull")] == [429]


def test_used_up_operations_end_a_run_and_later_days_finish_it(limited):
    cf = limited(daily_operations=350)
    fill(cf, 200)
    handled = []
    with pytest.raises(OverQuotaError, match="code 10253"):
        process(handled)
    for _ in range(2):
        cf.advance(86_400)
        with suppress(OverQuotaError):
            process(handled)
    assert set(handled) == set(range(200))
    assert (totals(cf)["acked"], totals(cf)["exhausted"]) == (200, 0)


def test_a_task_that_could_run_into_the_block_says_so_beforehand(limited, logged):
    cf = limited(rate_limit=1200)
    with closing(CloudflareQueuesHook()) as hook:
        for _ in range(899):
            hook.get_metrics(cf.queues["orders"])
        assert "API requests in" not in logged()
        for _ in range(2):
            hook.get_metrics(cf.queues["orders"])
    assert set(re.findall(r"this task made \d+ API requests", logged())) == {"this task made 900 API requests"}
