"""The emulated Cloudflare of ``scripts/e2e``, a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

API_TOKEN = "e2e-" + "7f3a" * 8
MESSAGES_PER_SEND = 100


class Cloudflare:
    """
    The emulator and what can be done to it.

    :param attributes: what its first line said.
    :param log: its log.
    """

    def __init__(self, attributes: dict[str, Any], log: Path) -> None:
        self._base_url = attributes["base_url"]
        self._account_id = attributes["account_id"]
        self._log = log
        self._session = requests.Session()

    @property
    def connection(self) -> str:
        """The Airflow connection to it, as JSON."""
        extra = {"account_id": self._account_id}
        return json.dumps({"conn_type": "cloudflare", "host": self._base_url, "password": API_TOKEN, "extra": extra})

    def control(self, method: str, name: str, body: Any = None) -> Any:
        """Call a control path, which no fault meets."""
        root = self._base_url.removesuffix("/client/v4")
        response = self._session.request(method, f"{root}/_emulator/{name}", json=body, timeout=30)
        response.raise_for_status()
        return response.json()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API."""
        url = f"{self._base_url}/accounts/{self._account_id}/queues{path}"
        headers = {"Authorization": f"Bearer {API_TOKEN}"}
        response = self._session.request(method, url, json=body, headers=headers, timeout=30)
        response.raise_for_status()
        return response.json()["result"]

    def add_faults(self, *rules: dict[str, Any]) -> None:
        """Let the next calls fail."""
        self.control("POST", "faults", list(rules))

    def faults_left(self) -> int:
        """Return how many rules still wait for calls."""
        return len(self.control("GET", "state")["faults"])

    def advance(self, seconds: float) -> None:
        """Move the clock, so that leases and delays end."""
        self.control("POST", "clock", {"advance_seconds": seconds})

    def create_queue(self, name: str) -> Queue:
        """Make a queue with a dead-letter queue, and so many deliveries that no message gets there by itself."""
        for one in (f"{name}-failed", name):
            queue_id = self.call("POST", "", {"queue_name": one})["queue_id"]
        consumer = {"type": "http_pull", "dead_letter_queue": f"{name}-failed", "settings": {"max_retries": 100}}
        self.call("POST", f"/{queue_id}/consumers", consumer)
        return Queue(self, name, queue_id)

    def calls(self, path: str) -> int:
        """Return how many calls of a path there were; the emulator itself remembers only the latest."""
        return sum(f"/{path} -> " in line for line in self._log.read_text().splitlines())


@dataclass(frozen=True)
class Queue:
    """A queue, as the emulator knows it."""

    cloudflare: Cloudflare
    name: str
    queue_id: str

    def send(self, bodies: Sequence[Any]) -> None:
        """Send texts and objects."""
        for start in range(0, len(bodies), MESSAGES_PER_SEND):
            batch = [
                {"body": body, "content_type": "text" if isinstance(body, str) else "json"}
                for body in bodies[start : start + MESSAGES_PER_SEND]
            ]
            self.cloudflare.call("POST", f"/{self.queue_id}/messages/batch", {"messages": batch})

    def state(self) -> dict[str, Any]:
        """Return what the emulator says of it."""
        queues = self.cloudflare.control("GET", "state")["queues"]
        found: dict[str, Any] = next(queue for queue in queues if queue["id"] == self.queue_id)
        return found

    @property
    def backlog(self) -> int:
        """How many messages are not acked."""
        return int(self.state()["backlog_count"])

    @property
    def totals(self) -> dict[str, int]:
        """What was ever acked, delivered, …."""
        found: dict[str, int] = self.state()["totals"]
        return found

    def calls(self, name: str) -> int:
        """Return how many calls such as ``pull`` or ``ack`` there were."""
        return self.cloudflare.calls(f"{self.queue_id}/messages/{name}")


@contextmanager
def cloudflare(folder: Path) -> Iterator[Cloudflare]:
    """Start the emulator; its log is in the folder."""
    command = [sys.executable, "-m", "airflow_provider_cfqueues.emulator", "--port", "0", "--api-token", API_TOKEN]
    log = folder / "emulator.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        if not first_line:
            sys.exit(f"The emulator did not start:\n{log.read_text()}")
        yield Cloudflare(json.loads(first_line), log)
    finally:
        process.terminate()
        process.wait()
