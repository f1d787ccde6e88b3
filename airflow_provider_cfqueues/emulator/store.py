"""
The SQLite database behind the broker.

A message is one row from its arrival to its end, so nothing that moves it can lose or double it. The counters of
a queue say how many messages it received, and how each one that is no longer there has left: the backlog is the
difference.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_cfqueues.emulator.model import StateFileError

SCHEMA_VERSION = 4
COUNTERS = ("received", "delivered", "acked", "retried", "dead_lettered", "exhausted", "expired", "purged")

_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- settings and consumer are JSON.
CREATE TABLE queues (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    jurisdiction TEXT,
    created_ms INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    purged_ms INTEGER,
    settings TEXT NOT NULL,
    consumer TEXT,
    backlog_bytes INTEGER NOT NULL DEFAULT 0,
    {" ".join(f"{counter} INTEGER NOT NULL DEFAULT 0," for counter in COUNTERS)}
    backlog_count INTEGER AS (received - acked - dead_lettered - exhausted - expired - purged)
);

-- shown is JSON, as the API shows a subscription.
CREATE TABLE subscriptions (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    queue INTEGER NOT NULL REFERENCES queues ON DELETE CASCADE,
    shown TEXT NOT NULL
) WITHOUT ROWID;

-- visible_ms is when a waiting message can be pulled, or when the lease of a leased one ends; max_retries is that of
-- the consumer at the latest pull.
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL REFERENCES queues ON DELETE CASCADE,
    id TEXT NOT NULL,
    body BLOB NOT NULL,
    content_type TEXT NOT NULL,
    base64 INTEGER NOT NULL,
    metadata TEXT,
    timestamp_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    visible_ms INTEGER NOT NULL,
    leased INTEGER NOT NULL DEFAULT 0,
    lease INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX messages_waiting ON messages (queue, visible_ms) WHERE NOT leased;
CREATE INDEX messages_leased ON messages (visible_ms) WHERE leased;
CREATE INDEX messages_by_age ON messages (queue, expires_ms);

CREATE TABLE used_leases (
    message INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (message, lease)
) WITHOUT ROWID;
"""


def listed(numbers: Iterable[int]) -> str:
    """
    Return row numbers as the one parameter of ``IN (SELECT value FROM json_each(?))``.

    SQLite bounds the parameters of a statement, and the API not the leases of a call.
    """
    return json.dumps(list(numbers))


class Store:
    """
    One SQLite connection; whoever holds it sees to it that one call runs at a time.

    :param path: a file that survives the death of the process, or ``:memory:``.
    """

    def __init__(self, path: str = ":memory:") -> None:
        try:
            if path != ":memory:":  # SQLite gives the files beside it the same mode
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
        except (OSError, sqlite3.Error) as error:
            raise StateFileError(f"cannot open the state file {path}: {error}") from error
        self.db.row_factory = sqlite3.Row
        try:
            self._prepare()
        except (sqlite3.Error, ValueError) as error:
            self.db.close()
            raise StateFileError(f"cannot use the state file {path}: {error}") from error

    def _prepare(self) -> None:
        self.db.execute("PRAGMA foreign_keys = ON")
        # Exclusive: two emulators on one file would each believe in a clock and a backlog of their own.
        self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
        # With a write-ahead log, NORMAL keeps every committed call through a kill -9 (not a power cut).
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        self.is_new = not self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if self.is_new:
            self.db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise ValueError(
                f"it is not a state file of this emulator (schema {version}, not {SCHEMA_VERSION});"
                " name another file or delete this one"
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection; keep all that happens to it, or nothing where the block raises."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value that is neither queue nor message."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else row[0]

    def put(self, key: str, value: Any) -> None:
        """Keep a value that is neither queue nor message."""
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def clear(self) -> None:
        """Forget every queue and message; numbers go on counting, so no old lease can name a new message."""
        with self.transaction() as db:
            for table in ("messages", "used_leases", "subscriptions", "queues"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 -- the names are right above

    def close(self) -> None:
        """Close the connection."""
        self.db.close()
