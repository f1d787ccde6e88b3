"""How much the memory of one task grows while it processes many small messages, its queue refilled meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from benchmarks.stage import OURS, Row, emulator, environment, fill, pin
from harness.cloudflare import Queue

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


def rows(count: int) -> Iterator[Row]:
    """
    Run a task, and yield its memory after the first and the last tenth of its messages.

    :param count: how many messages.
    """
    with emulator() as queue:
        resident = measure(queue, count)
    growth = resident[-1] - resident[0]
    yield Row(f"process: RSS in MB after {count // 10:,} messages", resident[0])
    yield Row(f"process: MB that it grows by until {count:,}", growth, f"<= {LIMIT_MB}", growth <= LIMIT_MB)


def measure(queue: Queue, count: int) -> list[float]:
    """
    Run the task, keep its queue filled, and return its memory in MB after each tenth.

    :param queue: its queue.
    :param count: how many messages.
    """
    sent = min(count, BACKLOG)
    fill(queue, sent)
    command = [sys.executable, "-c", TASK, queue.queue_id, str(count)]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryDirectory() as home:
        settings = {**os.environ, "AIRFLOW_HOME": home, **environment(queue)}
        task = subprocess.Popen(command, env=settings, stdout=output, stderr=subprocess.DEVNULL, preexec_fn=pin(OURS))
        while task.poll() is None:
            backlog = queue.cloudflare.call("GET", f"/{queue.queue_id}/metrics")["backlog_count"]
            refill = max(0, min(count - sent, BACKLOG - backlog)) // 100 * 100
            fill(queue, refill)
            sent += refill
            time.sleep(0.2)
        output.seek(0)
        kilobytes = [int(line.split()[2]) for line in output if line.startswith("resident ")]
    if task.returncode or len(kilobytes) < 2:
        raise RuntimeError(f"the task ended with {task.returncode}")
    return [each / 1000 for each in kilobytes]
