"""Fixtures for all tests: an Airflow of their own, the emulator, and one suite for the sync and the async calls."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_HOME = tempfile.mkdtemp(prefix="cfqueues-airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(  # before the first import of Airflow
    AIRFLOW_HOME=_HOME,
    AIRFLOW__CORE__DAGS_FOLDER=os.path.join(os.path.dirname(os.path.dirname(__file__)), "example_dags"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__WORKERS__EXECUTION_API_RETRIES="1",  # a test of what the API server refuses would wait long
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_HOME}/airflow.db",
)


@pytest.fixture
def connect(monkeypatch):
    """Point Airflow's default connection for this provider at an emulator; fields can be replaced."""

    def connect(emulator: Any, **fields: Any) -> None:
        given = {
            "conn_type": "cloudflare",
            "host": emulator.base_url,
            "password": emulator.api_token,
            "extra": {"account_id": emulator.account_id},
            **fields,
        }
        monkeypatch.setenv("AIRFLOW_CONN_CLOUDFLARE_DEFAULT", json.dumps(given))

    return connect


@pytest.fixture(scope="module")
def queue_names(request):
    """What the emulator's queues are called: the module's ``QUEUES``."""
    return getattr(request.module, "QUEUES", ["my-queue"])


@pytest.fixture(scope="module")
def emulator(queue_names):
    """An emulator for all tests of a module."""
    from airflow_provider_cfqueues.emulator import Emulator

    with Emulator(queues=queue_names) as emulator:
        yield emulator


@pytest.fixture
def cf(emulator, connect):
    """The emulator as new for each test, behind the default connection."""
    emulator.reset()
    connect(emulator)
    return emulator


@pytest.fixture
def queue(cf):
    """ID of the emulator's queue."""
    return next(iter(cf.queues.values()))


@pytest.fixture(scope="session")
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of tests/ by its module, as ``scripts/`` do, and return what it wrote."""
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}

    def program(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    return program


@pytest.fixture
def logged(caplog, capsys):
    """What was logged so far: up to 3.0 Airflow logs through logging, from 3.1 through structlog to stdout."""
    caplog.set_level("INFO")
    seen = []

    def logged() -> str:
        seen.append(capsys.readouterr().out)
        by_logging = any(record.name.startswith("airflow.task") for record in caplog.records)
        return caplog.text if by_logging else caplog.text + "".join(seen)

    return logged


class Hook:
    """The hook's calls by their sync names, made sync or async."""

    def __init__(self, *, is_async: bool) -> None:
        from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

        self.hook = CloudflareQueuesHook()
        self._loop = asyncio.new_event_loop() if is_async else None

    def __getattr__(self, name: str) -> Any:
        if self._loop is None:
            return getattr(self.hook, name)
        twin = getattr(self.hook, f"a{name}")
        return lambda *args, **kwargs: self._loop.run_until_complete(twin(*args, **kwargs))

    def end(self) -> None:
        self.hook.close()
        if self._loop is not None:
            self._loop.run_until_complete(self.hook.aclose())
            self._loop.close()


@pytest.fixture(params=["sync", "async"])
def hook(request, cf):
    """A hook on the emulator; each test that takes it runs twice."""
    hook = Hook(is_async=request.param == "async")
    yield hook
    hook.end()
