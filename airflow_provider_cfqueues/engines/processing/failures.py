"""The log of messages that are not acked: where each goes and when, with one traceback for each kind of failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import airflow_provider_cfqueues
from airflow_provider_cfqueues.engines.processing.report import Handled, kind_of
from airflow_provider_cfqueues.engines.processing.state import RunState
from airflow_provider_cfqueues.engines.settlement import Kind, Settlement
from airflow_provider_cfqueues.texts import counted, with_printable_text

MAX_LISTED = 100
MAX_KINDS = 100
"""So many kinds of failures are told apart: reasons may be all different."""
OURS = str(Path(airflow_provider_cfqueues.__file__).parent)


@dataclass
class Repeats:
    """
    Messages that failed like an earlier one, and are not in the log yet.

    :param first: ID of that earlier one.
    :param others: IDs of messages that failed like it, in order; each once, however often it was delivered.
    :param last: what the log says of the last of them.
    :param first_again: what the log says of the earlier one, if it failed in the same way once more.
    """

    first: str
    others: dict[str, None] = field(default_factory=dict)
    last: str = ""
    first_again: str = ""


class FailureLog:
    """Logs the messages that a handler did not finish."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._log = state.log
        self._kinds: dict[tuple[Any, ...], Repeats] = {}

    def note(self, handled: Handled, settlement: Settlement) -> None:
        """Log what becomes of a message that is not acked, or count it if one before failed like it."""
        message, error = settlement.message, handled.error
        kind = (handled.failed, settlement.kind, settlement.note, kind_of(handled))
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            kind = (handled.failed, settlement.kind, "", "")
        text = self._text(settlement)
        repeats = self._kinds.get(kind)
        if repeats is not None:
            if message.id == repeats.first:
                repeats.first_again = f"({self._delivery(message.attempts)}) {text}"
            else:
                repeats.others[message.id] = None
                repeats.last = text
            return
        self._kinds[kind] = Repeats(message.id)
        log = self._log.error if settlement.kind is Kind.UNCONFIRMED else self._log.warning
        info = None
        if error is not None:
            shown = with_printable_text(error)
            info = (type(shown), shown, _without_ours(error.__traceback__))
        log("Message %s (%s) %s", message.id, self._delivery(message.attempts), text, exc_info=info)

    def _delivery(self, attempts: int | None) -> str:
        """Name the delivery. Cloudflare documents ``max_retries`` deliveries on one page, one more on another."""
        most = self._state.situation.known.deliveries + 1
        return f"delivery {attempts or '?'}" + (f" of at most {most}" if 0 < (attempts or 0) <= most else "")

    def tell(self) -> None:
        """Log the failures that were only counted so far: one line for each kind."""
        for kind, repeats in self._kinds.items():
            have_failed, *_ = kind
            if repeats.first_again:
                self._log.warning("Message %s again %s", repeats.first, repeats.first_again)
            if repeats.others:
                listed = list(repeats.others)[:MAX_LISTED]
                more = len(repeats.others) - len(listed)
                self._log.warning(
                    "%s %slike message %s (the last one %s): %s%s",
                    counted(len(repeats.others), "more message"),
                    "failed " if have_failed else "",
                    repeats.first,
                    repeats.last,
                    ", ".join(listed),
                    f" and {more} more" if more else "",
                )
            self._kinds[kind] = Repeats(repeats.first)

    def _text(self, settlement: Settlement) -> str:
        if settlement.kind is Kind.EXPIRED:
            return f"was not handled: {settlement.why}{'' if settlement.note else '; it is delivered again'}"
        return f"is {self._fate(settlement)}: {settlement.why}"

    def _fate(self, settlement: Settlement) -> str:
        """Return where a message goes, and when."""
        kind, delay = settlement.kind, settlement.delay_seconds
        if kind is Kind.REJECTED:
            return f"moved to {self._state.queue.hook.name_of(str(self._state.situation.dead_letter_queue_id))!r}"
        if kind is Kind.UNCONFIRMED:
            ends = settlement.message.lease_expires_at
            return f"left leased{f' until {ends:%H:%M:%S} UTC' if ends else ''}"
        if kind is not Kind.RETRIED:
            return str(kind.value)
        if delay is None:
            delay = self._state.situation.known.retry_delay  # type: ignore[assignment]
        return "retried after the consumer's retry_delay" if delay is None else f"retried in {delay:g} s"


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback from where the handler begins; the frames before are the same in all."""
    begin = traceback
    while begin is not None and begin.tb_frame.f_code.co_filename.startswith(OURS):
        begin = begin.tb_next
    return begin or traceback
