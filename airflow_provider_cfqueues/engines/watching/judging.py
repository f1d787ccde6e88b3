"""Which messages a watcher wants."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow_provider_cfqueues.engines.watching.deliveries import Batch, Delivery
from airflow_provider_cfqueues.engines.watching.events import ENVELOPE_BYTES, size_of
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.exceptions import MatchFailedError
from airflow_provider_cfqueues.matching import Matcher

MESSAGES_PER_TURN = 100
"""After so many messages, other triggers of the process get their turn."""


class Judge:
    """
    Chooses the messages of one watcher.

    :param options: what it wants, and how it was told to watch the queue.
    """

    def __init__(self, options: WatchOptions, *, log: Any) -> None:
        self._matcher = Matcher(options.match)
        self._options = options
        self._log = log
        self._was_told_of_differences = False

    async def choose(self, batch: Batch) -> list[Delivery]:
        """Return which messages of a batch are wanted, and note in each what this watcher did with it."""
        self._tell_differences(batch)
        wanted = []
        for number, delivery in enumerate(batch.deliveries, 1):
            delivery.judged += 1
            try:
                if self._matcher.wants(delivery.message):
                    self._check_size(batch, delivery)
                    wanted.append(delivery)
                    delivery.offered += 1
            except (MatchFailedError, _TooLargeError) as error:
                delivery.refusals.append(str(error))
            if not number % MESSAGES_PER_TURN:
                await asyncio.sleep(0)
        return wanted

    def _check_size(self, batch: Batch, delivery: Delivery) -> None:
        """Refuse a message that is too large for an event. All others fit: a batch is cut to the size of an event."""
        most = batch.options.max_event_bytes
        if ENVELOPE_BYTES + delivery.size <= most:
            return
        size = ENVELOPE_BYTES + size_of(delivery.message, include_body=self._options.include_body)
        if size > most:
            raise _TooLargeError(f"its event would have {size} bytes (max_event_bytes={most})")

    def _tell_differences(self, batch: Batch) -> None:
        if self._was_told_of_differences or batch.options is self._options:
            return
        self._was_told_of_differences = True
        if differences := self._options.differences(batch.options):
            self._log.warning(
                "Another watcher decides how queue %s is polled. These settings of this watcher have no effect: %s",
                self._options.queue,
                ", ".join(differences),
            )


class _TooLargeError(ValueError):
    """An event would be larger than it may be."""
