"""
How fast one task pulls, handles and acks, with latency added to each request.

    python benchmarks/process_throughput.py [--messages 50000] [--peer-python PYTHON]

The emulator runs as a process of its own. Beside it, in the same run, the straightforward loop on the official SDK
(pull 100, ack 100), where ``--peer-python`` names a Python that has ``cloudflare``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import requests
from rich.console import Console
from rich.table import Table

OURS = """
import sys
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
queue_id, count = sys.argv[1], int(sys.argv[2])
QueueProcessOperator(task_id="p", queue_id=queue_id, handler=lambda message: None, max_messages=count).execute({})
"""
SDK_LOOP = """
import os, sys
from cloudflare import Cloudflare
client = Cloudflare(api_token=os.environ["CF_TOKEN"], base_url=os.environ["CF_URL"])
queue_id, count, account_id, done = sys.argv[1], int(sys.argv[2]), os.environ["CF_ACCOUNT"], 0
while done < count:
    pulled = client.queues.messages.pull(queue_id, account_id=account_id, batch_size=100, visibility_timeout_ms=300000)
    acks = [{"lease_id": message.lease_id} for message in pulled.messages]
    client.queues.messages.ack(queue_id, account_id=account_id, acks=acks)
    done += len(acks)
"""


def start_emulator() -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start the emulator with one queue."""
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_cfqueues.emulator", "--port", "0", "--queue", "bench"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def connection(cloudflare: dict[str, Any]) -> dict[str, Any]:
    """Return the Airflow connection to the emulator."""
    return {
        "conn_type": "cloudflare",
        "host": cloudflare["base_url"],
        "password": cloudflare["api_token"],
        "extra": {"account_id": cloudflare["account_id"]},
    }


def control_url(cloudflare: dict[str, Any]) -> str:
    """Return where the emulator is controlled."""
    return cloudflare["base_url"].removesuffix("/client/v4") + "/_emulator"


def queue_url(cloudflare: dict[str, Any]) -> str:
    """Return where the API has the queue."""
    return f"{cloudflare['base_url']}/accounts/{cloudflare['account_id']}/queues/{cloudflare['queues']['bench']}"


def small_messages(count: int) -> dict[str, Any]:
    """Return the request that sends so many messages."""
    return {"messages": [{"body": {"order": 1, "note": "small"}, "content_type": "json"}] * count}


def fill(cloudflare: dict[str, Any], count: int, delay_ms: int) -> None:
    """Reset the emulator, send the messages and add the latency."""
    control = control_url(cloudflare)
    requests.post(f"{control}/reset", timeout=60).raise_for_status()
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {cloudflare['api_token']}"
    for _ in range(count // 100):
        session.post(f"{queue_url(cloudflare)}/messages/batch", json=small_messages(100), timeout=60).raise_for_status()
    faults = [{"path": path, "delay_ms": delay_ms, "times": 10**9} for path in ("pull", "ack")]
    requests.post(f"{control}/faults", json=faults, timeout=60).raise_for_status()


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run a command; return its seconds and the CPU seconds of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure at both latencies and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=50_000, help="messages per run of ours; the loop gets a tenth")
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has the official SDK")
    arguments = parser.parse_args()
    process, cloudflare = start_emulator()
    home = tempfile.mkdtemp()
    environment = {
        "AIRFLOW_HOME": home,
        "AIRFLOW_CONN_CLOUDFLARE_DEFAULT": json.dumps(connection(cloudflare)),
        "CF_URL": cloudflare["base_url"],
        "CF_TOKEN": cloudflare["api_token"],
        "CF_ACCOUNT": cloudflare["account_id"],
    }
    table = Table(
        "latency",
        "who",
        "messages",
        "messages/s",
        "CPU cores",
        "CPU s per 1,000",
        title="Pull, handle, ack (start-up taken off)",
    )
    try:
        for delay_ms in (50, 200):
            for who, python, code, count in (
                ("QueueProcessOperator", sys.executable, OURS, arguments.messages),
                ("loop on the official SDK", arguments.peer_python, SDK_LOOP, arguments.messages // 10),
            ):
                queue_id = cloudflare["queues"]["bench"]
                fill(cloudflare, 100, 0)
                idle, idle_cpu = timed([python, "-c", code, queue_id, "100"], environment)
                fill(cloudflare, count, delay_ms)
                seconds, cpu = timed([python, "-c", code, queue_id, str(count)], environment)
                busy, busy_cpu = seconds - idle, cpu - idle_cpu
                table.add_row(
                    f"{delay_ms} ms",
                    who,
                    f"{count:,}",
                    f"{count / busy:,.0f}",
                    f"{busy_cpu / busy:.2f}",
                    f"{busy_cpu / count * 1000:.2f}",
                )
    finally:
        process.terminate()
        process.wait()
    Console().print(table)


if __name__ == "__main__":
    main()
