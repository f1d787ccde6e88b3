"""Which messages a watcher wants."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from airflow_provider_cfqueues.engines.watching.deliveries import Batch, Delivery
from airflow_provider_cfqueues.engines.watching.events import ENVELOPE_BYTES, size_of
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.exceptions import MatchFailedError
from airflow_provider_cfqueues.matching import Matcher

MESSAGES_PER_TURN = 100
"""After so many messages, other triggers of the process get their turn."""


class EventTooLargeError(ValueError):
    """An event would be larger than it may be."""


class Judge:
    """
    Chooses the messages of one watcher.

    :param matcher: what it wants.
    :param options: how it was told to watch the queue.
    :param queue_name: what the log calls the queue.
    :param include_body: whether its events hold bodies.
    """

    def __init__(
        self, matcher: Matcher, options: WatchOptions, *, queue_name: str, include_body: bool, log: Any = None
    ) -> None:
        self._matcher = matcher
        self._options = options
        self._queue_name = queue_name
        self._include_body = include_body
        self._log = log or logging.getLogger(__name__)
        self._was_told_of_differences = False

    async def choose(self, batch: Batch) -> list[Delivery]:
        """
        Return which messages of a batch are wanted, and note in each what this watcher did with it.

        :param batch: the batch.
        """
        self._tell_differences(batch)
        wanted = []
        for number, delivery in enumerate(batch.deliveries, 1):
            delivery.judged += 1
            try:
                if self._matcher.wants(delivery.message):
                    self._check_size(batch, delivery)
                    wanted.append(delivery)
                    delivery.offered += 1
            except (MatchFailedError, EventTooLargeError) as error:
                delivery.refusals.append(str(error))
            if not number % MESSAGES_PER_TURN:
                await asyncio.sleep(0)
        return wanted

    def _check_size(self, batch: Batch, delivery: Delivery) -> None:
        """Refuse a message that is too large for an event. All others fit: a batch is cut to the size of an event."""
        most = batch.options.max_event_bytes
        if ENVELOPE_BYTES + delivery.size <= most:
            return
        size = ENVELOPE_BYTES + size_of(delivery.message, include_body=self._include_body)
        if size > most:
            msg = f"its event would have {size} bytes (max_event_bytes={most})"
            raise EventTooLargeError(msg)

    def _tell_differences(self, batch: Batch) -> None:
        if self._was_told_of_differences or batch.options is self._options:
            return
        self._was_told_of_differences = True
        if differences := self._options.differences(batch.options):
            self._log.warning(
                "Another watcher decides how queue %s is polled; these settings of this one have no effect: %s",
                self._queue_name,
                ", ".join(differences),
            )
