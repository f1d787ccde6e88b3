"""The same work as ours without us: over bare streams, or by a loop on ``requests``; run by ``children``."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import tempfile
import time
from typing import Any
from urllib.parse import urlsplit


class Clock:
    """Seconds and CPU seconds from its making on."""

    def __init__(self) -> None:
        self._began, self._cpu = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        """How long ago it was made."""
        return time.monotonic() - self._began

    @property
    def cpu(self) -> float:
        """The CPU time of all threads since then."""
        return time.process_time() - self._cpu


def floor(queue_id: str, count: str, connections: str) -> dict[str, float]:
    """Pull and ack as many messages over asyncio streams with the standard library's json: what no client undercuts."""
    left, done, first = [int(count)], [0], [0.0]

    async def work() -> None:
        url = urlsplit(os.environ["CLOUDFLARE_BASE_URL"])
        reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=2**24)
        path = f"{url.path}/accounts/{os.environ['CF_ACCOUNT']}/queues/{queue_id}/messages/"
        head = f"Host: {url.netloc}\r\nAuthorization: Bearer {os.environ['CF_TOKEN']}\r\nContent-Type: application/json"

        async def call(name: str, payload: Any) -> Any:
            body = json.dumps(payload).encode()
            writer.write(f"POST {path}{name} HTTP/1.1\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            return json.loads(await reader.readexactly(int(length)))["result"]

        while left[0] > 0:
            left[0] -= 100
            messages = (await call("pull", {"batch_size": 100, "visibility_timeout_ms": 300_000}))["messages"]
            for message in messages:
                json.loads(base64.b64decode(message["body"]))
            done[0] += len(messages)
            if done[0] >= 1_000:
                first[0] = first[0] or clock.seconds
            await call("ack", {"acks": [{"lease_id": message["lease_id"]} for message in messages], "retries": []})
        writer.close()

    async def every() -> None:
        await asyncio.gather(*(work() for _ in range(int(connections))))

    clock = Clock()
    asyncio.run(every())
    return {"seconds": clock.seconds, "cpu": clock.cpu, "first": first[0]}


class Api:
    """The API through a session of ``requests``, one call at a time."""

    def __init__(self) -> None:
        import requests

        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {os.environ['CF_TOKEN']}"
        self._url = f"{os.environ['CLOUDFLARE_BASE_URL']}/accounts/{os.environ['CF_ACCOUNT']}/queues"

    def get(self, **query: int) -> Any:
        """Return a page of the list of queues."""
        return self._session.get(self._url, params=query, timeout=30).json()

    def post(self, path: str, payload: Any) -> bytes:
        """Return the answer of a call about messages."""
        return self._session.post(f"{self._url}/{path}", json=payload, timeout=60).content

    def pull(self, queue_id: str) -> list[dict[str, Any]]:
        """Pull a hundred messages."""
        answer = self.post(f"{queue_id}/messages/pull", {"batch_size": 100, "visibility_timeout_ms": 300_000})
        messages: list[dict[str, Any]] = json.loads(answer)["result"]["messages"]
        return messages

    def ack(self, queue_id: str, messages: list[dict[str, Any]]) -> None:
        """Ack them."""
        acks = [{"lease_id": message["lease_id"]} for message in messages]
        self.post(f"{queue_id}/messages/ack", {"acks": acks, "retries": []})


def bare_drain(queue_id: str, count: str) -> dict[str, float]:
    """Pull, write to a file and ack, a hundred messages after the other."""
    clock, left = Clock(), int(count)
    api = Api()
    with tempfile.TemporaryFile("w") as file:
        while left > 0:
            messages = api.pull(queue_id)
            file.writelines(json.dumps(message) + "\n" for message in messages)
            api.ack(queue_id, messages)
            left -= len(messages)
    return {"seconds": clock.seconds}


def bare_redrive(source: str, target: str, count: str) -> dict[str, float]:
    """Pull, send to another queue and ack, a hundred messages after the other."""
    clock, left = Clock(), int(count)
    api = Api()
    while left > 0:
        messages = api.pull(source)
        bodies = [{"body": json.loads(base64.b64decode(message["body"]))} for message in messages]
        api.post(f"{target}/messages/batch", {"messages": bodies})
        api.ack(source, messages)
        left -= len(messages)
    return {"seconds": clock.seconds}


def bare_list() -> dict[str, float]:
    """Read the list of queues, a hundred a page."""
    clock, page, pages = Clock(), 0, 1
    api = Api()
    while page < pages:
        page += 1
        pages = api.get(page=page, per_page=100)["result_info"]["total_pages"]
    return {"seconds": clock.seconds}


def decode(queue_id: str) -> float:
    """Return the seconds that ``json.loads`` takes for the answer to a pull of a hundred messages and their bodies."""
    answer = Api().post(f"{queue_id}/messages/pull", {"batch_size": 100, "visibility_timeout_ms": 300_000})
    began = time.monotonic()
    for message in json.loads(answer)["result"]["messages"]:
        json.loads(base64.b64decode(message["body"]))
    return time.monotonic() - began


FLOORS = (floor, bare_drain, bare_redrive, bare_list)
