"""
How fast the emulator pulls and acknowledges 100 messages over HTTP, at a backlog of 100,000.

    python benchmarks/emulator_speed.py [--rounds 100] [--state FILE]

The emulator runs as a process of its own. The peer, a bare Starlette application that reads the same request
and answers as many bytes, shows how much of that any server of this kind takes on this machine. Ends with 1
where a median is over the goal.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKLOG = 100_000
BATCH = 100
GOAL_MS = 4.0

PEER = """
import asyncio, json, socket, sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def echo(request):
    await request.body()
    return Response(b"x" * int(request.query_params["size"]), media_type="application/json")

listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
print(json.dumps({"base_url": "http://127.0.0.1:%d" % listener.getsockname()[1]}), flush=True)
config = uvicorn.Config(Starlette(routes=[Route("/", echo, methods=["POST"])]), http="h11", log_level="error",
                        access_log=False, lifespan="off", ws="none")
asyncio.run(uvicorn.Server(config).serve([listener]))
"""


class Client:
    """One kept-alive connection that takes the time of each call."""

    def __init__(self, base_url: str, headers: dict[str, str]) -> None:
        url = urlsplit(base_url)
        self._connection = http.client.HTTPConnection(url.hostname or "", url.port)
        self._prefix = url.path
        self._headers = {"content-type": "application/json", **headers}

    def post(self, path: str, body: Any) -> tuple[float, bytes]:
        """Return milliseconds and answer of a call."""
        data = json.dumps(body)
        began = time.perf_counter()
        self._connection.request("POST", self._prefix + path, data, self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        took = (time.perf_counter() - began) * 1000
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {answer[:200]!r}")
        return took, answer


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[dict[str, Any]]:
    """Run Python and give the JSON of its first line."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as running:
        try:
            assert running.stdout
            yield json.loads(running.stdout.readline())
        finally:
            running.terminate()


def fill(client: Client, queue: str) -> None:
    """Send the backlog, 100 bytes a message."""
    batch = {"messages": [{"body": "x" * 100, "content_type": "text"}] * BATCH}
    for _ in range(BACKLOG // BATCH):
        client.post(f"{queue}/messages/batch", batch)


def measure(rounds: int, state: str | None) -> dict[str, list[float]]:
    """Return the times of each kind of call, of the emulator and of its peer."""
    times: dict[str, list[float]] = {"pull(100)": [], "ack(100)": [], "peer, pull": [], "peer, ack": []}
    options = ["--port", "0", *(["--state", state] if state else [])]
    with (
        process("-m", "airflow_provider_cfqueues.emulator", *options) as facts,
        process("-c", PEER) as peer_facts,
    ):
        client = Client(facts["base_url"], {"authorization": f"Bearer {facts['api_token']}"})
        peer = Client(peer_facts["base_url"], {})
        queue = f"/accounts/{facts['account_id']}/queues/{next(iter(facts['queues'].values()))}"
        fill(client, queue)

        def call(name: str, path: str, body: Any) -> Any:
            took, answer = client.post(f"{queue}/messages/{path}", body)
            times[f"{path}(100)"].append(took)
            times[f"peer, {path}"].append(peer.post(f"/?size={len(answer)}", body)[0])
            return json.loads(answer)["result"]

        for _ in range(rounds):
            messages = call("pull", "pull", {"batch_size": BATCH})["messages"]
            acks = [{"lease_id": message["lease_id"]} for message in messages]
            assert call("ack", "ack", {"acks": acks})["ackCount"] == BATCH
            client.post(f"{queue}/messages/batch", {"messages": [{"body": {"again": 1}}] * BATCH})
    return times


def show(rows: list[list[str]], write: Callable[[str], Any] = print) -> None:
    """Print a table, with rich where it is there."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ModuleNotFoundError:
        for row in rows:
            write("".join(cell.ljust(14) if not index else cell.rjust(12) for index, cell in enumerate(row)))
        return
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


def main() -> int:
    """Measure, print, and compare with the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--state", metavar="FILE", help="keep the backlog in this file instead of in memory")
    options = parser.parse_args()
    times = measure(options.rounds, options.state)
    rows = [["call", "median ms", "p95 ms", "x peer"]]
    for name in ("pull(100)", "ack(100)"):
        median = statistics.median(times[name])
        peer = statistics.median(times[f"peer, {name.partition('(')[0]}"])
        p95 = statistics.quantiles(times[name], n=20)[-1]
        rows.append([name, f"{median:.2f}", f"{p95:.2f}", f"{median / peer:.1f}"])
        rows.append(["  bare peer", f"{peer:.2f}", "", "1.0"])
    show(rows)
    print(f"goal: at most {GOAL_MS:g} ms, median, at a backlog of {BACKLOG:,} messages")
    return int(any(statistics.median(times[name]) > GOAL_MS for name in ("pull(100)", "ack(100)")))


if __name__ == "__main__":
    sys.exit(main())
