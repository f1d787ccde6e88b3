"""
Carry out what the rule of :mod:`~airflow_provider_cfqueues.engines.settlement` decided: copy first, then ack or retry.

A message whose copy was not accepted goes through the rule again. The API calls are a flow, so a sync hook, an async
engine and a trigger all settle in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_cfqueues.client import messages
from airflow_provider_cfqueues.client.message_calls import MAX_LEASES_PER_ACK
from airflow_provider_cfqueues.engines.copies import Sender, copy, wrap
from airflow_provider_cfqueues.engines.settlement import Happened, Kind, Settlement, Situation, choose_settlement
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, InvalidRequestError
from airflow_provider_cfqueues.models import AckResult, Lease, Message, OutgoingMessage

if TYPE_CHECKING:
    from airflow_provider_cfqueues.client.flow import Flow

ACKS = (Kind.ACKED, Kind.ACKED_FROM_JOURNAL, Kind.REJECTED, Kind.RENEWED)


class Settling:
    """Settlements of messages on their way to the API, and the situation that they were decided by."""

    def __init__(
        self, settlements: Iterable[Settlement], situation: Situation, *, sender: Sender | None = None
    ) -> None:
        self._situation = situation
        self._sender = sender or Sender()
        self._copied: set[str] = set()
        self._refused: dict[str, InvalidRequestError] = {}
        self.open = list(settlements)
        """What the API was not told yet; in the end, what stays leased."""
        self.settled: list[tuple[Settlement, bool]] = []
        """What is settled, and whether the API confirmed it."""
        self._texts: dict[str, str] = {}
        self.error: CloudflareQueuesError | None = None
        """Why a copy could not be sent at the last try, if it could not."""

    def send(self, queue_id: str) -> Flow[AckResult]:
        """
        Copy what needs a copy, then ack and retry, a hundred leases a request.

        If this fails, or if something is left open, call it again: no copy that was accepted is sent twice.

        :raises CloudflareQueuesError: the API did not ack and retry.
        """
        self.error = None
        dead_letter_queue_id = self._situation.dead_letter_queue_id
        if dead_letter_queue_id is not None:
            yield from self._copy(dead_letter_queue_id, self._wrapped(queue_id))
            if self.error is None:
                yield from self._copy(dead_letter_queue_id, self._bare(Kind.REJECTED))
            self._choose_again(Kind.REJECTED)
        yield from self._copy(queue_id, self._bare(Kind.RENEWED))
        self._choose_again(Kind.RENEWED)
        result = AckResult()
        told = [one for one in self.open if one.kind in ACKS or one.kind is Kind.RETRIED]
        for start in range(0, len(told), MAX_LEASES_PER_ACK):
            result = result.merge((yield from self._tell(queue_id, told[start : start + MAX_LEASES_PER_ACK])))
        self.settled += [(one, True) for one in self.open if one.kind is Kind.EXPIRED]
        self.open = [one for one in self.open if one.kind is Kind.UNCONFIRMED]
        return result

    def _tell(self, queue_id: str, batch: list[Settlement]) -> Flow[AckResult]:
        result = yield from messages.ack(
            queue_id,
            [Lease(lease_id=one.message.lease_id) for one in batch if one.kind in ACKS],
            [
                Lease(lease_id=one.message.lease_id, delay_seconds=one.delay_seconds)
                for one in batch
                if one.kind is Kind.RETRIED
            ],
        )
        unconfirmed, told = set(result.unconfirmed), {one.message.lease_id for one in batch}
        unkeyed = [text for key, text in result.warnings.items() if key.startswith("#")]
        counted = "; ".join(unkeyed) or "the API counted fewer leases than it was sent"
        self._texts |= {lease_id: result.warnings.get(lease_id) or counted for lease_id in unconfirmed}
        self._texts |= result.warnings
        self.settled += [(one, one.message.lease_id not in unconfirmed) for one in batch]
        self.open = [one for one in self.open if one.message.lease_id not in told]
        return result

    def is_leased_until(self, moment: datetime) -> bool:
        """Return whether something is left leased, and all of it for longer than until a moment."""
        ends = [one.message.lease_expires_at for one in self.open if one.kind is Kind.UNCONFIRMED]
        return bool(ends) and all(end is not None and moment < end for end in ends)

    def try_again(self) -> None:
        """Let :meth:`send` try again to copy what is left leased. What the API may have been told stays as it is."""
        self.open = [
            choose_settlement(one.case, self._situation) if one.kind is Kind.UNCONFIRMED else one for one in self.open
        ]

    def give_up(self) -> list[Settlement]:
        """Send no further copy; return what stays leased because of that."""
        before = self.open
        for kind in (Kind.REJECTED, Kind.RENEWED):
            self._choose_again(kind)
        return [one for one in self.open if one.kind is Kind.UNCONFIRMED and one not in before]

    @property
    def _ended(self) -> list[tuple[Settlement, bool]]:
        """All settlements, and whether the API confirmed them."""
        return [*self.settled, *((one, False) for one in self.open)]

    @property
    def changed(self) -> list[Settlement]:
        """The settlements that were not carried out as they were decided, because a copy was not accepted."""
        return [one for one, _ in self._ended if one.refused]

    def unconfirmed(self, why_open: str) -> list[tuple[Message, str | None]]:
        """
        Return the messages that the API did not confirm, each with why; None = the log says that already.

        :param why_open: why the API was not told of those that are left.
        """
        said = [
            (one.message, self._texts.get(one.message.lease_id, "")) for one, confirmed in self.settled if not confirmed
        ]
        return [*said, *((one.message, None if one.kind is Kind.UNCONFIRMED else why_open) for one in self.open)]

    def counts(self) -> Counter[Kind]:
        """Return how many messages ended how; what the API did not confirm counts as unconfirmed."""
        return Counter(one.kind if confirmed else Kind.UNCONFIRMED for one, confirmed in self._ended)

    def count_unconfirmed(self, *happened: Happened) -> int:
        """Return how many messages to which these things happened are not confirmed by the API."""
        return sum(not confirmed and one.case.happened in happened for one, confirmed in self._ended)

    @property
    def exhausted(self) -> int:
        """How many messages Cloudflare may now move to the dead-letter queue or delete."""
        stays = (Kind.RETRIED, Kind.EXPIRED, Kind.UNCONFIRMED)
        return sum(one.kind in stays and self._situation.is_last(one.message) for one, _ in self._ended)

    def _to_copy(self, kind: Kind) -> list[Settlement]:
        return [one for one in self.open if one.kind is kind and one.message.lease_id not in self._copied]

    def _wrapped(self, queue_id: str) -> dict[str, OutgoingMessage]:
        copies = {
            one.message.lease_id: wrap(one.message, queue_id, one.copy_reason) for one in self._to_copy(Kind.REJECTED)
        }
        return {lease_id: copied for lease_id, copied in copies.items() if messages.fits(copied)}

    def _bare(self, kind: Kind) -> dict[str, OutgoingMessage]:
        bare: dict[str, OutgoingMessage] = {}
        for one in self._to_copy(kind):
            with suppress(ValueError):  # HTTP cannot carry it
                copied = copy(one.message, unwrapped=False)
                delay = one.delay_seconds if kind is Kind.RENEWED else None
                bare[one.message.lease_id] = msgspec.structs.replace(copied, delay_seconds=delay)
        return bare

    def _copy(self, target_id: str, copies: dict[str, OutgoingMessage]) -> Flow[None]:
        try:
            yield from self._sender.send(target_id, copies, sent=self._copied, refused=self._refused)
        except CloudflareQueuesError as error:
            self.error = error

    def _choose_again(self, kind: Kind) -> None:
        refused = {one.message.lease_id for one in self._to_copy(kind)}
        self.error = self.error or next(filter(None, map(self._refused.get, refused)), None)
        self.open = [
            choose_settlement(one.case, self._situation, refused=one.refused | {kind})
            if one.message.lease_id in refused
            else one
            for one in self.open
        ]
