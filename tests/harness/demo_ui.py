"""The demo in a real Airflow: web page, scheduler, DAG processor and triggerer, on this machine only."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.cloudflare import Cloudflare, cloudflare
from harness.demo_orders import DAG_ID, prepare
from harness.local_airflow import Api, airflow, free_port, run_dag, running

FIRST_RUN = "first_run"


@contextmanager
def orders_in_airflow(home: Path) -> Iterator[tuple[Api, Cloudflare]]:
    """
    Start the emulator and an Airflow that has a connection to it; yield the API of both.

    :param home: the Airflow home.
    """
    with cloudflare(home, "orders") as emulated, running(home, free_port(8080)) as api:
        # Port 443 is not used; without any, Airflow 3.3's "Test" button fails (apache/airflow#73298). Without an empty
        # api_key, which the form itself saves, editing shows no field for it.
        conn = emulated.connection
        as_json = json.dumps({**conn, "port": 443, "extra": {**conn["extra"], "api_key": None}})
        add = airflow("connections", "add", "cloudflare_default", "--conn-json", as_json)
        subprocess.run(add, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.environ["AIRFLOW_CONN_CLOUDFLARE_DEMO"] = as_json  # the same, for this process alone
        yield api, emulated


def run_once(api: Api, emulated: Cloudflare) -> str:
    """Send orders, run the example on them and return how that ended."""
    prepare(emulated, "cloudflare_demo")
    return run_dag(api, DAG_ID, FIRST_RUN)


def serve(home: Path) -> int:
    """Run the DAG once, say where to look, and go on until Ctrl-C."""
    with orders_in_airflow(home) as (api, emulated):
        state = run_once(api, emulated)
        print(
            f"""
The first run: {state}. Look at
  the DAG         {api.url}/dags/{DAG_ID}
  its run         {api.url}/dags/{DAG_ID}/runs/{FIRST_RUN}
  what was acked  {api.url}/dags/{DAG_ID}/runs/{FIRST_RUN}/tasks/ack/xcom
  the connection  {api.url}/connections   (its icons: test, edit)
  the queue       {emulated.control_url}/state
The orders that could not be shipped are back in the queue after a minute: trigger the DAG again to see them.
No log-in is needed. Press Ctrl-C to stop.""",
            flush=True,
        )
        with suppress(KeyboardInterrupt):
            api.processes.until("Ctrl-C", lambda: False, seconds=math.inf)
    return 0 if state == "success" else 1
