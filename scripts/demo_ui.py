"""The demo in a real Airflow: web page, scheduler, DAG processor and triggerer, on this machine only."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

import demo
import requests

FIRST_RUN = "first_run"
COMPONENTS = {
    "scheduler": ["--skip-serve-logs"],
    "dag-processor": [],
    "triggerer": ["--skip-serve-logs"],
}


def free_port(wanted: int) -> int:
    """Return the wanted port, or a free one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not take it
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                print(f"Port {port} is taken: using another", flush=True)
                continue
            return int(probe.getsockname()[1])
    sys.exit("No free port on 127.0.0.1")


def airflow(*arguments: str) -> list[str]:
    """Return an Airflow command of this environment."""
    return [sys.executable, "-m", "airflow", *arguments]


def start(home: Path, port: int, processes: list[subprocess.Popen[bytes]]) -> None:
    """
    Start all components, each in a process group of its own; their output goes to files.

    :param home: where the files are.
    :param port: of the web page.
    :param processes: gets each one at once, so that whoever is interrupted here can end them.
    """
    commands = {"api-server": ["--host", "127.0.0.1", "--port", str(port)], **COMPONENTS}
    for name, options in commands.items():
        with (home / f"{name}.log").open("wb") as log:
            command = airflow(name, *options)
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """End all components with all that they started; it takes at most some twenty seconds."""
    print("\nStopping ...", flush=True)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)  # a second Ctrl-C would leave half of them behind
    for end in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            try:
                os.killpg(process.pid, end)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 10
        for process in processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue


class Api:
    """Airflow's REST API, asked until it answers."""

    def __init__(self, url: str, processes: list[subprocess.Popen[bytes]], home: Path) -> None:
        self.url, self.processes, self.home = url, processes, home
        self.headers: dict[str, str] = {}

    def until(self, what: str, ask: Any, seconds: float = 180) -> Any:
        """Ask until the answer is true; end the demo where that takes too long or a component dies."""
        print(f"Waiting for {what} ...", flush=True)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self.processes):
                break
            try:
                if answer := ask():
                    return answer
            except requests.RequestException:
                pass
            time.sleep(1)
        return self.give_up(f"Gave up waiting for {what}")

    def until_one_dies(self) -> None:
        """Wait; end the demo where a component dies."""
        while all(process.poll() is None for process in self.processes):
            time.sleep(1)
        self.give_up("One of Airflow's components ended")

    def give_up(self, why: str) -> NoReturn:
        """End the demo with the last lines of all logs."""
        for log in sorted(self.home.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
        sys.exit(why)

    def log_in(self) -> bool:
        """Fetch a token: the demo's Airflow takes everybody for an admin."""
        answer = requests.get(f"{self.url}/auth/token", timeout=5)
        if answer.ok:
            self.headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return answer.ok

    def call(self, method: str, path: str, **body: Any) -> requests.Response:
        """Make one call."""
        options: dict[str, Any] = {"json": body} if body else {}
        return requests.request(method, f"{self.url}/api/v2{path}", headers=self.headers, timeout=10, **options)


def configure(port: int) -> None:
    """Set up Airflow by environment variables, for all components alike."""
    os.environ.update(
        AIRFLOW__API__BASE_URL=f"http://127.0.0.1:{port}",
        AIRFLOW__API__WORKERS="1",
        AIRFLOW__API_AUTH__JWT_SECRET=secrets.token_hex(64),
        AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION="True",  # the examples that watch a queue would take its messages
        AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"http://127.0.0.1:{port}/execution/",
        AIRFLOW__CORE__PARALLELISM="4",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
        AIRFLOW__CORE__TEST_CONNECTION="Enabled",
        AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL="5",
        AIRFLOW__LOGGING__LOGGING_LEVEL="INFO",
        AIRFLOW__LOGGING__NAMESPACE_LEVELS="",
    )


def serve(home: Path, then: Callable[[Api, dict[str, Any]], int] | None = None) -> int:
    """
    Serve the demo until Ctrl-C.

    :param home: the Airflow home.
    :param then: what to do once Airflow runs, if not to show it.
    """
    port = free_port(8080)
    configure(port)
    with demo.emulator(port=0) as cloudflare:
        # Port 443 is not used; without any, Airflow 3.3's "Test" button fails (apache/airflow#73298). Without an empty
        # api_key, which the form itself saves, editing shows no field for it.
        conn = demo.connection(cloudflare)
        as_json = json.dumps({**conn, "port": 443, "extra": {**conn["extra"], "api_key": None}})
        print("Setting up Airflow's database ...", flush=True)
        subprocess.run(airflow("db", "migrate"), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        add = airflow("connections", "add", "cloudflare_default", "--conn-json", as_json)
        subprocess.run(add, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.environ["AIRFLOW_CONN_CLOUDFLARE_DEMO"] = as_json  # the same, for this process alone
        processes: list[subprocess.Popen[bytes]] = []
        try:
            start(home, port, processes)
            api = Api(f"http://127.0.0.1:{port}", processes, home)
            api.until("Airflow's web page", api.log_in)
            return (then or show)(api, cloudflare)
        finally:
            stop(processes)


def run_dag(api: Api, dag_id: str, run_id: str) -> str:
    """Unpause a DAG, run it and return how that ended."""
    api.until(f"the DAG {dag_id}", lambda: api.call("GET", f"/dags/{dag_id}").ok)
    now = datetime.now(timezone.utc).isoformat()
    api.call("PATCH", f"/dags/{dag_id}", is_paused=False).raise_for_status()
    api.call("POST", f"/dags/{dag_id}/dagRuns", dag_run_id=run_id, logical_date=now).raise_for_status()
    state: str = api.until(
        f"its run {run_id}",
        lambda: {"success": "success", "failed": "failed"}.get(
            api.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}").json()["state"]
        ),
    )
    return state


def run_once(api: Api, cloudflare: dict[str, Any]) -> str:
    """Send orders, run the example on them and return how that ended."""
    demo.set_dead_letter_queue(cloudflare)
    demo.send_orders(cloudflare["queues"]["orders"], "cloudflare_demo")
    return run_dag(api, demo.DAG_ID, FIRST_RUN)


def show(api: Api, cloudflare: dict[str, Any]) -> int:
    """Run the DAG once, say where to look, and go on until Ctrl-C."""
    state = run_once(api, cloudflare)
    print(
        f"""
The first run: {state}. Look at
  the DAG         {api.url}/dags/{demo.DAG_ID}
  its run         {api.url}/dags/{demo.DAG_ID}/runs/{FIRST_RUN}
  what was acked  {api.url}/dags/{demo.DAG_ID}/runs/{FIRST_RUN}/tasks/ack/xcom
  the connection  {api.url}/connections   (its icons: test, edit)
  the queue       {cloudflare["base_url"].removesuffix("/client/v4")}/_emulator/state
The orders that could not be shipped are back in the queue after a minute: trigger the DAG again to see them.
No log-in is needed. Press Ctrl-C to stop.""",
        flush=True,
    )
    with suppress(KeyboardInterrupt):
        api.until_one_dies()
    return 0 if state == "success" else 1
