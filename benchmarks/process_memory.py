"""
How much the memory of one task grows while it processes a million small messages.

    python benchmarks/process_memory.py [--messages 1000000]

The emulator runs as a process of its own, in memory, and is refilled while the task runs, so that neither of the two
ever holds more than a small part of the messages. The task, with default arguments, notes its resident memory
(``VmRSS``) after each tenth of the messages; the table shows each tenth and what grew between the first and the last.
Ends with 1 where that is more than the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import requests
from process_throughput import connection, fill, queue_url, small_messages, start_emulator
from rich.console import Console
from rich.table import Table

LIMIT_MB = 50
BACKLOG = 20_000
"""The emulator is kept at so many messages: more than the task pulls ahead."""

TASK = """
import sys
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator

queue_id, count = sys.argv[1], int(sys.argv[2])
handled = 0

def handle(message):
    global handled
    handled += 1
    if handled % (count // 10) == 0:
        with open("/proc/self/status") as status:
            resident = next(line for line in status if line.startswith("VmRSS"))
        print(f"resident {handled} {resident.split()[1]}", flush=True)

QueueProcessOperator(task_id="p", queue_id=queue_id, handler=handle, max_messages=count).execute({})
"""


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    count = parser.parse_args().messages
    emulator, cloudflare = start_emulator()
    try:
        began = time.monotonic()
        resident = measure(cloudflare, count)
        seconds = time.monotonic() - began
    finally:
        emulator.terminate()
        emulator.wait()
    table = Table("messages", "resident memory", title="One task, default arguments")
    for handled, kilobytes in resident:
        table.add_row(f"{handled:,}", f"{kilobytes / 1000:.1f} MB")
    Console().print(table)
    growth = (resident[-1][1] - resident[0][1]) / 1000
    print(f"grew by {growth:.1f} MB between the first tenth and the last (limit {LIMIT_MB} MB), in {seconds:.0f} s")
    return int(growth > LIMIT_MB)


def measure(cloudflare: dict, count: int) -> list[tuple[int, int]]:
    """Run the task, keep its queue filled, and return its memory in kB by messages handled."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": tempfile.mkdtemp(),
        "AIRFLOW_CONN_CLOUDFLARE_DEFAULT": json.dumps(connection(cloudflare)),
    }
    sent = min(count, BACKLOG)
    fill(cloudflare, sent, 0)
    command = [sys.executable, "-c", TASK, cloudflare["queues"]["bench"], str(count)]
    with tempfile.TemporaryFile("w+") as output:
        task = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.DEVNULL)
        while task.poll() is None:
            sent += refill(cloudflare, count - sent)
            time.sleep(0.2)
        output.seek(0)
        lines = [line.split() for line in output if line.startswith("resident ")]
    if task.returncode or len(lines) < 2:
        raise SystemExit(f"the task ended with {task.returncode}")
    return [(int(handled), int(kilobytes)) for _, handled, kilobytes in lines]


def refill(cloudflare: dict, left: int) -> int:
    """Bring the queue back to its backlog; return how many messages were sent."""
    headers = {"Authorization": f"Bearer {cloudflare['api_token']}"}
    with requests.Session() as session:
        session.headers.update(headers)
        metrics = session.get(f"{queue_url(cloudflare)}/metrics", timeout=60).json()["result"]
        room = min(left, BACKLOG - metrics["backlog_count"]) // 100
        for _ in range(room):
            answer = session.post(f"{queue_url(cloudflare)}/messages/batch", json=small_messages(100), timeout=60)
            answer.raise_for_status()
    return 100 * max(0, room)


if __name__ == "__main__":
    sys.exit(main())
