"""One hook in several event loops and threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings

from airflow_provider_cfqueues.client.async_http import MAX_CONNECTIONS
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook


def test_a_hook_outlives_an_event_loop(queue):
    hook = CloudflareQueuesHook()

    async def measure():
        metrics = await hook.aget_metrics(queue)
        await hook.aclose()
        return metrics

    for _ in range(2):
        assert asyncio.run(measure()).backlog_count == 0


def test_what_an_ended_event_loop_left_open_does_not_fail_the_next(queue):
    hook = CloudflareQueuesHook()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the connection left open on purpose
        asyncio.run(hook.aget_metrics(queue))
        asyncio.run(hook.aget_metrics(queue))
        asyncio.run(hook.aclose())
        del hook
        gc.collect()


def test_first_calls_at_once_share_a_client(cf, queue):
    hook = CloudflareQueuesHook()

    async def at_once():
        clients = await asyncio.gather(*(hook.aget_conn() for _ in range(5)))
        await hook.aclose()
        return clients

    assert len({id(client) for client in asyncio.run(at_once())}) == 1


def test_more_calls_at_once_than_connections_wait_their_turn(queue):
    hook = CloudflareQueuesHook()

    async def at_once():
        answers = await asyncio.gather(*(hook.aget_metrics(queue) for _ in range(MAX_CONNECTIONS + 20)))
        await hook.aclose()
        return answers

    assert {metrics.backlog_count for metrics in asyncio.run(at_once())} == {0}


def test_threads_share_a_client(cf):
    hook, clients = CloudflareQueuesHook(), []
    threads = [threading.Thread(target=lambda: clients.append(hook.get_conn())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hook.close()
    assert len({id(client) for client in clients}) == 1
