"""The real Airflow of ``scripts/e2e``: each component a process group of its own, a triggerer that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import requests

from e2e.database import Postgres, Sqlite
from e2e.events import Event, Run, read_messages
from e2e.triggerer import POLL_SECONDS, Triggerer
from harness.local_airflow import IS_AIRFLOW_2, Processes, airflow, configure, free_port, migrate

Answer = TypeVar("Answer")

SHORT_ACK_TIMEOUT = 20
"""
Where watchers may have short leases; Airflow's own is 300 s. On a machine that does other work, the first answer to how
many runs there are takes a new triggerer 12 s, and the first event waits for it.
"""
GIVE_UP_SECONDS = 240
DEAD_SECONDS = 15
"""A task that gave no sign of life for so long counts as dead."""


class Airflow:
    """
    A private Airflow.

    :param folder: for all its files.
    :param connection: the connection to the emulator, as JSON.
    :param on_postgres: whether the metadata database is a PostgreSQL.
    :param settings: further environment variables.
    """

    def __init__(self, folder: Path, connection: str, *, on_postgres: bool = False, **settings: str) -> None:
        self.folder = folder
        self.home = folder / "airflow"
        self.signs = folder / "signs"
        self.triggerers: list[Triggerer] = []
        self.restarts: Counter[str] = Counter()
        self._processes = Processes(folder)
        self._components: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}
        self._kept: Triggerer | None = None
        self._dag_ids: dict[str, None] = {}
        self._port = free_port()
        (self.home / "dags").mkdir(parents=True)
        self.signs.mkdir()
        self.database = Postgres(folder) if on_postgres else Sqlite(self.home)
        configure(self._port)
        del os.environ["AIRFLOW__LOGGING__NAMESPACE_LEVELS"]  # Airflow 3.2 cannot read an empty one
        os.environ.update(
            AIRFLOW_CONN_CLOUDFLARE_DEFAULT=connection,
            AIRFLOW_HOME=str(self.home),
            AIRFLOW__CORE__DAGS_FOLDER=str(self.home / "dags"),
            AIRFLOW__CORE__DAG_DISCOVERY_SAFE_MODE="False",
            AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION="False",
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=self.database.address,
            AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL="1",
            AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL="5",
            # A task whose worker was killed is tried again soon.
            AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD=str(DEAD_SECONDS),
            AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT=str(DEAD_SECONDS),
            AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL="2",
            AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL="2",
            AIRFLOW__WORKERS__EXECUTION_API_RETRIES="2",
            AIRFLOW__TRIGGERER__SHARED_STREAM_ACK_TIMEOUT=str(SHORT_ACK_TIMEOUT),
            CFQUEUES_E2E_SIGNS=str(self.signs),
            **settings,
        )

    def start(self) -> None:
        """Start all but the triggerer."""
        self.write_dags([])
        migrate()
        self._start("scheduler", "--skip-serve-logs")
        if not IS_AIRFLOW_2:  # there, the scheduler reads DAG files, and tasks write to the database
            self._start("api-server", "--host", "127.0.0.1", "--port", str(self._port))
            self._start("dag-processor")

    @contextmanager
    def stopped(self, component: str) -> Iterator[None]:
        """Stop a component without ending it, as a machine that swaps; let it go on afterwards."""
        group = next(process.pid for command, process in self._components.items() if command[0] == component)
        with self.database.idle():
            os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)

    def pause_dag(self, dag_id: str, *, paused: bool) -> None:
        """Pause a DAG, or let it go on."""
        command = airflow("dags", "pause" if paused else "unpause", dag_id, "--yes")
        subprocess.run(command, capture_output=True, check=True)

    def _start(self, *command: str) -> None:
        self._components[command] = self._processes.start(command[0], airflow(*command))

    def _revive(self) -> None:
        """Start again what has ended, as an operating system does."""
        for command, process in list(self._components.items()):
            if process.poll() is not None:
                self.restarts[command[0]] += 1
                self._start(*command)
        if self._kept is not None and not self._kept.is_alive:
            self.restarts["triggerer"] += 1
            self._kept.wait_until_gone()
            self._kept = self.start_triggerer("again", ack_timeout=self._kept.ack_timeout)

    def keep_alive(self, triggerer: Triggerer | None) -> None:
        """Start a triggerer again when it has ended; None = no more."""
        self._kept = triggerer

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and start again what ends meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._revive()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End all that was started."""
        for triggerer in self.triggerers:
            with suppress(ProcessLookupError):
                triggerer.go_on()
        self._processes.stop()
        self.database.stop()

    # -- DAGs and the triggerer -------------------------------------------------------------------------------------

    def write_dags(self, specs: list[dict[str, Any]]) -> None:
        """Let there be these DAGs, and none of those before has watchers any more."""
        gone = {dag_id: {"dag_id": dag_id, "watchers": {}} for dag_id in self._dag_ids}
        wanted = gone | {spec["dag_id"]: spec for spec in specs}
        self._dag_ids |= dict.fromkeys(wanted)
        specs_as_json = json.dumps(list(wanted.values()))
        text = (
            f"import json\n\nfrom e2e.dags import define\n\nglobals().update(define(json.loads({specs_as_json!r})))\n"
        )
        path = self.home / "dags" / "e2e.py"
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").replace(path)

    def copy_dag(self, path: Path) -> None:
        """Let there be the DAGs of a file."""
        shutil.copy(path, self.home / "dags")

    def start_triggerer(self, name: str, *, ack_timeout: float = 300) -> Triggerer:
        """Start a triggerer; its log has the name and a number."""
        triggerer = Triggerer(self._processes, f"triggerer-{len(self.triggerers):03}-{name}", ack_timeout)
        self.triggerers.append(triggerer)
        return triggerer

    def end_triggerers(self) -> None:
        """End all triggerers, at once."""
        self.keep_alive(None)
        for triggerer in self.triggerers:
            if triggerer.is_alive:
                triggerer.kill()

    def until_watching(self, triggerer: Triggerer, queue_name: str, count: int = 1) -> None:
        """Wait until a triggerer runs so many watchers of a queue."""
        line = f"Watching queue {queue_name} with "
        try:
            self.until(f"{count} watchers of {queue_name}", lambda: triggerer.count(line) >= count, every=0.1)
        except TimeoutError as error:
            broken = self.query("SELECT stacktrace FROM import_error")
            raise TimeoutError(f"{error}; DAGs that cannot be imported: {broken}") from error

    def until_serving(self) -> None:
        """Wait until the api-server answers, without which no task begins."""
        self.until("the api-server", self._serves, every=0.5)

    def _serves(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self._port}/api/v2/version", timeout=5).ok
        except requests.RequestException:
            return False

    def until(
        self, what: str, ask: Callable[[], Answer], *, seconds: float = GIVE_UP_SECONDS, every: float = POLL_SECONDS
    ) -> Answer:
        """Ask until the answer is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if answer := ask():
                return answer
            self._revive()
            time.sleep(every)
        raise TimeoutError(f"Gave up waiting for {what} after {seconds:g} s")

    # -- the metadata database --------------------------------------------------------------------------------------

    def query(self, sql: str, *values: Any) -> list[Any]:
        """Read from the database."""
        return self.database.query(sql, *values)

    def events(self, assets: Sequence[str] | str) -> list[Event]:
        """Return the messages in the events of an asset, or of several, oldest first."""
        wanted = [assets] if isinstance(assets, str) else assets
        rows = self.query("SELECT a.name, e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id ORDER BY e.id")
        return [message for asset, extra in rows if asset in wanted for message in read_messages(asset, extra)]

    def event_count(self, asset: str) -> int:
        """Return how many events of an asset are stored, those without messages included."""
        counted = self.query(
            "SELECT count(*) FROM asset_event e JOIN asset a ON a.id = e.asset_id WHERE a.name = ?", asset
        )
        return int(counted[0][0])

    def runs(self, dag_id: str) -> list[Run]:
        """Return the runs of a DAG, each with the messages that it consumed, oldest first."""
        rows = self.query(
            "SELECT r.run_id, a.name, e.extra FROM dag_run r LEFT JOIN dagrun_asset_event c ON c.dag_run_id = r.id "
            "LEFT JOIN asset_event e ON e.id = c.event_id LEFT JOIN asset a ON a.id = e.asset_id "
            "WHERE r.dag_id = ? ORDER BY r.id, e.id",
            dag_id,
        )
        found: dict[str, list[Event]] = {}
        for run_id, asset, extra in rows:
            found.setdefault(run_id, []).extend(read_messages(asset, extra))
        return [Run(run_id, tuple(messages)) for run_id, messages in found.items()]

    def consumed(self, dag_id: str) -> list[Event]:
        """Return the messages that the runs of a DAG consumed, oldest first."""
        return [message for run in self.runs(dag_id) for message in run.messages]

    def locked_database(self) -> AbstractContextManager[None]:
        """Keep everybody else from writing."""
        return self.database.locked()
