"""
What importing the operators costs a process that parses DAG files, beside Airflow's own providers for queues.

Each module is imported in processes of its own, after the SDK that every DAG file loads; all but the operators also
after the operators. ``BENCH_PROVIDERS`` names the Python of an environment with the other providers.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.stage import Row, medians, run_python

OURS = "airflow_provider_cfqueues"
OPERATORS = f"{OURS}.operators.queues"
TARGETS = {
    "operators.queues": 12,
    "triggers.queues": 20,
    "sensors.queues": 10,
    "notifications.queues": 10,
    "events": 10,
}
MOST_MODULES = 30
AIRFLOWS = "airflow.providers"
PEERS = {
    "operators.queues": {
        "SQS": f"{AIRFLOWS}.amazon.aws.operators.sqs",
        "Pub/Sub": f"{AIRFLOWS}.google.cloud.operators.pubsub",
        "Kafka": f"{AIRFLOWS}.apache.kafka.operators.consume",
    }
}
CODE = """
import importlib, json, sys, time
from airflow.sdk import BaseOperator
module, *before = sys.argv[1:]
for name in before:
    importlib.import_module(name)
loaded, began = set(sys.modules), time.process_time()
importlib.import_module(module)
figures = {"ms": (time.process_time() - began) * 1000, "modules": len(set(sys.modules) - loaded)}
print("RESULT" + json.dumps(figures))
"""


def measure(runs: int, module: str, *before: str, python: str = sys.executable) -> dict[str, float]:
    """
    Return the CPU milliseconds and the modules that an import takes.

    :param runs: of which the medians are taken; one more before them writes the bytecode.
    :param module: what is imported.
    :param before: what is imported before it.
    :param python: another interpreter.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        samples = [run_python(["-c", CODE, module, *before], environment, python) for _ in range(runs + 1)]
    return medians(samples[1:])


def rows(runs: int) -> Iterator[Row]:
    """
    Yield the rows of each module.

    :param runs: of which the medians are taken.
    """
    python = os.environ.get("BENCH_PROVIDERS")
    for name, target in TARGETS.items():
        before = () if name == "operators.queues" else (OPERATORS,)
        figures = measure(runs, f"{OURS}.{name}", *before)
        peers = PEERS.get(name, {}) if python else {}
        beside = {who: measure(min(3, runs), module, python=python)["ms"] for who, module in peers.items() if python}
        few, modules = figures["ms"], figures["modules"]
        ratio = few / min(beside.values()) if beside else None
        yield Row(f"import {name}: CPU ms", few, f"<= {target}", few <= target, beside, ratio)
        yield Row(f"import {name}: modules", modules, f"<= {MOST_MODULES}", modules <= MOST_MODULES)
    if not python:
        yield Row("Airflow's SQS, Pub/Sub and Kafka operators", None, "left out: their environment is not installed")
