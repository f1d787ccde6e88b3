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

from harness.cloudflare import Queue, cloudflare

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


@contextlib.contextmanager
def emulator(*queues: str) -> Iterator[Queue]:
    """
    Run an emulator on its core, and give the queue that every benchmark uses.

    :param queues: the names of further queues.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        # Without its log: to write it takes a tenth of the time.
        cloudflare(Path(folder), "bench", *queues, preexec_fn=pin(SERVER), stderr=subprocess.DEVNULL) as emulated,
    ):
        yield emulated.queue("bench")


def environment(queue: Queue) -> dict[str, str]:
    """
    Return what a consumer, ours or a peer, finds the emulator by.

    Airflow's examples are switched off, as in production: to load their plugins takes longer than our start.

    :param queue: the queue.
    """
    emulated = queue.cloudflare
    return {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_CLOUDFLARE_DEFAULT": json.dumps(emulated.connection),
        "CLOUDFLARE_BASE_URL": emulated.base_url,
        "CF_TOKEN": emulated.api_token,
        "CF_ACCOUNT": emulated.account_id,
    }


def fill(queue: Queue, count: int, *, body: Any = None) -> None:
    """
    Send messages.

    :param queue: where to.
    :param count: how many.
    :param body: of each; None = a small JSON object.
    """
    body = {"order": 1, "note": "small"} if body is None else body
    queue.send([body] * count, at_once=100 if len(json.dumps(body)) < 2_000 else 2)
    queue.cloudflare.session.close()  # a connection that is kept would slow down all others a little


def delay(queue: Queue, milliseconds: int) -> None:
    """
    Add latency to each request about messages.

    :param queue: a queue of the emulator.
    :param milliseconds: how much.
    """
    paths = ("pull", "ack", "batch")
    queue.cloudflare.add_faults(*({"path": path, "delay_ms": milliseconds, "times": 10**9} for path in paths))


def run(queue: Queue, name: str, *arguments: Any) -> dict[str, Any]:
    """
    Run a function of :mod:`benchmarks.children` in a process of its own, and return what it measured.

    :param queue: a queue of the emulator.
    :param name: of the function.
    :param arguments: its arguments, numbers or texts.
    """
    with tempfile.TemporaryDirectory() as home:
        settings = {**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": home, **environment(queue)}
        return run_python(["-m", "benchmarks.children", name, *map(str, arguments)], settings)


def run_python(arguments: list[str], settings: dict[str, str], python: str = sys.executable) -> dict[str, Any]:
    """
    Run Python on the core of the measured, and return the JSON behind ``RESULT`` in its output.

    :param arguments: of the interpreter.
    :param settings: its environment.
    :param python: the interpreter.
    """
    done = subprocess.run(
        [python, *arguments],
        env=settings,
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
