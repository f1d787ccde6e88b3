"""
What ``hook.ack`` of 100 leases costs, beside a bare ``requests.Session.post`` and the official SDK, in one run.

    python benchmarks/hook_ack.py [--rounds 300]

All send the same leases to the same server (a process of its own) and, but for the floor, write and read the JSON: once
to the emulator, which settles them, and once to a server that reads them and answers at once. The rounds take turns, so
that a noisy machine is noisy for all; the ratio is that of the medians. The floor is what no client can be faster than:
bytes that were prepared before, over ``http.client``. What is above it is the client's own.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
from emulator_speed import process
from process_throughput import connection, fill, start_emulator
from rich.console import Console
from rich.table import Table

PEER = """
import asyncio, json, socket, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

ANSWER = json.dumps({"success": True, "errors": [], "messages": [],
                     "result": {"ackCount": 100, "retryCount": 0, "warnings": {}}}, separators=(",", ":")).encode()

async def ack(request):
    await request.body()
    return Response(ANSWER, media_type="application/json")

listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
print(json.dumps({"base_url": "http://127.0.0.1:%d/client/v4" % listener.getsockname()[1]}), flush=True)
config = uvicorn.Config(Starlette(routes=[Route("/{path:path}", ack, methods=["POST"])]), http="h11",
                        log_level="error", access_log=False, lifespan="off", ws="none")
asyncio.run(uvicorn.Server(config).serve([listener]))
"""
FLOOR, BARE, OURS, SDK = "floor: prepared bytes", "requests.Session.post", "CloudflareQueuesHook.ack", "official SDK"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    emulator, cloudflare = start_emulator()
    try:
        with process("-c", PEER) as peer:
            for name, base_url in (
                ("the emulator", cloudflare["base_url"]),
                ("a server that answers at once", peer["base_url"]),
            ):
                show(name, measure({**cloudflare, "server": base_url}, rounds))
    finally:
        emulator.terminate()
        emulator.wait()


def show(name: str, medians: dict[str, float]) -> None:
    """Print the table of one server."""
    columns = ("who", "median", "x bare post", "x SDK", "above the floor", "x SDK")
    table = Table(*columns, title=f"Ack 100 leases at {name}, no added latency")
    table.columns[0].no_wrap = True
    floor = medians[FLOOR]
    for who, seconds in medians.items():
        own = [] if who == FLOOR else [milliseconds(seconds - floor), ratio(seconds - floor, medians[SDK] - floor)]
        table.add_row(who, milliseconds(seconds), ratio(seconds, medians[BARE]), ratio(seconds, medians[SDK]), *own)
    Console().print(table)


def milliseconds(seconds: float) -> str:
    """Return seconds as they are shown."""
    return f"{seconds * 1000:.2f} ms"


def ratio(seconds: float, others: float) -> str:
    """Return how many times the seconds of another it are."""
    return f"{seconds / others:.2f}"


def measure(cloudflare: dict, rounds: int) -> dict[str, float]:
    """Return the median seconds of each."""
    from cloudflare import Cloudflare

    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    url, token, account_id = cloudflare["server"], cloudflare["api_token"], cloudflare["account_id"]
    queue_id = cloudflare["queues"]["bench"]
    os.environ["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"] = json.dumps(connection(cloudflare))
    os.environ["AIRFLOW_CONN_MEASURED"] = json.dumps({**connection(cloudflare), "host": url})
    source, hook = CloudflareQueuesHook(), CloudflareQueuesHook("measured")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    session = requests.Session()
    session.headers.update(headers)
    sdk = Cloudflare(api_token=token, base_url=url)
    ack_url = urlsplit(f"{url}/accounts/{account_id}/queues/{queue_id}/messages/ack")
    wire = http.client.HTTPConnection(ack_url.netloc)

    def body(leases: list[str]) -> dict[str, Any]:
        return {"acks": [{"lease_id": lease} for lease in leases], "retries": []}

    def raw(content: bytes) -> None:
        wire.request("POST", ack_url.path, content, headers)
        assert b'"ackCount":100' in wire.getresponse().read()

    def bare(leases: list[str]) -> None:
        answer = session.post(ack_url.geturl(), json=body(leases), timeout=30).json()
        assert answer["result"]["ackCount"] == 100

    def ours(leases: list[str]) -> None:
        assert hook.ack(queue_id, acks=leases).ack_count == 100

    def official(leases: list[str]) -> None:
        acks = [{"lease_id": lease} for lease in leases]
        assert sdk.queues.messages.ack(queue_id, account_id=account_id, acks=acks).ack_count == 100

    contenders: dict[str, Callable[[Any], None]] = {FLOOR: raw, BARE: bare, OURS: ours, SDK: official}
    times: dict[str, list[float]] = {who: [] for who in contenders}
    fill(cloudflare, 100 * len(contenders) * (rounds + 1), 0)
    for _ in range(rounds + 1):
        for who, contender in contenders.items():
            leases = [message.lease_id for message in source.pull(queue_id, max_messages=100, visibility_timeout=3600)]
            given = json.dumps(body(leases)).encode() if who == FLOOR else leases
            began = time.perf_counter()
            contender(given)
            times[who].append(time.perf_counter() - began)
    return {who: statistics.median(measured[1:]) for who, measured in times.items()}


if __name__ == "__main__":
    main()
