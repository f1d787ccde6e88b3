"""Settle the messages that the watchers of a queue are done with, by the rule of ``engines.settlement``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Case, Kind, choose_settlement
from airflow_provider_cfqueues.engines.settlement_log import log_settlements
from airflow_provider_cfqueues.engines.settling import Settling
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.exceptions import list_leases
from airflow_provider_cfqueues.texts import counted


class BatchSettling:
    """
    Settles a batch; it can be called again until everything is settled.

    :param cases: what happened to each message.
    :param options: how the queue is watched.
    """

    def __init__(self, cases: Sequence[Case], options: WatchOptions, *, log: Any) -> None:
        self._cases = cases
        self._options = options
        self._log = log
        self._settling: Settling | None = None

    @property
    def lease_ids(self) -> list[str]:
        """The leases that are not settled yet."""
        left = self._cases if self._settling is None else self._settling.open
        return [one.message.lease_id for one in left]

    async def send(self, queue: HookQueue) -> None:
        """
        Settle the messages. Called again after a failure, it goes on where it failed.

        :raises CloudflareQueuesError: the API did not accept it, or a message has to stay leased until it does.
        """
        is_first, name = self._settling is None, self._options.queue
        settling = self._settling = self._settling or self._decide(queue)
        if settling.error is not None:
            settling.try_again()
        before = len(settling.settled)
        try:
            await queue.settle(settling)
        finally:
            if is_first:
                log_settlements(self._log, name, settling.changed)
        new = settling.settled[before:]
        if new:  # else it is said elsewhere that it fails
            given_back = sum(one.kind is Kind.RETRIED for one, _ in new)
            acked = counted(len(new) - given_back, "message")
            self._log.info("Queue %s: %s acked, %d given back", name, acked, given_back)
        if unconfirmed := [one.message.lease_id for one, confirmed in new if not confirmed]:
            self._log.warning(
                "Leases of queue %s not confirmed (if not settled, their messages are delivered again): %s",
                name,
                list_leases(unconfirmed),
            )
        if settling.open and settling.error is not None:
            raise settling.error

    def _decide(self, queue: HookQueue) -> Settling:
        settlements = [choose_settlement(case, queue.situation) for case in self._cases]
        log_settlements(self._log, self._options.queue, settlements)
        return Settling(settlements, queue.situation)
