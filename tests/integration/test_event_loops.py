"""One hook in several event loops and threads."""

from __future__ import annotations

import asyncio
import threading

from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook


def test_a_hook_outlives_an_event_loop(queue):
    hook = CloudflareQueuesHook()
    for _ in range(2):
        assert asyncio.run(hook.aget_metrics(queue)).backlog_count == 0
    asyncio.run(hook.aclose())


def test_first_calls_at_once_share_a_client(cf, queue):
    hook = CloudflareQueuesHook()

    async def at_once():
        clients = await asyncio.gather(*(hook.aget_conn() for _ in range(5)))
        await hook.aclose()
        return clients

    assert len({id(client) for client in asyncio.run(at_once())}) == 1


def test_threads_share_a_client(cf):
    hook, clients = CloudflareQueuesHook(), []
    threads = [threading.Thread(target=lambda: clients.append(hook.get_conn())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hook.close()
    assert len({id(client) for client in clients}) == 1
