"""Commands run in this process; stdout and stderr are caught where they leave it."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager

import pytest

from airflow_provider_cfqueues.__main__ import main


@pytest.fixture(scope="module")
def queue_names():
    return ["orders", "orders-failed"]


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """Undo what a command changes in its process, and show tables on a wide terminal."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.setenv("COLUMNS", "200")
    before = logging.getLogger("airflow").level
    yield
    logging.getLogger("airflow").setLevel(before)


@pytest.fixture
def run(capfd, monkeypatch):
    """Run a command; return exit code, stdout and stderr."""

    def run(*arguments):
        capfd.readouterr()
        with monkeypatch.context() as patch:
            # Airflow 2 left handlers there that write to what an earlier test captured.
            patch.setattr(logging.root, "handlers", [])
            patch.setattr(logging.getLogger("airflow.task"), "handlers", [])
            with pytest.raises(SystemExit) as ended:
                main(arguments)
        out, err = capfd.readouterr()
        return ended.value.code, out, err

    return run


@pytest.fixture
def drain(run):
    """Drain the queue ``orders`` into a file until the first empty answer."""

    def drain(path, *arguments):
        return run("drain", "orders", "--output", str(path), "--idle-timeout", "0", *arguments)

    return drain


@pytest.fixture
def unread():
    """Let stdout be a pipe whose reader is gone."""

    @contextmanager
    def unread():
        reader, writer = os.pipe()
        os.close(reader)
        kept = os.dup(1)
        os.dup2(writer, 1)
        os.close(writer)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)

    return unread
