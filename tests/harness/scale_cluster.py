"""An Airflow with the CeleryExecutor on PostgreSQL and Redis: private instances on loopback, ended with the script."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from harness import local_airflow
from harness.local_airflow import Processes, airflow, free_port, migrate, start_server

INSTALL = "On Debian and Ubuntu: apt-get install postgresql redis-server (they need not run: private ones are started)"
HEARTBEAT_TIMEOUT_SECONDS = 20
"""Airflow takes a task whose worker is silent for so long for dead; its own default is 300."""
SLOTS_PER_WORKER = 2


def find(program: str) -> str:
    """Return the path of a program of PostgreSQL or Redis; Debian keeps PostgreSQL's off the PATH."""
    folders = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    path = shutil.which(program) or shutil.which(program, path=os.pathsep.join(folders))
    return path or sys.exit(f"{program} is not installed. {INSTALL}")


def unprivileged() -> dict[str, Any]:
    """Return how to start a process that refuses to run as root; as anybody else, nothing is to be done."""
    if os.getuid() != 0:
        return {}
    known = {user.pw_name: user for user in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Cluster(Processes):
    """
    Databases, Airflow's components and Celery workers.

    :param home: where the logs are.
    """

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def start_worker(self, name: str) -> None:
        """Start a Celery worker that takes two tasks at once, and wait until it takes them."""
        options = ["--celery-hostname", f"{name}@scale", "--concurrency", str(SLOTS_PER_WORKER)]
        command = airflow("celery", "worker", *options, "--skip-serve-logs", "--without-mingle")
        self.workers[name] = self.start(name, command, env=os.environ | {"SCALE_WORKER": name})
        log = self.home / f"{name}.log"
        self.until(f"{name} to be ready", lambda: f"{name}@scale ready" in log.read_text())

    def kill_worker(self, name: str) -> int:
        """End a worker as a machine that loses its power does: all its processes at once, by -9; return how many."""
        worker = self.workers.pop(name)
        self.running.remove(worker)
        family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
        for process in family:
            process.suspend()  # else one notices what becomes of another, and says so
        for process in family:
            process.kill()
        worker.wait()
        return len(family)


@contextmanager
def cluster(home: Path, dags: Path) -> Iterator[Cluster]:
    """
    Start it all but the workers, and end all there is.

    :param home: where configuration and logs go.
    :param dags: the DAGs folder.
    """
    started = Cluster(home)
    with tempfile.TemporaryDirectory(prefix="cfqueues-scale-data-", ignore_cleanup_errors=True) as data:
        try:
            database = start_postgres(started, Path(data))
            broker = start_redis(started, Path(data))
            port = configure(home, dags, database, broker)
            migrate()
            start_server(started, port)
            started.start("scheduler", airflow("scheduler", "--skip-serve-logs"))
            yield started
        finally:
            started.stop()


def start_postgres(started: Processes, data: Path) -> str:
    """Start PostgreSQL; return its address for SQLAlchemy."""
    port, password, options = free_port(), secrets.token_hex(16), unprivileged()
    if options:
        os.chown(data, options["user"], options["group"])
    given = data / "password"
    given.write_text(password)
    given.chmod(0o644)  # the folder is closed to others
    make = [find("initdb"), "--username=airflow", "--auth=scram-sha-256", f"--pwfile={given}", "--no-sync"]
    made = subprocess.run(
        [*make, f"--pgdata={data}/pg"], capture_output=True, text=True, check=False, cwd=data, **options
    )
    if made.returncode:
        sys.exit(f"initdb failed: {made.stderr}")
    given.unlink()
    settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=200"]
    command = [find("postgres"), "-D", f"{data}/pg", "-p", str(port)]
    command += [part for setting in settings for part in ("-c", setting)]
    started.start("postgres", command, cwd=data, **options)
    ready = [find("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    started.until("PostgreSQL", lambda: subprocess.run(ready, check=False).returncode == 0)
    return f"postgresql+psycopg2://airflow:{password}@127.0.0.1:{port}/postgres"


def start_redis(started: Processes, data: Path) -> str:
    """Start Redis; return its address for Celery."""
    port, password = free_port(), secrets.token_hex(16)
    settings = f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\ndir {data}\n'
    process = started.start("redis", [find("redis-server"), "-"], stdin=subprocess.PIPE, cwd=data, **unprivileged())
    assert process.stdin is not None
    process.stdin.write(settings.encode())
    process.stdin.close()
    log = started.home / "redis.log"
    started.until("Redis", lambda: "Ready to accept connections" in log.read_text())
    return f"redis://:{password}@127.0.0.1:{port}/0"


def configure(home: Path, dags: Path, database: str, broker: str) -> int:
    """Set up Airflow by environment variables, for all components alike; return the port of its API server."""
    from cryptography.fernet import Fernet

    port = free_port()
    local_airflow.configure(port)
    os.environ.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__API__SECRET_KEY=secrets.token_hex(32),
        AIRFLOW__CELERY__BROKER_URL=broker,
        AIRFLOW__CELERY__RESULT_BACKEND=f"db+{database}",
        AIRFLOW__CORE__DAGS_FOLDER=str(dags),
        AIRFLOW__CORE__EXECUTOR="CeleryExecutor",
        AIRFLOW__CORE__FERNET_KEY=Fernet.generate_key().decode(),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__PARALLELISM="16",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=database,
        AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT="60",  # the first request of a task makes the API, which takes a while
        AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT=str(HEARTBEAT_TIMEOUT_SECONDS),
        AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL="5",
    )
    return port
