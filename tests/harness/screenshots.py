"""
Start what is to be seen on the pictures of the documentation, and have a browser photograph it.

Called by ``scripts/screenshots``, with the Python of the environment that holds the browser's driver.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.cloudflare import Cloudflare
from harness.demo_orders import DAG_ID
from harness.demo_ui import FIRST_RUN, orders_in_airflow, run_once
from harness.local_airflow import ROOT, Api, airflow_home, ended_in_order, run_dag

IMAGES = ROOT / "docs" / "images"
PROCESS_DAG = "cloudflare_queues_process"
PROCESS_RUN = "nightly"
ORDERS = 40
COLUMNS = 100
"""How wide the terminal of a picture is."""


def send_more_orders(cloudflare: Cloudflare) -> None:
    """Send what the second example meets: most can be shipped, two are out of stock, one is no order."""
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    orders: list[dict[str, Any]] = [
        {"order": number, "quantity": 1 + number % 3} for number in range(100, 100 + ORDERS)
    ]
    orders[7]["quantity"] = orders[23]["quantity"] = 0
    del orders[15]["quantity"]
    CloudflareQueuesHook("cloudflare_demo").send(cloudflare.queue("orders").queue_id, orders)


def shown(program: str, *arguments: str) -> dict[str, str]:
    """Run a module of ours; return the command as a reader would type it, and all that it wrote."""
    command = [sys.executable, "-m", program, *arguments]
    terminal = {**os.environ, "COLUMNS": str(COLUMNS)}
    done = subprocess.run(
        command, env=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return {"command": shlex.join(["python", *command[1:]]), "output": done.stdout}


def look_at_queues() -> list[dict[str, str]]:
    """Run the command line against the queues that the examples have worked on."""
    ours = "airflow_provider_cfqueues"
    return [shown(ours, *arguments, "--conn-id", "cloudflare_demo") for arguments in (["ping", "orders"], ["queues"])]


def talk_to_emulator() -> list[dict[str, str]]:
    """Start an emulator, send it a message with curl and pull that again; return what was typed and written."""
    arguments = ["-m", "airflow_provider_cfqueues.emulator", "--port", "0", "--queue", "orders"]
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        written = [process.stdout.readline()]
        while not written[-1].startswith("{"):  # its log comes by the same way here
            written.append(process.stdout.readline())
        cloudflare = json.loads(written[-1])
        queue = f"accounts/{cloudflare['account_id']}/queues/{cloudflare['queues']['orders']}"
        url = f"{cloudflare['base_url']}/{queue}/messages"
        header = "Authorization: Bearer "
        calls = []
        for path, body in {"": '{"body": {"order": 1}}', "/pull": '{"batch_size": 10}'}.items():
            curl = ["curl", "--silent", "--header", header + cloudflare["api_token"], "--json", body, url + path]
            answer = subprocess.run(curl, capture_output=True, text=True, check=True).stdout
            typed = f"curl --silent --header \"{header}$TOKEN\" --json '{body}' $QUEUE/messages{path}"
            calls.append({"command": typed, "output": answer})
    finally:
        process.terminate()
    log = "".join(written) + process.stdout.read()
    return [{"command": shlex.join(["python", *arguments]), "output": log}, *calls]


@contextmanager
def busy_emulator() -> Iterator[str]:
    """Run an emulator whose messages are in all states that its page shows; give the page's address."""
    import requests

    from airflow_provider_cfqueues.emulator import Emulator

    queues = {"orders": {"dead_letter_queue": "orders-failed"}, "invoices": {"max_retries": 1}}
    with Emulator(queues=queues) as cf, requests.Session() as http:
        http.headers["Authorization"] = f"Bearer {cf.api_token}"

        def pull(name: str, seconds: int, *, retry: bool = False) -> None:
            url = f"{cf.base_url}/accounts/{cf.account_id}/queues/{cf.queues[name]}/messages"
            asked = {"batch_size": 1, "visibility_timeout_ms": seconds * 1000}
            [message] = http.post(f"{url}/pull", json=asked).json()["result"]["messages"]
            if retry:
                http.post(f"{url}/ack", json={"retries": [{"lease_id": message["lease_id"], "delay_seconds": 90}]})

        cf.send(cf.queues["orders"], {"order": 1001, "quantity": 2})
        cf.send(cf.queues["invoices"], "invoice 17", content_type="text")
        pull("invoices", 60)
        for _ in range(3):
            pull("orders", 60)
            cf.advance(60)
        for number in range(1002, 1007):
            cf.send(cf.queues["orders"], {"order": number, "quantity": 1 + number % 3})
            cf.advance(1)
        pull("orders", 40)
        pull("orders", 40)
        pull("orders", 40, retry=True)
        yield cf.base_url.removesuffix("/client/v4")


def photograph(api: Api, cloudflare: Cloudflare, python: str, folder: Path) -> int:
    """Run the examples, then let the browser look."""
    states = [run_once(api, cloudflare)]
    send_more_orders(cloudflare)
    states.append(run_dag(api, PROCESS_DAG, PROCESS_RUN))
    scene = {
        "airflow": api.url,
        "settled": f"/dags/{DAG_ID}/runs/{FIRST_RUN}",
        "processed": f"/dags/{PROCESS_DAG}/runs/{PROCESS_RUN}",
        "emulator": talk_to_emulator(),
        "command line": look_at_queues(),
    }
    folder.mkdir(exist_ok=True)
    browser = [python, "-m", "harness.screenshots_browser", str(folder)]
    with busy_emulator() as page:
        scene["emulator page"] = page
        done = subprocess.run(browser, input=json.dumps(scene), text=True, check=False)
    return done.returncode or (states != ["success", "success"])


def main() -> int:
    """Make all pictures."""
    python, *given = sys.argv[1:]
    folder = Path(given[0]).resolve() if given else IMAGES
    with airflow_home() as home, orders_in_airflow(home) as (api, cloudflare):
        return photograph(api, cloudflare, python, folder)


if __name__ == "__main__":
    sys.exit(ended_in_order(main))
