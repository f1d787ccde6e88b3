"""What the demo's DAG works on: an emulated Cloudflare with a queue of orders."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

DAG_ID = "cloudflare_queues_ack_retry"
ORDERS = 25
CANNOT_SHIP = 5


@contextmanager
def emulator(port: int) -> Iterator[dict[str, Any]]:
    """Start the emulator as a process of its own; yield what its first line says."""
    command = [sys.executable, "-m", "airflow_provider_cfqueues.emulator", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--queue", "orders"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        if not first_line:
            sys.exit(f"The emulator did not start: {' '.join(command)} ended with {process.wait()}")
        yield json.loads(first_line)
    finally:
        process.terminate()
        process.wait()


def connection(cloudflare: dict[str, Any]) -> dict[str, Any]:
    """Return the Airflow connection to the emulator."""
    return {
        "conn_type": "cloudflare",
        "host": cloudflare["base_url"],
        "password": cloudflare["api_token"],
        "extra": {"account_id": cloudflare["account_id"]},
    }


def set_dead_letter_queue(cloudflare: dict[str, Any]) -> None:
    """Give the queue what every queue should have: a place for messages that fail again and again."""
    queue = f"accounts/{cloudflare['account_id']}/queues/{cloudflare['queues']['orders']}"
    url = f"{cloudflare['base_url']}/{queue}/consumers"
    headers = {"Authorization": f"Bearer {cloudflare['api_token']}"}
    (consumer,) = requests.get(url, headers=headers, timeout=10).json()["result"]
    wanted = {"type": "http_pull", "dead_letter_queue": "orders-failed", "settings": {"max_retries": 5}}
    requests.put(f"{url}/{consumer['consumer_id']}", json=wanted, headers=headers, timeout=10).raise_for_status()


def send_orders(queue_id: str, conn_id: str = "cloudflare_default") -> None:
    """Send orders, of which some cannot be shipped, by the provider's own hook."""
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    orders: list[dict[str, Any]] = [{"order": number, "quantity": 1 + number % 3} for number in range(ORDERS)]
    for order in orders[:: ORDERS // CANNOT_SHIP]:
        order["quantity"] = 0
    sent = CloudflareQueuesHook(conn_id).send(queue_id, orders)
    print(f"Sent {sent.sent_count} orders to the queue 'orders', {CANNOT_SHIP} of which cannot be shipped\n")


def look_into_queue(cloudflare: dict[str, Any]) -> dict[str, int]:
    """Return what the queue itself says happened."""
    control = cloudflare["base_url"].removesuffix("/client/v4")
    state = requests.get(f"{control}/_emulator/state", timeout=10).json()
    (queue,) = (queue for queue in state["queues"] if queue["name"] == "orders")
    totals = queue["totals"]
    return {
        "pulled": totals["delivered"],
        "acked": totals["acked"],
        "retried": totals["retried"],
        "left": queue["backlog_count"],
    }
