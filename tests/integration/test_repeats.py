"""Which failures are repeated and after how long; the clients' clock is moved, never waited for."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_cfqueues.client import message_calls
from airflow_provider_cfqueues.client.flow import once
from airflow_provider_cfqueues.client.settings import parse_settings
from airflow_provider_cfqueues.client.transport import AsyncClient, Client, RepeatPolicy
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, RateLimitedError, ServerError, TransportError

FAILED = {"success": False, "errors": [{"code": 15000, "message": "Unknown"}]}


def settings_of(cf, **fields):
    given = {
        "host": cf.base_url,
        "login": None,
        "password": cf.api_token,
        "extra": {"account_id": cf.account_id},
        **fields,
    }
    return parse_settings("c", **given)


class Caller:
    """Makes calls, sync or async, and notes the waits instead of waiting."""

    def __init__(self, settings, *, is_async, policy=None):
        self.waits = []
        self.settings, self.is_async, self.policy = settings, is_async, policy

    def __call__(self, call):
        return asyncio.run(self._async(call)) if self.is_async else self._sync(call)

    async def _sleep(self, seconds):
        self.waits.append(seconds)

    def _sync(self, call):
        client = Client(self.settings, policy=self.policy, sleep=self._sleep)
        try:
            return client.run(once(call))
        finally:
            client.close()

    async def _async(self, call):
        client = AsyncClient(self.settings, policy=self.policy, sleep=self._sleep)
        try:
            return await client.run(once(call))
        finally:
            await client.aclose()


@pytest.fixture(params=["sync", "async"])
def caller(request, cloudflare_queues):
    return Caller(settings_of(cloudflare_queues), is_async=request.param == "async")


@pytest.fixture
def queue(cloudflare_queues):
    return next(iter(cloudflare_queues.queues.values()))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520])
def test_failures_that_may_pass_are_repeated(caller, cloudflare_queues, queue, status):
    cloudflare_queues.add_fault(path="metrics", status=status, body=FAILED, times=3)
    assert caller(message_calls.get_metrics(queue)).backlog_count == 0
    assert len(caller.waits) == 3
    assert caller.waits[0] <= 1.5
    assert caller.waits == sorted(caller.waits) or max(caller.waits) <= 9


@pytest.mark.parametrize("fault", [{"drop": "before"}, {"drop": "after"}, {"truncate": True}])
def test_connections_that_break_are_repeated(caller, cloudflare_queues, queue, fault):
    cloudflare_queues.add_fault(path="ack", times=2, **fault)
    caller(message_calls.ack(queue, ["unheard-of"], []))
    assert len(caller.waits) == 2


def test_a_refused_connection_is_repeated_and_then_told(cloudflare_queues, queue, caller):
    caller.settings = settings_of(cloudflare_queues, host="http://127.0.0.1:1/client/v4")
    caller.policy = RepeatPolicy(max_seconds=0)
    with pytest.raises(TransportError, match=r"[Rr]efused|connect") as caught:
        caller(message_calls.send(queue, [], repeat_ambiguous=False))
    assert not caught.value.maybe_applied


def test_retry_after_is_waited_for(caller, cloudflare_queues, queue):
    cloudflare_queues.add_fault(path="metrics", status=429, headers={"Retry-After": "7"}, body=FAILED)
    caller(message_calls.get_metrics(queue))
    assert caller.waits == [7]


def test_a_retry_after_of_zero_does_not_hammer_the_api(caller, cloudflare_queues, queue):
    cloudflare_queues.add_fault(path="metrics", status=429, headers={"Retry-After": "0"}, body=FAILED, times=3)
    caller(message_calls.get_metrics(queue))
    assert caller.waits[0] >= 0.5
    assert caller.waits[2] >= 2


def test_a_long_retry_after_is_the_callers_to_wait(caller, cloudflare_queues, queue):
    cloudflare_queues.add_fault(path="metrics", status=429, headers={"Retry-After": "300"}, body=FAILED)
    with pytest.raises(RateLimitedError, match="asked to wait 300 s") as caught:
        caller(message_calls.get_metrics(queue))
    assert caught.value.retry_after == 300
    assert caller.waits == []


def test_the_total_time_is_bounded(caller, cloudflare_queues, queue):
    caller.policy = RepeatPolicy(max_seconds=0)
    cloudflare_queues.add_fault(path="metrics", status=500, body=FAILED, times=100)
    with pytest.raises(ServerError):
        caller(message_calls.get_metrics(queue))
    assert caller.waits == []


def test_a_send_that_may_have_been_accepted_is_not_repeated(caller, cloudflare_queues, queue):
    cloudflare_queues.add_fault(path="batch", status=500, body=FAILED)
    with pytest.raises(ServerError):
        caller(message_calls.send(queue, [], repeat_ambiguous=False))
    assert caller.waits == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409])
def test_failures_that_will_not_pass_are_not_repeated(caller, cloudflare_queues, queue, status):
    cloudflare_queues.add_fault(path="metrics", status=status, body=FAILED)
    with pytest.raises(CloudflareQueuesError):
        caller(message_calls.get_metrics(queue))
    assert caller.waits == []


@pytest.mark.parametrize("code", [10251, 10252, 10253])
def test_quotas_are_not_rate_limits(caller, cloudflare_queues, queue, code):
    body = {"success": False, "errors": [{"code": code, "message": "no"}]}
    cloudflare_queues.add_fault(path="metrics", status=429, body=body)
    with pytest.raises(CloudflareQueuesError):
        caller(message_calls.get_metrics(queue))
    assert caller.waits == []


def test_one_connection_is_kept_alive(cloudflare_queues, queue, caplog):
    client = Client(settings_of(cloudflare_queues))
    with caplog.at_level("DEBUG", "urllib3"):
        for _ in range(3):
            client.run(once(message_calls.get_metrics(queue)))
    client.close()
    assert caplog.text.count("Starting new HTTP connection") == 1
