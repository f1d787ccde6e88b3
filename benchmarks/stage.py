"""Where a benchmark runs: the emulator on one core, the measured process on the other, and the rows that come of it."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parent.parent
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
OURS, SERVER = (CORES[-1:], CORES[:1]) if len(CORES) > 1 else (CORES, CORES)


@dataclass(frozen=True)
class Row:
    """
    One line of the table.

    :param what: what was measured, with its unit.
    :param ours: our figure; None = not measured, and ``target`` says why.
    :param beside: the figures of others in the same run, by name.
    :param ratio: ours in relation to the first of them, where that says something.
    :param target: what we want, as the table shows it.
    :param met: whether it is so.
    """

    what: str
    ours: float | None
    target: str = ""
    met: bool | None = None
    beside: dict[str, float] = field(default_factory=dict)
    ratio: float | None = None


def pin(cores: Sequence[int]) -> Callable[[], None] | None:
    """
    Return what a child calls to stay on some cores; None where the system cannot.

    :param cores: which.
    """
    return (lambda: os.sched_setaffinity(0, cores)) if cores else None


@dataclass
class Cloudflare:
    """An emulator in a process of its own."""

    facts: dict[str, Any]

    @property
    def queue_id(self) -> str:
        """The queue that every benchmark uses."""
        return str(self.facts["queues"]["bench"])

    @property
    def account_url(self) -> str:
        """Where the API has the account."""
        return f"{self.facts['base_url']}/accounts/{self.facts['account_id']}"

    @property
    def environment(self) -> dict[str, str]:
        """
        What a consumer, ours or a peer, finds the emulator by.

        Airflow's examples are switched off, as in production: to load their plugins takes longer than our start.
        """
        connection = {
            "conn_type": "cloudflare",
            "host": self.facts["base_url"],
            "password": self.facts["api_token"],
            "extra": {"account_id": self.facts["account_id"]},
        }
        return {
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_CLOUDFLARE_DEFAULT": json.dumps(connection),
            "CLOUDFLARE_BASE_URL": self.facts["base_url"],
            "CF_TOKEN": self.facts["api_token"],
            "CF_ACCOUNT": self.facts["account_id"],
        }

    def session(self) -> requests.Session:
        """Return a session that the API accepts."""
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {self.facts['api_token']}"
        return session

    def control(self, name: str, payload: Any = None) -> Any:
        """
        Ask the emulator itself.

        :param name: of the control path.
        :param payload: what is posted; None = a GET.
        """
        url = f"{self.facts['base_url'].removesuffix('/client/v4')}/_emulator/{name}"
        answer = requests.request("GET" if payload is None else "POST", url, json=payload, timeout=120)
        answer.raise_for_status()
        return answer.json()

    def fill(self, count: int, *, body: Any = None, queue_id: str | None = None) -> None:
        """
        Send messages.

        :param count: how many.
        :param body: of each; None = a small JSON object.
        :param queue_id: another queue.
        """
        body = {"order": 1, "note": "small"} if body is None else body
        size = 100 if len(json.dumps(body)) < 2_000 else 2
        messages = {"messages": [{"body": body, "content_type": "json"}] * size}
        url = f"{self.account_url}/queues/{queue_id or self.queue_id}/messages/batch"
        with self.session() as session:
            for _ in range(count // size):
                session.post(url, json=messages, timeout=60).raise_for_status()

    def delay(self, milliseconds: int) -> None:
        """
        Add latency to each request about messages.

        :param milliseconds: how much.
        """
        paths = ("pull", "ack", "batch")
        self.control("faults", [{"path": path, "delay_ms": milliseconds, "times": 10**9} for path in paths])


@contextlib.contextmanager
def emulator(*options: str) -> Iterator[Cloudflare]:
    """
    Run an emulator.

    :param options: of its command line.
    """
    command = [sys.executable, "-m", "airflow_provider_cfqueues.emulator", "--port", "0", "--queue", "bench", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=pin(SERVER)
    ) as process:
        try:
            assert process.stdout is not None
            yield Cloudflare(json.loads(process.stdout.readline()))
        finally:
            process.terminate()


def run(cloudflare: Cloudflare, name: str, *arguments: Any, python: str = sys.executable) -> dict[str, Any]:
    """
    Run a function of :mod:`benchmarks.children` in a process of its own, and return what it measured.

    :param cloudflare: the emulator.
    :param name: of the function.
    :param arguments: its arguments, numbers or texts.
    :param python: another interpreter.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": home, **cloudflare.environment}
        return run_python(["-m", "benchmarks.children", name, *map(str, arguments)], environment, python)


def run_python(arguments: list[str], environment: dict[str, str], python: str = sys.executable) -> dict[str, Any]:
    """
    Run Python on the core of the measured, and return the JSON behind ``RESULT`` in its output.

    :param arguments: of the interpreter.
    :param environment: of the process.
    :param python: the interpreter.
    """
    done = subprocess.run(
        [python, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=pin(OURS),
    )
    if done.returncode:
        raise RuntimeError(f"{arguments[:3]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT")[2].splitlines()[0])
    return result


def medians(samples: Sequence[dict[str, float]]) -> dict[str, float]:
    """
    Return the median of each figure.

    :param samples: figures by name, alike in each sample.
    """
    return {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
