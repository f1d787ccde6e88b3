"""
Leases: which ones count, and what settling one does.

A lease can be used once, however late: an acknowledgement that comes after its lease has ended, or after the
message went to somebody else, still ends the message. Anything else is refused with a reason, lease by lease.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_cfqueues.emulator.lifecycle import Lifecycle
from airflow_provider_cfqueues.emulator.model import LeaseRefused, Queue
from airflow_provider_cfqueues.emulator.store import listed
from airflow_provider_cfqueues.emulator.tickets import Kind, Sealer, Ticket

# The plus keeps SQLite from looking through all of the queue.
_MESSAGES = """
SELECT number, length(body) AS size, leased, lease, attempts, max_retries
FROM messages WHERE number IN (SELECT value FROM json_each(?)) AND +queue = ?
"""
_USED = "SELECT message, lease, outcome FROM used_leases WHERE message IN (SELECT value FROM json_each(?))"


class Leases:
    """
    The leases or refs of one call, inside the transaction of that call.

    What they name is read once for all of them, since a call has a hundred. ``warnings`` says why some are refused.

    :param queue: the queue the call is about.
    :param texts: every lease or ref of the call.
    """

    def __init__(
        self, lifecycle: Lifecycle, sealer: Sealer, queue: Queue, texts: Iterable[str], assume: Mapping[str, str]
    ) -> None:
        self.warnings: dict[str, str] = {}
        self._assume = assume
        self._ended: dict[int, int] = {}
        self._uses: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        self._db = lifecycle.db
        self._lifecycle = lifecycle
        self._sealer = sealer
        self._queue = queue
        self._tickets = {text: sealer.open(text) for text in texts}
        numbers = listed({ticket.message for ticket in self._tickets.values() if ticket})
        self._messages = {row["number"]: row for row in self._db.execute(_MESSAGES, (numbers, queue.number))}
        used = self._db.execute(_USED, (numbers,))
        self._outcomes = {(message, lease): outcome for message, lease, outcome in used}
        self._acked = {message for (message, _), outcome in self._outcomes.items() if outcome == "acknowledged"}

    def each(self, texts: Iterable[str], action: Callable[..., object], *args: Any) -> int:
        """Apply a method of this object to each of these leases or refs and return how many were honoured."""
        honoured = 0
        for text in texts:
            try:
                action(text, *args)
            except LeaseRefused as refused:
                if self._assume["lease-refused"] == "error":
                    raise
                if self._assume["lease-refused"] == "warning":
                    self.warnings[text] = str(refused)
            else:
                honoured += 1
        return honoured

    def ack(self, text: str) -> None:
        """End the message of a lease. If another lease has ended it already, that counts, too."""
        ticket = self._unused(text)
        self._check_late("late-ack", ticket)
        if ticket.message in self._messages:
            self._end(ticket)
            self._acked.add(ticket.message)
        elif ticket.message not in self._acked:
            raise LeaseRefused("message is no longer in this queue (dead-lettered, expired or purged)")
        self._use(ticket, "acknowledged")

    def retry(self, text: str, now: int, delay_seconds: float) -> None:
        """Give the message of a lease back; where it has been delivered again, that has happened already."""
        ticket = self._unused(text)
        message = self._messages.get(ticket.message)
        if message is None:
            raise LeaseRefused("message is no longer in this queue (acknowledged, dead-lettered or purged)")
        self._check_late("late-retry", ticket)
        self._use(ticket, "retried")
        if message["lease"] == ticket.lease:
            self._lifecycle.give_back(message, self._queue, now, delay_seconds)
            self._lifecycle.count(self._queue.number, "retried")

    def extend(self, text: str, ends_ms: int) -> str:
        """Move the end of a lease that has not ended, and return a new id for it; the old one goes on naming it."""
        ticket = self._unused(text)
        if not self._holds(ticket):
            raise LeaseRefused("lease has ended")
        self._db.execute("UPDATE messages SET visible_ms = ? WHERE number = ?", (ends_ms, ticket.message))
        [renewed] = self._sealer.seal([ticket._replace(ends_ms=ends_ms)])
        return renewed

    def purge(self, text: str, kind: Kind) -> None:
        """Delete the message of a ref or of the lease of a preview; no delivery has taken place."""
        ticket = self._valid(text, kind)
        if ticket.message not in self._messages:
            raise LeaseRefused("message is no longer in this queue")
        self._end(ticket)

    def finish(self, counter: str) -> None:
        """Write down what has ended, all at once; ``counter`` says how."""
        self._lifecycle.remove(self._ended, self._queue.number, counter)
        uses = [(*use, listed(messages)) for use, messages in self._uses.items()]
        self._db.executemany("INSERT INTO used_leases SELECT value, ?, ? FROM json_each(?)", uses)

    def _valid(self, text: str, kind: Kind) -> Ticket:
        ticket = self._tickets[text]
        what = "ref" if kind == "ref" else "lease"
        if ticket is None or ticket.kind != kind:
            raise LeaseRefused(f"{what} is unknown or malformed")
        if ticket.queue != self._queue.number:
            raise LeaseRefused(f"{what} is of another queue")
        return ticket

    def _unused(self, text: str) -> Ticket:
        ticket = self._valid(text, "lease")
        outcome = self._outcomes.get((ticket.message, ticket.lease))
        if outcome:
            raise LeaseRefused(f"lease is used up: {outcome} before")
        return ticket

    def _holds(self, ticket: Ticket) -> bool:
        message = self._messages.get(ticket.message)
        return bool(message and message["leased"] and message["lease"] == ticket.lease)

    def _check_late(self, assumption: str, ticket: Ticket) -> None:
        if self._assume[assumption] == "refused" and ticket.message in self._messages and not self._holds(ticket):
            raise LeaseRefused("lease has ended")

    def _use(self, ticket: Ticket, outcome: str) -> None:
        self._uses[ticket.lease, outcome].append(ticket.message)
        self._outcomes[ticket.message, ticket.lease] = outcome

    def _end(self, ticket: Ticket) -> None:
        self._ended[ticket.message] = self._messages.pop(ticket.message)["size"]
