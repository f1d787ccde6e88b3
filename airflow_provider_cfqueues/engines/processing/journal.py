"""
Store which messages are handled and not acked yet, for the next try of the task.

A message in the journal was handled with success, so acking it loses nothing. A message that was handled and is not in
the journal (the last second before a crash, or no room) is handled again: at least once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from airflow_provider_cfqueues._compat import AIRFLOW_VERSION
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Case, Happened, Kind, Settlement
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.engines.threads import DaemonThreads
from airflow_provider_cfqueues.models import Message

T = TypeVar("T")

WRITE_INTERVAL_SECONDS = 1
LAST_WRITE_SECONDS = 1
"""Seconds that a run waits for the store at its end: a killed task has little time."""
MAX_AGE = timedelta(days=14)
"""Documentation, limits: no message is kept for longer, so none is delivered again after that."""
MAX_BYTES = 48_000
"""Airflow warns above 65,535, and each write is one of its database."""
MAX_BYTES_WITH_LEASES = 24_000
"""Beyond that only message IDs are written: a lease is five times as long, and an ID is enough to know a message."""
MAX_MESSAGES = 5_000
"""More than can be open at once; older ones are those that the API never confirmed."""
UNKNOWN = object()
"""What is stored where a call of the store failed."""


class Store(Protocol):
    """The part of Airflow's ``context["task_state_store"]`` that is used. All tries of a task share one."""

    def get(self, key: str) -> Any:
        """Return a value, None where there is none."""

    def set(self, key: str, value: Any, *, retention: timedelta | None) -> None:
        """Write a JSON value."""

    def delete(self, key: str) -> None:
        """Delete a value."""


def find_store(context: Mapping[str, Any]) -> Store:
    """Return the store of a task's context; raise a ValueError if this Airflow gives it none."""
    if (store := context.get("task_state_store")) is None:
        raise ValueError(
            "journal=True needs context['task_state_store'], which Airflow gives to tasks from 3.3 on (this is "
            f"{AIRFLOW_VERSION}). Leave journal out, make the handler safe to repeat, and choose a small "
            "settle_interval: then fewer messages are handled twice if a task dies"
        )
    return cast("Store", store)


@dataclass(frozen=True, slots=True)
class Entry:
    """When a message was handled, in seconds since 1970, and under which lease, if that is known."""

    at: int
    lease_id: str | None


def ack_again(message: Message) -> Settlement:
    """Return the settlement of a message that an earlier try handled."""
    return Settlement(case=Case(message=message, happened=Happened.HANDLED), kind=Kind.ACKED_FROM_JOURNAL)


class Journal:
    """
    The messages that were handled and are not acked yet.

    :param store: where the next try finds them.
    :param queue_id: ID of the queue.
    :param now: tells the time.
    :param log: where failures of the store go. If one fails, messages may be handled twice.
    """

    def __init__(self, store: Store, queue_id: str, *, now: Callable[[], datetime], log: Any) -> None:
        self._store = store
        self._key = f"cloudflare_queue_journal_{queue_id}"
        self._now = now
        self._log = log
        self._entries: dict[str, Entry] = {}
        self._inherited: dict[str, Entry] = {}
        self._stored: Any = None
        self._changed = asyncio.Event()
        self._has_failed = False
        self._thread = DaemonThreads(1, "cloudflare-queue-journal")

    def __contains__(self, message: Message) -> bool:
        return message.id in self._entries

    def note(self, message: Message) -> None:
        """Note that a message was handled with success, and under which lease."""
        if not message.id:
            return  # it could not be told from others without one
        self._entries.pop(message.id, None)
        self._entries[message.id] = Entry(int(self._now().timestamp()), message.lease_id)
        if len(self._entries) > MAX_MESSAGES:
            del self._entries[next(iter(self._entries))]
        self._changed.set()

    def forget(self, message: Message) -> None:
        """Note that a message is acked, or is to be handled again."""
        self._inherited.pop(message.id, None)
        if self._entries.pop(message.id, None):
            self._changed.set()

    def seconds_away(self, away: float) -> float:
        """
        Return for how many more seconds messages that an earlier try handled may still be leased.

        :param away: seconds that a message is away after it was pulled: its lease, and the consumer's ``retry_delay``.
        """
        last = max((entry.at for entry in self._inherited.values()), default=None)
        return 0 if last is None else max(0.0, last + 1 + away - self._now().timestamp())

    @asynccontextmanager
    async def kept(self, queue: HookQueue, report: Report) -> AsyncIterator[None]:
        """Ack and count what an earlier try had handled, and write down what this one handles while it runs."""
        await self._read()
        if self._entries:
            await self._ack_leases(queue, report)
        writing = asyncio.get_running_loop().create_task(self._keep_writing())
        try:
            yield
        finally:
            writing.cancel()
            with suppress(asyncio.TimeoutError):  # the wait is given up, not a write that has begun
                await asyncio.wait_for(self._write(), LAST_WRITE_SECONDS)
            self._thread.end()

    def delete(self) -> None:
        """Delete it: the task succeeded, so there will be no next try."""
        if self._stored is not None:
            self._try_store("delete", partial(self._store.delete, self._key))

    async def _in_thread(self, what: str, call: Callable[[], T]) -> T | None:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._try_store, what, call)

    def _try_store(self, what: str, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - a store of the user's own may raise anything
            self._stored = UNKNOWN
            if not self._has_failed:
                self._has_failed = True
                self._log.warning(
                    "Could not %s the journal: %s: %s. If this task dies, messages may be handled twice. Further "
                    "failures are not logged",
                    what,
                    type(error).__name__,
                    error,
                )
            return None

    # -- what an earlier try left -----------------------------------------------------------------------------------

    async def _read(self) -> None:
        document = await self._in_thread("read", partial(self._store.get, self._key))
        if document is None:
            return
        self._stored = document
        oldest = (self._now() - MAX_AGE).timestamp()
        try:
            rows = document["handled"]
            entries = {str(message_id): Entry(int(at), lease[0] if lease else None) for message_id, at, *lease in rows}
        except (TypeError, ValueError, KeyError) as error:
            self._log.warning("The journal of the earlier try cannot be used, because it was changed: %r", error)
            return
        self._entries = {message_id: entry for message_id, entry in entries.items() if entry.at > oldest}

    async def _ack_leases(self, queue: HookQueue, report: Report) -> None:
        """Ack by the leases of the earlier try: the API may accept them, even late."""
        handled = len(self._entries)
        settlements = [
            ack_again(Message(id=message_id, lease_id=entry.lease_id, body=None))
            for message_id, entry in self._entries.items()
            if entry.lease_id
        ]
        settling = Settling(settlements, queue.situation)
        try:
            await queue.settle(settling)
        except Exception as error:  # noqa: BLE001 - whatever it is: they are acked when they are delivered again
            self._log.warning("Could not ack what an earlier try had handled: %s", error)
        for settlement, confirmed in settling.settled:
            if confirmed:
                self.forget(settlement.message)
                report.fates[Kind.ACKED_FROM_JOURNAL] += 1
        self._inherited = dict(self._entries)
        self._log.info(
            "Handled by an earlier try without a confirmed ack: %d. Acked now: %d. If the others are delivered "
            "again, they are acked without being handled",
            handled,
            report.fates[Kind.ACKED_FROM_JOURNAL],
        )

    # -- what this one does -----------------------------------------------------------------------------------------

    async def _keep_writing(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._write()
            await asyncio.sleep(WRITE_INTERVAL_SECONDS)

    async def _write(self) -> None:
        await self._in_thread("write", partial(self._set, self._document()))

    def _set(self, document: dict[str, Any]) -> None:
        """Store a document unless it is there already. In the thread, where one write follows the other."""
        if document != ({"handled": []} if self._stored is None else self._stored):
            self._stored = document
            self._store.set(self._key, document, retention=MAX_AGE)

    def _document(self) -> dict[str, Any]:
        """Return the newest messages as JSON, as many as there is room for."""
        rows: list[list[Any]] = []
        size = 0
        for message_id, entry in reversed(self._entries.items()):
            row = [message_id, entry.at]
            with_lease = [*row, entry.lease_id]
            if entry.lease_id and size + _size(with_lease) <= MAX_BYTES_WITH_LEASES:
                row = with_lease
            size += _size(row)
            if size > MAX_BYTES:
                break
            rows.append(row)
        return {"handled": rows[::-1]}


def _size(row: list[Any]) -> int:
    return len(json.dumps(row)) + 2
