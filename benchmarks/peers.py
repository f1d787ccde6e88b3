"""
What other consumers of queues make of the same work: pull, handle, ack small messages with 50 ms added to each request.

``BENCH_<PEER>`` names the Python of a peer, in an environment of its own; a peer without one is left out. A consumer
measures itself from its start, imports excluded, until its last ack is answered. The loop on boto3 runs against moto's
server, and sleeps the delay before each request, since moto has none.

The emulator counts the requests; for boto3 its own events do. Cloudflare bills operations: one for each 64 KB written,
read and deleted. The queue holds more than is handled, so that no pull finds nothing. A message that was delivered and
not acked is delivered and billed again.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.stage import Row, delay, emulator, environment, fill, run_python

if TYPE_CHECKING:
    from benchmarks.rows import Effort

DELAY_MS = 50
SPARE = 5_000
WITHOUT = {"cfq": "it needs Python 3.13, which was not found, or could not be installed"}

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
    Consumer("loop on boto3, 10 a receive (moto)", "sqs", SQS.replace("DELAY", str(DELAY_MS / 1000)), 500),
)


def rows(effort: Effort) -> Iterator[Row]:
    """
    Yield the figures of each consumer that there is an environment for.

    :param effort: how many messages each gets.
    """
    for consumer in CONSUMERS:
        python = os.environ.get(f"BENCH_{consumer.peer.upper()}") if consumer.peer else sys.executable
        if not python:
            yield Row(
                consumer.name, None, f"left out: {WITHOUT.get(consumer.peer, 'its environment is not installed')}"
            )
        else:
            yield from measure(consumer, python, effort.count(consumer.messages))


def measure(consumer: Consumer, python: str, count: int) -> Iterator[Row]:
    """
    Let a consumer work, and yield its rows.

    :param consumer: which.
    :param python: the interpreter that has it.
    :param count: how many messages it handles.
    """
    with emulator() as queue, tempfile.TemporaryDirectory() as home:
        if consumer.peer != "sqs":
            fill(queue, count + SPARE)
            delay(queue, DELAY_MS)
        settings = {**os.environ, "AIRFLOW_HOME": home, **environment(queue)}
        result = run_python(["-c", BEGIN + consumer.script, queue.queue_id, str(count)], settings, python)
        log, totals = queue.cloudflare.control("GET", "requests"), queue.totals
    name = f"{consumer.name} ({result['package']})" if result["package"] else consumer.name
    thousands = result["done"] / 1000
    yield Row(f"{name}: messages/s, {DELAY_MS} ms", result["done"] / result["seconds"])
    yield Row(f"{name}: CPU s per 1,000 messages", result["cpu"] / thousands)
    if result["requests"] is not None:  # SQS bills requests
        yield Row(f"{name}: requests and billed operations per 1,000", result["requests"] / thousands)
        return
    calls = sum(request["path"].endswith(("/pull", "/ack")) for request in log)
    billed = (result["done"] + totals["delivered"] + totals["acked"]) / thousands
    mine = not consumer.peer
    if len(log) - calls > 1:  # else the emulator forgot the first ones
        few = calls / thousands
        yield Row(f"{name}: requests per 1,000", few, "<= 22" if mine else "", few <= 22 if mine else None)
    yield Row(
        f"{name}: billed operations per 1,000", billed, "<= 3,000" if mine else "", billed <= 3_000 if mine else None
    )
    yield Row(f"{name}: delivered, not acked", totals["delivered"] - totals["acked"])
