"""
Start what is to be seen on the pictures of the documentation, and have a browser photograph it.

Called by ``scripts/screenshots``, with the Python of the environment that holds the browser's driver.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import demo
import demo_ui

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
PROCESS_DAG = "cloudflare_queues_process"
PROCESS_RUN = "nightly"
ORDERS = 40


def send_more_orders(cloudflare: dict[str, Any]) -> None:
    """Send what the second example meets: most can be shipped, two are out of stock, one is no order."""
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    orders: list[dict[str, Any]] = [
        {"order": number, "quantity": 1 + number % 3} for number in range(100, 100 + ORDERS)
    ]
    orders[7]["quantity"] = orders[23]["quantity"] = 0
    del orders[15]["quantity"]
    CloudflareQueuesHook("cloudflare_demo").send(cloudflare["queues"]["orders"], orders)


def terminal() -> list[dict[str, str]]:
    """Run what is shown in a terminal; return each command with all that it wrote."""
    emulator = [sys.executable, "-m", "airflow_provider_cfqueues.emulator", "--port", "0", "--queue", "orders"]
    process = subprocess.Popen(emulator, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    written = [process.stdout.readline()]
    while not written[-1].startswith("{"):  # its log comes by the same way here
        written.append(process.stdout.readline())
    cloudflare = json.loads(written[-1])
    try:
        queue = f"accounts/{cloudflare['account_id']}/queues/{cloudflare['queues']['orders']}"
        curl = ["curl", "--silent", "--header", f"Authorization: Bearer {cloudflare['api_token']}", "--json"]
        url = f"{cloudflare['base_url']}/{queue}/messages"
        bodies = {"": '{"body": {"order": 1}}', "/pull": '{"batch_size": 10}'}
        answers = [
            subprocess.run([*curl, body, url + path], capture_output=True, text=True, check=True).stdout
            for path, body in bodies.items()
        ]
    finally:
        process.terminate()
    log = process.stdout.read()
    shown = "curl --silent --header \"Authorization: Bearer $TOKEN\" --json '{}' $QUEUE/messages{}"
    return [
        {"command": "python -m airflow_provider_cfqueues.emulator --queue orders", "output": "".join(written) + log},
        *(
            {"command": shown.format(body, path), "output": answer}
            for (path, body), answer in zip(bodies.items(), answers, strict=True)
        ),
    ]


def photograph(api: demo_ui.Api, cloudflare: dict[str, Any], python: str) -> int:
    """Run the examples, then let the browser look."""
    states = [demo_ui.run_once(api, cloudflare)]
    send_more_orders(cloudflare)
    states.append(demo_ui.run_dag(api, PROCESS_DAG, PROCESS_RUN))
    scene = {
        "airflow": api.url,
        "settled": f"/dags/{demo.DAG_ID}/runs/{demo_ui.FIRST_RUN}",
        "processed": f"/dags/{PROCESS_DAG}/runs/{PROCESS_RUN}",
        "terminal": terminal(),
    }
    IMAGES.mkdir(exist_ok=True)
    browser = [python, str(ROOT / "scripts" / "screenshots_browser.py"), str(IMAGES)]
    done = subprocess.run(browser, input=json.dumps(scene), text=True, check=False)
    return done.returncode or (states != ["success", "success"])


def main() -> int:
    """Make all pictures."""
    (python,) = sys.argv[1:]
    with demo.airflow_home() as home:
        return demo_ui.serve(home, lambda api, cloudflare: photograph(api, cloudflare, python))


if __name__ == "__main__":
    sys.exit(main())
