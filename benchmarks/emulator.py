"""How fast the emulator pulls and acks 100 messages over HTTP, beside a bare Starlette application."""

from __future__ import annotations

import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from benchmarks.stage import SERVER, emulator, fill, pin

BATCH = 100

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
def bare_server() -> Iterator[dict[str, Any]]:
    """Run the peer."""
    command = [sys.executable, "-c", PEER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=pin(SERVER)) as server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())
        finally:
            server.terminate()


def measure(rounds: int, backlog: int) -> dict[str, float]:
    """
    Return the median milliseconds of each kind of call, of the emulator and of its peer.

    :param rounds: how often each is called.
    :param backlog: how many messages wait meanwhile, of 100 bytes each.
    """
    times: dict[str, list[float]] = {"pull": [], "ack": [], "peer, pull": [], "peer, ack": []}
    with emulator() as queue, bare_server() as peer_facts:
        fill(queue, backlog, body={"text": "x" * 90})
        messages_url = (
            f"{queue.cloudflare.base_url}/accounts/{queue.cloudflare.account_id}/queues/{queue.queue_id}/messages"
        )
        client = Client(messages_url, {"authorization": f"Bearer {queue.cloudflare.api_token}"})
        peer = Client(peer_facts["base_url"], {})

        def call(name: str, body: Any) -> Any:
            took, answer = client.post(f"/{name}", body)
            times[name].append(took)
            times[f"peer, {name}"].append(peer.post(f"/?size={len(answer)}", body)[0])
            return json.loads(answer)["result"]

        for _ in range(rounds):
            messages = call("pull", {"batch_size": BATCH})["messages"]
            acks = [{"lease_id": message["lease_id"]} for message in messages]
            assert call("ack", {"acks": acks})["ackCount"] == BATCH
            client.post("/batch", {"messages": [{"body": {"again": 1}}] * BATCH})
    return {name: statistics.median(taken) for name, taken in times.items()}
