"""An emulated Cloudflare, a process of its own, and what a campaign does to it past the provider."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests


class Cloudflare:
    """
    The emulator and what can be done to it.

    :param attributes: what its first line said.
    :param log: its log.
    """

    def __init__(self, attributes: dict[str, Any], log: Path) -> None:
        self.attributes = attributes
        self.base_url: str = attributes["base_url"]
        self.account_id: str = attributes["account_id"]
        self.api_token: str = attributes["api_token"]
        self.log = log
        self._queue_ids: dict[str, str] = attributes["queues"]
        self.session = requests.Session()

    @property
    def control_url(self) -> str:
        """The address of the control paths."""
        return f"{self.base_url.removesuffix('/client/v4')}/_emulator"

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to it."""
        extra = {"account_id": self.account_id}
        return {"conn_type": "cloudflare", "host": self.base_url, "password": self.api_token, "extra": extra}

    def control(self, method: str, name: str, body: Any = None) -> Any:
        """Call a control path, which no fault meets."""
        response = self.session.request(method, f"{self.control_url}/{name}", json=body, timeout=120)
        response.raise_for_status()
        return response.json()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API."""
        url = f"{self.base_url}/accounts/{self.account_id}/queues{path}"
        headers = {"Authorization": f"Bearer {self.api_token}"}
        response = self.session.request(method, url, json=body, headers=headers, timeout=30)
        response.raise_for_status()
        return response.json()["result"]

    def add_faults(self, *rules: dict[str, Any]) -> None:
        """Let the next calls fail."""
        self.control("POST", "faults", list(rules))

    def faults(self) -> list[dict[str, Any]]:
        """Return the rules that still wait for calls."""
        left: list[dict[str, Any]] = self.control("GET", "state")["faults"]
        return left

    def advance(self, seconds: float) -> None:
        """Move the clock, so that leases and delays end."""
        self.control("POST", "clock", {"advance_seconds": seconds})

    def queue(self, name: str) -> Queue:
        """Return a queue that the emulator was started with, or that was made here."""
        return Queue(self, name, self._queue_ids[name])

    def create_queue(self, name: str) -> Queue:
        """Make a queue with a dead-letter queue, and so many deliveries that no message gets there by itself."""
        for one in (f"{name}-failed", name):
            self._queue_ids[one] = self.call("POST", "", {"queue_name": one})["queue_id"]
        consumer = {"type": "http_pull", "dead_letter_queue": f"{name}-failed", "settings": {"max_retries": 100}}
        self.call("POST", f"/{self._queue_ids[name]}/consumers", consumer)
        return self.queue(name)

    def calls(self, path: str = "") -> int:
        """Return how many calls there were, of a path or of all; the emulator itself remembers only the latest."""
        return sum(f"{path} -> " in line for line in self.log.read_text().splitlines())


@dataclass(frozen=True)
class Queue:
    """A queue, as the emulator knows it."""

    cloudflare: Cloudflare
    name: str
    queue_id: str

    def send(self, bodies: Sequence[Any], at_once: int = 100) -> None:
        """Send texts and objects, so many in a request: the API takes 100, and 256 KB."""
        for start in range(0, len(bodies), at_once):
            batch = [
                {"body": body, "content_type": "text" if isinstance(body, str) else "json"}
                for body in bodies[start : start + at_once]
            ]
            self.cloudflare.call("POST", f"/{self.queue_id}/messages/batch", {"messages": batch})

    def set_dead_letter_queue(self, name: str, max_retries: int) -> None:
        """Give the queue what every queue should have: a place for messages that fail again and again."""
        path = f"/{self.queue_id}/consumers"
        (consumer,) = self.cloudflare.call("GET", path)
        wanted = {"type": "http_pull", "dead_letter_queue": name, "settings": {"max_retries": max_retries}}
        self.cloudflare.call("PUT", f"{path}/{consumer['consumer_id']}", wanted)

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
        return self.cloudflare.calls(f"/{self.queue_id}/messages/{name}")


@contextmanager
def cloudflare(folder: Path, *queues: str, state: Path | None = None, **options: Any) -> Iterator[Cloudflare]:
    """
    Start the emulator on a free port, and end it.

    :param folder: for its log.
    :param queues: the names of the queues that there are from the start.
    :param state: the file that holds what it knows, for whoever looks into it afterwards.
    :param options: of the process.
    """
    command = [sys.executable, "-m", "airflow_provider_cfqueues.emulator", "--port", "0"]
    command += ["--api-token", f"harness-{secrets.token_hex(16)}"]  # that can be looked for in logs
    command += [part for name in queues for part in ("--queue", name)]
    if state is not None:
        command += ["--state", str(state)]
    log = folder / "emulator.log"
    with log.open("w") as stderr:
        options = {"stderr": stderr, "start_new_session": True, **options}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        if not first_line:
            sys.exit(f"The emulator did not start:\n{log.read_text()}")
        yield Cloudflare(json.loads(first_line), log)
    finally:
        process.terminate()
        process.wait()
