"""
The one rule for what becomes of a message: what the API is told, what it counts as, and what is logged.

A message that was delivered ``max_retries`` times is moved to the consumer's dead-letter queue, or *deleted* if there
is none. So a message is never given back if that could delete it, unless its handler saw it and failed, or the caller
chose so (``unmatched="retry"``). Instead, in this order: it is copied to a dead-letter queue that the caller named, it
is sent to its own queue again, or it stays leased, with an error that says until when it can be saved.

Everything here is pure. :mod:`~airflow_provider_cfqueues.engines.settling` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec

from airflow_provider_cfqueues.exceptions import LossyMatchError
from airflow_provider_cfqueues.models import UNKNOWN_CONSUMER, Consumer, Message

UNMATCHED = ("ack", "dead_letter", "retry")
"""What a caller may choose for messages that are not wanted."""


class Happened(Enum):
    """What happened to a message before it is settled."""

    HANDLED = "handled"
    """A handler ran to its end, Airflow stored its event, or its line is in a file."""
    FAILED = "failed"
    """A handler saw it, and failed or asked for another delivery."""
    REJECTED = "rejected"
    """It is refused for good: by a handler, by ``max_attempts``, or because nothing can be done with it."""
    NOT_WANTED = "not wanted"
    """A ``match`` did not want it, or it cannot be moved."""
    NOT_STARTED = "not started"
    """The run ended before a handler took it, or before it was known to be done."""


class Kind(Enum):
    """What the API is told of a message, which is also what it counts as."""

    ACKED = "acked"
    ACKED_FROM_JOURNAL = "acked_from_journal"
    """Acked because an earlier try of the task had handled it."""
    RETRIED = "retried"
    REJECTED = "rejected"
    """Copied to the dead-letter queue, then acked."""
    RENEWED = "renewed"
    """Sent to its own queue again, then acked. Its ID, age and attempts start again."""
    EXPIRED = "expired"
    """Nothing: its lease is over."""
    UNCONFIRMED = "unconfirmed"
    """Nothing: it stays leased. A settlement that the API did not confirm counts as this, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """
    What a settlement depends on besides the message. It is the same for all messages of a run.

    :param consumer: the queue's pull consumer. None = it could not be read; it is then taken to have no dead-letter
        queue and a ``max_retries`` of 3.
    :param dead_letter_queue_id: ID of the queue that gets copies; None = there is none.
    :param unmatched: what the caller chose for messages that are not wanted: ``ack``, ``dead_letter`` or ``retry``
        (give them back even if Cloudflare may then delete them, unless there is a dead-letter queue). None = keep them.
    :param is_dry_run: whether everything is given back at once, whatever happened, and nothing is copied.
    """

    consumer: Consumer | None = None
    dead_letter_queue_id: str | None = None
    unmatched: str | None = None
    is_dry_run: bool = False

    @property
    def known(self) -> Consumer:
        """The consumer, or what is assumed of one that could not be read."""
        return self.consumer or UNKNOWN_CONSUMER

    @property
    def can_dead_letter(self) -> bool:
        """Whether there is a dead-letter queue that copies can be sent to."""
        return self.dead_letter_queue_id is not None

    def is_last(self, message: Message) -> bool:
        """Return whether this may be the last delivery of a message."""
        return self.known.is_last_delivery(message.attempts)

    def deletes(self, message: Message) -> bool:
        """Return whether Cloudflare may delete a message that is given back."""
        return self.is_last(message) and self.known.dead_letter_queue is None


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """
    What happened to a message. Like :class:`Settlement`, it is no dataclass, as a message is none.

    :param message: the message.
    :param happened: what happened to it.
    :param reason: why it is not acked.
    :param delay_seconds: how long it waits if it is given back; None = the consumer's ``retry_delay``.
    :param is_over: whether its lease is over: another consumer may have it, so it is not sent again.
    """

    message: Message
    happened: Happened
    reason: str = ""
    delay_seconds: int | None = None
    is_over: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """
    A message whose fate is decided.

    :param case: what happened to it.
    :param kind: what the API is told.
    :param delay_seconds: how long it waits if it is given back, or if its copy is in its own queue.
    :param refused: the copies that were tried and not accepted.
    :param note: what the log says of it beyond the reason; empty = nothing.
    """

    case: Case
    kind: Kind
    delay_seconds: int | None = None
    refused: frozenset[Kind] = frozenset()
    note: str = ""

    @property
    def message(self) -> Message:
        """The message."""
        return self.case.message

    @property
    def why(self) -> str:
        """Why it is not acked, and what else the log says of it."""
        return "; ".join(filter(None, (self.case.reason, self.note)))

    @property
    def copy_reason(self) -> str:
        """What a copy in the dead-letter queue says of it."""
        reason = self.case.reason
        return f"delivered {_times(self.message.attempts)}; {reason}" if self.note else reason


def choose_settlement(case: Case, situation: Situation, *, refused: frozenset[Kind] = frozenset()) -> Settlement:
    """
    Decide what the API is told of a message.

    Processing, redriving, watching, sensors and ``drain`` all call this. A watcher maps what it knows like this: its
    event is stored → HANDLED; a watcher refused it → REJECTED; Airflow did not confirm the event, or the watcher ends →
    NOT_STARTED; no watcher wants it → NOT_WANTED, with ``unmatched`` in the situation.

    :param case: the message, and what happened to it.
    :param situation: the queue's consumer, its dead-letter queues and what the caller chose.
    :param refused: the copies that were tried and not accepted; call it again with them.
    """
    kind = _choose_kind(case, situation, refused)
    delay_seconds = 0 if situation.is_dry_run else case.delay_seconds
    note = _note(case, kind, situation, refused)
    return Settlement(case=case, kind=kind, delay_seconds=delay_seconds, refused=refused, note=note)


def _choose_kind(case: Case, situation: Situation, refused: frozenset[Kind]) -> Kind:
    happened = case.happened
    is_wet = not situation.is_dry_run
    unmatched = situation.unmatched if happened is Happened.NOT_WANTED else None
    if is_wet and (happened is Happened.HANDLED or unmatched == "ack"):
        return Kind.ACKED
    deletes = situation.deletes(case.message)
    can_copy = situation.can_dead_letter and is_wet and Kind.REJECTED not in refused
    if can_copy and (deletes or happened is Happened.REJECTED or unmatched == "dead_letter"):
        return Kind.REJECTED
    was_not_seen = happened in (Happened.NOT_STARTED, Happened.NOT_WANTED)
    if case.is_over and was_not_seen:
        return Kind.EXPIRED
    accepts_deletion = unmatched == "retry" and not situation.can_dead_letter
    if not deletes or (is_wet and accepts_deletion):
        return Kind.RETRIED
    if is_wet and happened is Happened.FAILED and not refused:
        return Kind.RETRIED
    if is_wet and was_not_seen and Kind.RENEWED not in refused:
        return Kind.RENEWED
    return Kind.UNCONFIRMED


def _note(case: Case, kind: Kind, situation: Situation, refused: frozenset[Kind]) -> str:
    """Return what the log says of what may be the last delivery, and of a rejected message that is not copied."""
    if kind is Kind.ACKED:
        return ""
    is_last, delivered = situation.is_last(case.message), f"delivered {_times(case.message.attempts)}"
    if kind is Kind.UNCONFIRMED:
        return (
            f"{delivered}, and {_why_not_copied(situation, refused)}: Cloudflare may DELETE it when its lease ends. "
            "Before that, raise max_retries of the queue's consumer, or set a dead-letter queue there"
        )
    if kind is Kind.RENEWED:
        return (
            f"{delivered}, so a copy is sent to its queue: the copy has a new ID, and its age and attempts start again"
        )
    if kind in (Kind.RETRIED, Kind.EXPIRED) and is_last:
        advice = "" if situation.known.dead_letter_queue else ". Set a dead-letter queue on the queue's consumer"
        return f"{delivered}: Cloudflare {situation.known.takes_away} now, or after its next delivery{advice}"
    if kind is Kind.RETRIED and case.happened is Happened.REJECTED:
        return f"rejected, but {_why_not_copied(situation, refused)}"
    if kind is Kind.REJECTED and case.happened is not Happened.REJECTED and is_last:
        return f"{delivered}, so it is copied to the dead-letter queue"
    return ""


def _why_not_copied(situation: Situation, refused: frozenset[Kind]) -> str:
    if situation.is_dry_run:
        return "a dry run copies nothing"
    return "it could not be copied" if refused else "there is no dead-letter queue"


def _times(attempts: int | None) -> str:
    return {None: "at least once", 1: "once"}.get(attempts, f"{attempts} times")


def check_unmatched(situation: Situation, queue_id: str) -> str:
    """
    Return, for the log, what happens to messages that ``match`` does not want.

    :raises LossyMatchError: Cloudflare would delete them, and the caller did not choose that.
    """
    consumer, chosen = situation.known, situation.unmatched
    is_kept = situation.can_dead_letter or (consumer.dead_letter_queue is not None and chosen != "dead_letter")
    if not is_kept and chosen not in ("ack", "retry"):
        why = "could not be read" if situation.consumer is None else "has no dead-letter queue"
        msg = f"With match, Cloudflare would delete messages that do not match: the queue's consumer {why}"
        raise LossyMatchError(msg, queue=queue_id)
    if chosen in ("ack", "dead_letter"):
        fate = "deleted" if chosen == "ack" else "copied to the dead-letter queue"
        return f"messages that do not match are {fate} (unmatched={chosen!r})"
    end = "it goes to a dead-letter queue" if is_kept else "Cloudflare deletes it (unmatched='retry')"
    return (
        f"a message that does not match loses one of its {consumer.deliveries} deliveries (max_retries) each "
        f"time it is pulled; after the last, {end}. Raise max_retries if other readers want it"
    )
