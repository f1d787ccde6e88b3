"""What the demo's DAG works on: an emulated Cloudflare with a queue of orders."""

from __future__ import annotations

from typing import Any

from harness.cloudflare import Cloudflare

DAG_ID = "cloudflare_queues_ack_retry"
ORDERS = 25
CANNOT_SHIP = 5


def prepare(cloudflare: Cloudflare, conn_id: str = "cloudflare_default") -> None:
    """Give the queue a dead-letter queue, and send it orders, of which some cannot be shipped."""
    cloudflare.queue("orders").set_dead_letter_queue("orders-failed", max_retries=5)
    send_orders(cloudflare.queue("orders").queue_id, conn_id)


def send_orders(queue_id: str, conn_id: str = "cloudflare_default") -> None:
    """Send orders, of which some cannot be shipped, by the provider's own hook."""
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    orders: list[dict[str, Any]] = [{"order": number, "quantity": 1 + number % 3} for number in range(ORDERS)]
    for order in orders[:: ORDERS // CANNOT_SHIP]:
        order["quantity"] = 0
    sent = CloudflareQueuesHook(conn_id).send(queue_id, orders)
    print(f"Sent {sent.sent_count} orders to the queue 'orders', {CANNOT_SHIP} of which cannot be shipped\n")


def look_into_queue(cloudflare: Cloudflare) -> dict[str, int]:
    """Return what the queue itself says happened."""
    queue = cloudflare.queue("orders").state()
    totals = queue["totals"]
    return {
        "pulled": totals["delivered"],
        "acked": totals["acked"],
        "retried": totals["retried"],
        "left": queue["backlog_count"],
    }
