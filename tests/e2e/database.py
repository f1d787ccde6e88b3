"""The metadata database of the real Airflow of ``scripts/e2e``: SQLite, or a private PostgreSQL."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from harness.local_airflow import Processes
from harness.scale_cluster import start_postgres


class Sqlite:
    """
    A file.

    :param folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "airflow.db"
        self.address = f"sqlite:///{self._path}"

    def query(self, sql: str, *values: Any) -> list[Any]:
        """
        Read rows.

        :param sql: with a ``?`` for each value.
        :param values: what is filled in.
        """
        with closing(sqlite3.connect(self._path, timeout=30)) as db:
            return db.execute(sql, values).fetchall()

    def locked(self) -> AbstractContextManager[None]:
        """Keep everybody else from writing."""
        return self._transaction("IMMEDIATE")

    def idle(self) -> AbstractContextManager[None]:
        """Keep everybody else from holding a lock: a process that is stopped with one would stop all others."""
        return self._transaction("EXCLUSIVE")

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as db:
            db.execute(f"BEGIN {kind}")
            yield
            db.execute("ROLLBACK")

    def stop(self) -> None:
        """Do nothing: a file needs no server."""


class Postgres:
    """
    A server on loopback.

    :param folder: for its log; the data are beside it.
    """

    def __init__(self, folder: Path) -> None:
        self._server = Processes(folder)
        data = folder / "postgres"
        data.mkdir()
        for parent in (folder, *folder.parents):  # its user is not ours
            if parent.stat().st_mode & 0o077 == 0:
                parent.chmod(0o711)
        self.address = start_postgres(self._server, data)

    def query(self, sql: str, *values: Any) -> list[Any]:
        """
        Read rows.

        :param sql: with a ``?`` for each value.
        :param values: what is filled in.
        """
        psycopg2 = importlib.import_module("psycopg2")
        with closing(psycopg2.connect(self.address.replace("+psycopg2", ""))) as db, db.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values)
            return list(cursor.fetchall())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Refuse: scenarios that lock the database want SQLite."""
        raise NotImplementedError("this scenario needs SQLite")
        yield

    def idle(self) -> AbstractContextManager[None]:
        """Do nothing: whoever is stopped here has locked a few rows at most."""
        return nullcontext()

    def stop(self) -> None:
        """End the server."""
        self._server.stop()
