"""
What ``hook.ack`` of 100 leases costs, beside a bare ``requests.Session.post`` and the official SDK, in one run.

    python benchmarks/hook_ack.py [--rounds 300]

All three send the same leases to the same emulator (a process of its own) and read the JSON of the answer. The rounds
take turns, so that a noisy machine is noisy for all; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import requests
from process_throughput import fill, start_emulator
from rich.console import Console
from rich.table import Table


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    process, cloudflare = start_emulator()
    try:
        medians = measure(cloudflare, rounds)
    finally:
        process.terminate()
        process.wait()
    table = Table("who", "median", "against a bare post", "against the SDK", title="Ack 100 leases, no added latency")
    for who, seconds in medians.items():
        ratios = [f"{seconds / medians[peer]:.2f}" for peer in ("requests.Session.post", "official SDK")]
        table.add_row(who, f"{seconds * 1000:.2f} ms", *ratios)
    Console().print(table)


def measure(cloudflare: dict, rounds: int) -> dict[str, float]:
    """Return the median seconds of each."""
    from cloudflare import Cloudflare

    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    url, token, account_id = cloudflare["base_url"], cloudflare["api_token"], cloudflare["account_id"]
    queue_id = cloudflare["queues"]["bench"]
    extra = {"account_id": account_id}
    connection = {"conn_type": "cloudflare", "host": url, "password": token, "extra": extra}
    os.environ["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"] = json.dumps(connection)
    hook = CloudflareQueuesHook()
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    sdk = Cloudflare(api_token=token, base_url=url)
    ack_url = f"{url}/accounts/{account_id}/queues/{queue_id}/messages/ack"

    def bare(leases: list[str]) -> None:
        body = {"acks": [{"lease_id": lease} for lease in leases], "retries": []}
        assert session.post(ack_url, json=body, timeout=30).json()["result"]["ackCount"] == 100

    def ours(leases: list[str]) -> None:
        assert hook.ack(queue_id, acks=leases).ack_count == 100

    def official(leases: list[str]) -> None:
        acks = [{"lease_id": lease} for lease in leases]
        assert sdk.queues.messages.ack(queue_id, account_id=account_id, acks=acks).ack_count == 100

    contenders: dict[str, Callable[[list[str]], None]] = {
        "requests.Session.post": bare,
        "CloudflareQueuesHook.ack": ours,
        "official SDK": official,
    }
    times: dict[str, list[float]] = {who: [] for who in contenders}
    fill(cloudflare, 300 * (rounds + 1), 0)
    for _ in range(rounds + 1):
        for who, contender in contenders.items():
            leases = [message.lease_id for message in hook.pull(queue_id, max_messages=100, visibility_timeout=3600)]
            began = time.perf_counter()
            contender(leases)
            times[who].append(time.perf_counter() - began)
    return {who: statistics.median(measured[1:]) for who, measured in times.items()}


if __name__ == "__main__":
    main()
