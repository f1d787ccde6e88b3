"""
What importing the operators costs a process that parses DAG files, beside Airflow's own providers for queues.

Run it with the Python of an Airflow installation: ``python benchmarks/imports.py``. Each module is imported in
processes of its own, after the SDK that every DAG file loads, and the best of them counts, in CPU time. Providers that
are not installed are left out: ``pip install apache-airflow-providers-amazon apache-airflow-providers-google
apache-airflow-providers-apache-kafka``.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

TRIES = 5
OURS = "airflow_provider_cfqueues"
SDK = "airflow.sdk"
MODULES = [
    (f"{OURS}.operators.queues", ()),
    (f"{OURS}.triggers.queues", (f"{OURS}.operators.queues",)),
    (f"{OURS}.sensors.queues", (f"{OURS}.operators.queues",)),
    (f"{OURS}.notifications.queues", (f"{OURS}.operators.queues",)),
    (f"{OURS}.events", (f"{OURS}.operators.queues",)),
    ("airflow.providers.amazon.aws.operators.sqs", ()),
    ("airflow.providers.amazon.aws.sensors.sqs", ()),
    ("airflow.providers.google.cloud.operators.pubsub", ()),
    ("airflow.providers.apache.kafka.operators.consume", ()),
]
CODE = """
import importlib, json, sys, time
from airflow.sdk import BaseOperator
for name in {before!r}:
    importlib.import_module(name)
loaded, began = set(sys.modules), time.process_time()
importlib.import_module({module!r})
print(json.dumps([(time.process_time() - began) * 1000, len(set(sys.modules) - loaded)]))
"""


def measure(module: str, before: tuple[str, ...]) -> tuple[float, int]:
    """Return the milliseconds and the modules that an import takes after others."""
    code = CODE.format(module=module, before=before)
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(TRIES)
    ]
    measured = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
    return min(time for time, _ in measured), measured[0][1]


def is_installed(module: str) -> bool:
    """Return whether a module can be found."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    """Print a table."""
    print(f"{'module':<52}{'on top of':<20}{'ms':>6}{'modules':>9}")
    for module, before in MODULES:
        if not is_installed(module):
            print(f"{module:<52}{'not installed':<20}")
            continue
        milliseconds, modules = measure(module, before)
        print(f"{module:<52}{'our operators' if before else SDK:<20}{milliseconds:>6.1f}{modules:>9}")


if __name__ == "__main__":
    main()
