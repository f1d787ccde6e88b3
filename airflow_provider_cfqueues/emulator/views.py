"""Reading the messages of a queue without touching them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from airflow_provider_cfqueues.emulator.model import Message, Metrics, Queue, Report
from airflow_provider_cfqueues.emulator.store import COUNTERS

# Read by position: a pull reads a hundred rows, and to find each column by its name took a third of that.
NUMBER, LEASE = 0, 1
_COLUMNS = "number, lease, leased, id, body, content_type, base64, metadata, timestamp_ms, visible_ms, attempts"


def ready(
    db: sqlite3.Connection, queue: Queue, now: int, limit: int, *, by_age: bool = False, leased_too: bool = False
) -> list[tuple[Any, ...]]:
    """Return the rows a pull would take, longest waiting first or oldest first, perhaps leased ones as well."""
    which = "(leased OR visible_ms <= ?)" if leased_too else "NOT leased AND visible_ms <= ?"
    order = "number" if by_age else "visible_ms, number"
    rows = db.cursor()
    rows.row_factory = None
    return rows.execute(
        f"SELECT {_COLUMNS} FROM messages WHERE queue = ? AND {which} ORDER BY {order} LIMIT ?",  # noqa: S608 -- right above
        (queue.number, now, limit),
    ).fetchall()


def message(row: Iterable[Any], state: str, ticket: str = "", *, ends_ms: int | None = None) -> Message:
    """
    Return the message of a row, as this module reads it.

    :param state: ``ready``, ``delayed`` or ``leased``.
    :param ticket: what the call returns that names it.
    :param ends_ms: when the lease ends that this call gives, and that the row does not show yet.
    """
    _, _, _, id_, body, content_type, base64, known, timestamp_ms, visible_ms, attempts = row
    if ends_ms is not None:
        visible_ms, attempts = ends_ms, attempts + 1
    metadata = json.loads(known) if known else {"CF-Content-Type": content_type}
    return Message(id_, body, content_type, bool(base64), metadata, timestamp_ms, visible_ms, attempts, state, ticket)


def metrics(db: sqlite3.Connection, queue: Queue) -> Metrics:
    """Return the backlog of a queue."""
    row = db.execute(
        "SELECT backlog_count, backlog_bytes,"
        " (SELECT timestamp_ms FROM messages WHERE queue = queues.number ORDER BY expires_ms LIMIT 1)"
        " FROM queues WHERE number = ?",
        (queue.number,),
    ).fetchone()
    return Metrics(backlog_count=row[0], backlog_bytes=row[1], oldest_message_timestamp_ms=row[2] or 0)


def report(db: sqlite3.Connection, queue: Queue, now: int, limit: int) -> Report:
    """Return all there is to know of a queue, with its oldest messages."""
    totals = db.execute("SELECT * FROM queues WHERE number = ?", (queue.number,)).fetchone()
    backlog = metrics(db, queue)
    states = _states(db, queue, now, backlog.backlog_count)
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM messages WHERE queue = ? ORDER BY expires_ms, number LIMIT ?",  # noqa: S608 -- of this module
        (queue.number, limit),
    )
    return Report(
        queue=queue,
        metrics=backlog,
        states=states,
        totals={name: totals[name] for name in COUNTERS},
        messages=[message(row, _state(row, now)) for row in rows],
    )


def _states(db: sqlite3.Connection, queue: Queue, now: int, backlog: int) -> dict[str, int]:
    """Count by state, without a look at those that are ready: they may be many."""
    [leased] = db.execute(
        "SELECT count(*) FROM messages INDEXED BY messages_leased WHERE leased AND queue = ?", (queue.number,)
    ).fetchone()
    [delayed] = db.execute(
        "SELECT count(*) FROM messages WHERE queue = ? AND NOT leased AND visible_ms > ?", (queue.number, now)
    ).fetchone()
    return {"ready": backlog - leased - delayed, "delayed": delayed, "leased": leased}


def _state(row: sqlite3.Row, now: int) -> str:
    if row["leased"]:
        return "leased"
    return "delayed" if row["visible_ms"] > now else "ready"
