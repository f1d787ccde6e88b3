"""What is measured, each function in a process of its own: ``python -m benchmarks.children NAME [ARGUMENT ...]``."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.floors import FLOORS, Clock, decode


def process(queue_id: str, count: str) -> dict[str, float]:
    """Process messages by a handler that does nothing, default arguments."""
    from airflow_provider_cfqueues.operators.queues import QueueProcessOperator

    first, done = [0.0], [0]

    def handle(message: Any) -> None:
        done[0] += 1
        if done[0] == 1_000:
            first[0] = clock.seconds

    task = QueueProcessOperator(task_id="p", queue_id=queue_id, handler=handle, max_messages=int(count))
    clock = Clock()
    task.execute({})
    return {
        "seconds": clock.seconds,
        "cpu": clock.cpu,
        "first": first[0],
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def hook(queue_id: str, rounds: str) -> dict[str, float]:
    """Pull, ack and send a hundred messages through the hook and through ``requests``, in turns."""
    import requests

    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    ours, session = CloudflareQueuesHook(), requests.Session()
    session.headers["Authorization"] = f"Bearer {os.environ['CF_TOKEN']}"
    url = f"{os.environ['CLOUDFLARE_BASE_URL']}/accounts/{os.environ['CF_ACCOUNT']}/queues/{queue_id}/messages/"
    bodies = [{"order": 1, "note": "small"}] * 100
    used: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = call()
        used[name] = used.get(name, 0) + time.process_time() - began
        return result

    def post(path: str, payload: Any) -> Any:
        return session.post(url + path, json=payload, timeout=30).json()["result"]

    for number in range(int(rounds) + 1):
        if number == 1:
            used.clear()  # the first opens connections
        pulled = timed("pull", lambda: ours.pull(queue_id, max_messages=100, visibility_timeout=300))
        timed("ack", lambda: ours.ack(queue_id, acks=pulled.messages))  # noqa: B023 - called at once
        timed("send", lambda: ours.send(queue_id, bodies))
        bare = timed("bare pull", lambda: post("pull", {"batch_size": 100, "visibility_timeout_ms": 300_000}))
        acks = [{"lease_id": message["lease_id"]} for message in bare["messages"]]
        timed("bare ack", lambda: post("ack", {"acks": acks, "retries": []}))  # noqa: B023 - called at once
        timed("bare send", lambda: post("batch", {"messages": [{"body": body} for body in bodies]}))
    return {name: seconds / int(rounds) * 1000 for name, seconds in used.items()}


def lookup(name: str) -> dict[str, float]:
    """Look for a queue that does not exist."""
    from airflow_provider_cfqueues.exceptions import NotFoundError
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    clock = Clock()
    try:
        CloudflareQueuesHook().get_queue_id(name)
    except NotFoundError:
        return {"seconds": clock.seconds}
    raise SystemExit(f"there is a queue {name}")


def drain(queue_name: str, count: str) -> dict[str, float]:
    """Empty a queue into a file, as the command does."""
    from airflow_provider_cfqueues.__main__ import main

    clock = Clock()
    try:
        main(["drain", queue_name, "--max", count, "--output", str(Path(tempfile.mkdtemp()) / "drained.jsonl")])
    except SystemExit as ended:
        if ended.code:
            raise
    return {"seconds": clock.seconds}


def redrive(source: str, target: str, count: str) -> dict[str, float]:
    """Move the messages of a dead-letter queue back; how long that took is what the task reports."""
    from airflow_provider_cfqueues.operators.queues import QueueRedriveOperator

    task = QueueRedriveOperator(task_id="r", queue_name=source, target_queue_name=target, max_messages=int(count))
    return {"seconds": task.execute({})["seconds"]}


def loop(queue_id: str) -> dict[str, float]:
    """Pull large bodies in an event loop, and note for how long nothing else ran in it."""
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    async def work() -> float:
        hook = CloudflareQueuesHook()
        await hook.apull(queue_id, max_messages=1)  # opens the connection
        return await _longest_gap(hook.apull(queue_id, max_messages=100))

    return {"gap_ms": asyncio.run(work()) * 1000, "floor_ms": decode(queue_id) * 1000}


def watchers(queue_id: str, count: str) -> dict[str, float]:
    """Start many triggers in one event loop, as Airflow does, and note for how long nothing else ran in it."""
    from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger

    async def start() -> None:
        tasks: list[Any] = []
        for _ in range(int(count)):
            await asyncio.sleep(0)  # the triggerer lets others run before each trigger that it creates
            trigger = QueueMessageTrigger(queue_id=queue_id, settle="task", poll_interval=60)
            tasks.append(asyncio.ensure_future(anext(trigger.run())))
        await asyncio.sleep(2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return {"gap_ms": asyncio.run(_longest_gap(start())) * 1000}


async def _longest_gap(work: Any) -> float:
    longest, task = 0.0, asyncio.ensure_future(work)
    while not task.done():
        began = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - began - 0.001)
    await task
    return longest


CHILDREN: dict[str, Callable[..., dict[str, float]]] = {
    child.__name__: child for child in (process, hook, lookup, drain, redrive, loop, watchers, *FLOORS)
}

if __name__ == "__main__":
    print("RESULT" + json.dumps(CHILDREN[sys.argv[1]](*sys.argv[2:])), flush=True)
