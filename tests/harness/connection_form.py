"""
Start an Airflow without a connection, have a browser make one by its form, and run a DAG with it.

Called by ``scripts/connection_form``, with the Python of the environment that holds the browser's driver. The exit code
is 0 only if the form said what is wrong with a wrong token and that the right one works, and the DAG settled messages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from harness.cloudflare import Cloudflare, cloudflare
from harness.demo_orders import DAG_ID, look_into_queue, prepare
from harness.local_airflow import IS_AIRFLOW_2, Api, airflow_home, ended_in_order, free_port, run_dag, running


def try_form(api: Api, emulated: Cloudflare, browser: list[str]) -> dict[str, Any]:
    """Have the connection made and used; return what was seen."""
    scene = {"airflow": api.url, "is_airflow_2": IS_AIRFLOW_2, "cloudflare": emulated.attributes}
    done = subprocess.run(browser, input=json.dumps(scene), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit("The browser did not find its way through the form")
    os.environ["AIRFLOW_CONN_CLOUDFLARE_DEMO"] = json.dumps(emulated.connection)  # for this process alone
    prepare(emulated, "cloudflare_demo")
    return {**json.loads(done.stdout), "run": run_dag(api, DAG_ID, "form"), "queue": look_into_queue(emulated)}


def main() -> int:
    """Try it and print what was seen."""
    python, *folder = sys.argv[1:]
    browser = [python, "-m", "harness.connection_form_browser", *folder]
    with airflow_home() as home, cloudflare(home, "orders") as emulated, running(home, free_port(8080)) as api:
        seen = try_form(api, emulated, browser)
    print(json.dumps(seen, indent=2))
    says_what_is_wrong = "Invalid API Token" in seen["wrong token"] and "The API token is active" in seen["token"]
    settled = seen["run"] == "success" and seen["queue"] == {"pulled": 25, "acked": 20, "retried": 5, "left": 5}
    return 0 if says_what_is_wrong and settled else 1


if __name__ == "__main__":
    sys.exit(ended_in_order(main))
