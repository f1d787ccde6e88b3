"""A real Airflow on this machine only: its components, each a process group, and its REST API."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import requests

ROOT = Path(__file__).resolve().parents[2]
IS_AIRFLOW_2 = metadata.version("apache-airflow").startswith("2.")


def ended_in_order(main: Callable[[], int]) -> int:
    """Run a program that starts others; let what ends processes elsewhere end it like Ctrl-C, or they outlive it."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as under nohup
            signal.signal(ending, signal.default_int_handler)
    try:
        return main()
    except KeyboardInterrupt:
        print("\nStopped", file=sys.stderr)
        return 130


def free_port(wanted: int = 0) -> int:
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


class Processes:
    """
    Programs, each a process group of its own, whose output goes to files.

    :param home: where the files are.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start one; whoever is interrupted afterwards can end it."""
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **options)
        self.running.append(process)
        return process

    def until(self, what: str, ask: Callable[[], Any], seconds: float = 180, every: float = 0.1) -> Any:
        """Ask until the answer is true; give up where that takes too long or a process ends."""
        deadline = time.monotonic() + seconds
        while not (answer := ask()):
            if ended := self.ended:
                self.give_up(f"{ended} ended while waiting for {what}")
            if time.monotonic() > deadline:
                self.give_up(f"Gave up waiting for {what} after {seconds:g} s")
            time.sleep(every)
        return answer

    @property
    def ended(self) -> str:
        """What has ended by itself."""
        return " and ".join(shlex.join(process.args) for process in self.running if process.poll() is not None)

    def give_up(self, why: str) -> NoReturn:
        """End this process with the last lines of all logs."""
        for log in sorted(self.home.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
        sys.exit(why)

    def stop(self) -> None:
        """End all with all that they started, the last one first; it takes at most some twenty seconds."""
        print("\nStopping ...", flush=True)
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)  # a second Ctrl-C would leave half of them behind
        for end in (signal.SIGTERM, signal.SIGKILL):
            for process in self.running[::-1]:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, end)
            deadline = time.monotonic() + 10
            for process in self.running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, deadline - time.monotonic()))


def migrate() -> None:
    """Make Airflow's database."""
    done = subprocess.run(airflow("db", "migrate"), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"airflow db migrate failed:\n{done.stderr[-3000:]}")


class Api:
    """Airflow's REST API, asked until it answers."""

    def __init__(self, url: str, processes: Processes) -> None:
        self.url, self.processes = url, processes
        self.headers: dict[str, str] = {}

    def until(self, what: str, ask: Callable[[], Any], seconds: float = 180) -> Any:
        """Ask until the answer is true; end this process where that takes too long or a component dies."""
        print(f"Waiting for {what} ...", flush=True)

        def answer() -> Any:
            with suppress(requests.RequestException):
                return ask()

        return self.processes.until(what, answer, seconds, every=1)

    def log_in(self) -> bool:
        """Return whether it serves, and fetch a token if it wants one: this Airflow takes everybody for an admin."""
        if IS_AIRFLOW_2:
            return self.call("GET", "/health").ok
        answer = requests.get(f"{self.url}/auth/token", timeout=5)
        if answer.ok:
            self.headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return answer.ok

    def call(self, method: str, path: str, **body: Any) -> requests.Response:
        """Make one call."""
        options: dict[str, Any] = {"json": body} if body else {}
        url = f"{self.url}/api/{'v1' if IS_AIRFLOW_2 else 'v2'}{path}"
        return requests.request(method, url, headers=self.headers, timeout=10, **options)


def configure(port: int) -> None:
    """Set up Airflow by environment variables, for all components alike."""
    url = f"http://127.0.0.1:{port}"
    os.environ.update(
        AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION="True",  # the examples that watch a queue would take its messages
        AIRFLOW__CORE__PARALLELISM="4",
        AIRFLOW__CORE__TEST_CONNECTION="Enabled",
        AIRFLOW__LOGGING__LOGGING_LEVEL="INFO",
        AIRFLOW__LOGGING__NAMESPACE_LEVELS="",
    )
    if IS_AIRFLOW_2:
        os.environ.update(
            AIRFLOW__API__AUTH_BACKENDS="airflow.api.auth.backend.default",
            AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL="5",
            AIRFLOW__WEBSERVER__BASE_URL=url,
            AIRFLOW__WEBSERVER__SECRET_KEY=secrets.token_hex(64),
        )
    else:
        os.environ.update(
            AIRFLOW__API__BASE_URL=url,
            AIRFLOW__API__WORKERS="1",
            AIRFLOW__API_AUTH__JWT_SECRET=secrets.token_hex(64),
            AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"{url}/execution/",
            AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
            AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL="5",
        )


@contextmanager
def running(home: Path, port: int) -> Iterator[Api]:
    """
    Start an Airflow that takes everybody for an admin; end it with all that it started.

    :param home: its home, see :func:`airflow_home`.
    :param port: of the web page.
    """
    configure(port)
    if IS_AIRFLOW_2:
        (home / "webserver_config.py").write_text('AUTH_ROLE_PUBLIC = "Admin"\n')
    print("Setting up Airflow's database ...", flush=True)
    migrate()
    processes = Processes(home)
    try:
        processes.start("scheduler", airflow("scheduler", "--skip-serve-logs"))
        processes.start("triggerer", airflow("triggerer", "--skip-serve-logs"))
        if IS_AIRFLOW_2:
            options = ["--hostname", "127.0.0.1", "--port", str(port), "--workers", "1"]
            processes.start("webserver", airflow("webserver", *options))
        else:
            start_server(processes, port)
        api = Api(f"http://127.0.0.1:{port}", processes)
        api.until("Airflow's web page", api.log_in)
        yield api
    finally:
        processes.stop()


def start_server(processes: Processes, port: int) -> None:
    """Start what serves Airflow 3, and what reads its DAG files."""
    processes.start("api-server", airflow("api-server", "--host", "127.0.0.1", "--port", str(port)))
    processes.start("dag-processor", airflow("dag-processor"))


@contextmanager
def airflow_home() -> Iterator[Path]:
    """Give this process, and all that it starts, an Airflow of its own with the example DAGs."""
    with tempfile.TemporaryDirectory(prefix="cfqueues-airflow-", ignore_cleanup_errors=True) as home:
        os.environ.update(
            AIRFLOW_HOME=home,
            AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "example_dags"),
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
            # Show what this provider logs, and of Airflow itself only what is wrong.
            AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
            AIRFLOW__LOGGING__NAMESPACE_LEVELS="airflow.task.operators.airflow_provider_cfqueues=INFO",
        )
        warnings.simplefilter("ignore")  # deprecations inside Airflow
        yield Path(home)


def run_dag(api: Api, dag_id: str, run_id: str) -> str:
    """Unpause a DAG, run it and return how that ended."""
    start_run(api, dag_id, run_id)
    return end_of_run(api, dag_id, run_id)


def start_run(api: Api, dag_id: str, run_id: str, **options: Any) -> None:
    """
    Wait for a DAG, unpause it and start a run.

    :param api: the API.
    :param dag_id: the DAG: ``configure`` lets Airflow pause each one that it finds.
    :param run_id: of the run.
    :param options: what else the API takes, such as ``conf``.
    """
    api.until(f"the DAG {dag_id}", lambda: api.call("GET", f"/dags/{dag_id}").ok)
    now = datetime.now(timezone.utc).isoformat()
    api.call("PATCH", f"/dags/{dag_id}", is_paused=False).raise_for_status()
    api.call("POST", f"/dags/{dag_id}/dagRuns", dag_run_id=run_id, logical_date=now, **options).raise_for_status()


def end_of_run(api: Api, dag_id: str, run_id: str, seconds: float = 180) -> str:
    """Wait for the end of a run, and return how it ended."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}"

    def ended() -> str | None:
        return {"success": "success", "failed": "failed"}.get(api.call("GET", path).json()["state"])

    state: str = api.until(f"its run {run_id}", ended, seconds)
    return state
