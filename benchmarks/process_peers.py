"""
What other consumers of queues make of the same work: pull, handle, ack small messages with 50 ms added to each request.

    python benchmarks/process_peers.py [--sdk PYTHON] [--cfq PYTHON] [--onestep PYTHON] [--sqs PYTHON]

Each option names a Python that has the peer: ``cloudflare``; ``cfq``; ``onestep-cf-queues``; ``boto3`` and
``moto[server]``. Peers without one are left out. Every consumer runs in a process of its own, against the emulator in
another (the loop on boto3: against moto's server, the delay being slept before each request, since moto has none). It
takes its own time and CPU, from its start, imports excluded, until its last ack is answered.

Requests are counted by the emulator, for boto3 by its own events. What Cloudflare bills are operations: one for each
64 KB written, read and deleted, so a small message that is sent, delivered once and acked costs three, and a pull that
finds nothing costs one; the queue holds more than is handled, so that here none does. A message that was delivered and
not acked will be delivered and billed again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests
from process_throughput import connection, control_url, fill, start_emulator
from rich.console import Console
from rich.table import Table

DELAY_MS = 50
SPARE = 5_000

BEGIN = """
import asyncio, json, os, sys, time
from importlib.metadata import version
queue_id, count = sys.argv[1], int(sys.argv[2])
url, token, account_id = (os.environ.get(name) for name in ("CLOUDFLARE_BASE_URL", "CF_TOKEN", "CF_ACCOUNT"))
done, requests = 0, None

def begin():
    global began, began_cpu
    began, began_cpu = time.monotonic(), time.process_time()

def end(package):
    seconds, cpu = time.monotonic() - began, time.process_time() - began_cpu
    package = package and f"{package} {version(package)}"
    result = {"package": package, "seconds": seconds, "cpu": cpu, "done": done, "requests": requests}
    print("RESULT" + json.dumps(result), flush=True)
"""

OURS = """
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
def handle(message):
    global done
    done += 1
task = QueueProcessOperator(task_id="p", queue_id=queue_id, handler=handle, max_messages=count)
begin()
task.execute({})
end(None)
"""

SDK = """
from cloudflare import Cloudflare
client = Cloudflare(api_token=token)
client.queues.messages
begin()
while done < count:
    pulled = client.queues.messages.pull(queue_id, account_id=account_id, batch_size=100, visibility_timeout_ms=300000)
    acks = [{"lease_id": message.lease_id} for message in pulled.messages]
    client.queues.messages.ack(queue_id, account_id=account_id, acks=acks)
    done += len(acks)
end("cloudflare")
"""

CFQ = """
from cfq import CFQ
async def main():
    consumers = CFQ(token, account_id, **OPTIONS)
    enough = asyncio.Event()
    @consumers.consumer(queue_id)
    async def handle(message):
        global done
        done += 1
        if done >= count:
            enough.set()
    begin()
    running = asyncio.create_task(consumers.start())
    await enough.wait()
    await consumers.stop()
    end("cfq")
asyncio.run(main())
"""

ONESTEP = """
from onestep import OneStepApp
from onestep_cf_queues import CFQueuesConnector
options = OPTIONS
concurrency = options.pop("concurrency", 1)
app = OneStepApp("bench")
jobs = CFQueuesConnector(account_id=account_id, api_token=token, base_url=url).queue(queue_id, **options)
@app.task(source=jobs, concurrency=concurrency)
async def handle(context, item):
    global done
    done += 1
    if done >= count:
        app.request_shutdown()
begin()
asyncio.run(app.serve())
end("onestep-cf-queues")
"""

SQS = """
import socket, subprocess, boto3
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
for _ in range(3000):
    with socket.socket() as probe:
        if not probe.connect_ex(("127.0.0.1", port)):
            break
    time.sleep(0.1)
sqs = boto3.client("sqs", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                   aws_access_key_id="a", aws_secret_access_key="b")
queue = sqs.create_queue(QueueName="bench")["QueueUrl"]
for _ in range(count // 10):
    body = json.dumps({"order": 1, "note": "small"})
    sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": str(n), "MessageBody": body} for n in range(10)])
requests = 0
def delay(**_):
    global requests
    requests += 1
    time.sleep(DELAY)
sqs.meta.events.register("before-send", delay)
begin()
while done < count:
    received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    entries = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(received)]
    sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
    done += len(entries)
end("boto3")
server.terminate()
"""


@dataclass(frozen=True)
class Consumer:
    """Somebody who empties a queue: the option that names its Python, its script, and how many messages it gets."""

    name: str
    peer: str
    script: str
    messages: int


CONSUMERS = (
    Consumer("QueueProcessOperator, defaults", "", OURS, 40_000),
    Consumer("loop on the official SDK, 100 a pull", "sdk", SDK, 5_000),
    Consumer("cfq, defaults", "cfq", CFQ.replace("OPTIONS", "{}"), 5_000),
    Consumer("cfq, 100 a pull", "cfq", CFQ.replace("OPTIONS", "{'max_batch_size': 100}"), 5_000),
    Consumer("onestep, defaults", "onestep", ONESTEP.replace("OPTIONS", "{}"), 400),
    Consumer(
        "onestep, 100 a pull, concurrency 100",
        "onestep",
        ONESTEP.replace("OPTIONS", "{'batch_size': 100, 'concurrency': 100}"),
        5_000,
    ),
    Consumer("loop on boto3, 10 a receive (moto)", "sqs", SQS.replace("DELAY", str(DELAY_MS / 1000)), 2_000),
)


def main() -> None:
    """Measure all consumers that there is a Python for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for peer in dict.fromkeys(consumer.peer for consumer in CONSUMERS if consumer.peer):
        parser.add_argument(f"--{peer}", metavar="PYTHON")
    pythons = {"": sys.executable, **vars(parser.parse_args())}
    columns = ("who", "version", "messages/s", "CPU s", "requests", "billed", "not acked")
    title = f"{DELAY_MS} ms added to each request; CPU, requests and billed operations per 1,000 messages"
    table = Table(*columns, title=title)
    for consumer in CONSUMERS:
        if pythons[consumer.peer]:
            table.add_row(consumer.name, *measure(consumer, pythons[consumer.peer]))
    Console(width=130).print(table)


def measure(consumer: Consumer, python: str) -> list[str]:
    """Let a consumer work, and return its row."""
    with emulator() as cloudflare:
        fill(cloudflare, consumer.messages + SPARE, DELAY_MS)
        result = run(consumer, python, cloudflare)
        log, state = get(cloudflare, "requests"), get(cloudflare, "state")
    thousands = result["done"] / 1000
    row = [result["package"] or "", f"{result['done'] / result['seconds']:,.0f}", f"{result['cpu'] / thousands:.2f}"]
    if result["requests"] is not None:  # SQS bills requests
        return [*row, *[f"{result['requests'] / thousands:,.0f}"] * 2, "0"]
    calls = [request for request in log if request["path"].endswith(("/pull", "/ack"))]
    if len(calls) == len(log):
        raise SystemExit(f"{consumer.name}: more requests than the emulator remembers; give it fewer messages")
    totals = state["queues"][0]["totals"]
    billed = result["done"] + totals["delivered"] + totals["acked"]
    not_acked = totals["delivered"] - totals["acked"]
    return [*row, f"{len(calls) / thousands:,.0f}", f"{billed / thousands:,.0f}", f"{not_acked:,}"]


@contextlib.contextmanager
def emulator() -> Iterator[dict[str, Any]]:
    """Run the emulator."""
    process, cloudflare = start_emulator()
    try:
        yield cloudflare
    finally:
        process.terminate()
        process.wait()


def get(cloudflare: dict[str, Any], what: str) -> Any:
    """Read from the control paths of the emulator."""
    return requests.get(f"{control_url(cloudflare)}/{what}", timeout=60).json()


def run(consumer: Consumer, python: str, cloudflare: dict[str, Any]) -> dict[str, Any]:
    """Run a consumer in a process of its own, and return what it says of itself."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": tempfile.mkdtemp(),
        "AIRFLOW_CONN_CLOUDFLARE_DEFAULT": json.dumps(connection(cloudflare)),
        "CLOUDFLARE_BASE_URL": cloudflare["base_url"],
        "CF_TOKEN": cloudflare["api_token"],
        "CF_ACCOUNT": cloudflare["account_id"],
    }
    command = [python, "-c", BEGIN + consumer.script, cloudflare["queues"]["bench"], str(consumer.messages)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=600).stdout
    answer: dict[str, Any] = json.loads(output.rpartition("RESULT")[2].splitlines()[0])
    return answer


if __name__ == "__main__":
    main()
