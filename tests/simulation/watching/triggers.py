"""The trigger under test, with the simulated network as its source and its producer under watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.shared_stream import SharedStreamProducer

from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.watching.options import WatchOptions
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger

if TYPE_CHECKING:
    from simulation.watching.triggerer import Triggerer

CLOSE_SECONDS = 30.0
"""Two requests of five seconds at the most, and a slow connection to let go of."""


class SimulatedSource:
    """
    The queue of the simulation.

    :param triggerer: whose connection it is.
    :param options: how the queue is watched.
    """

    def __init__(self, triggerer: Triggerer, options: WatchOptions) -> None:
        self._triggerer = triggerer
        self._options = options

    async def open(self) -> HookQueue:
        """Look the queue up, or fail to."""
        world = self._triggerer.world
        await asyncio.sleep(world.network.latency * world.random.random())
        if world.random.random() < world.network.fault_rate:
            raise world.random.choice((CloudflareQueuesError("no such queue"), ValueError("no such connection")))
        return self._triggerer.open_queue(self._options.visibility_timeout, unmatched=self._options.unmatched)

    async def aclose(self) -> None:
        """Let go of the connection."""
        await asyncio.sleep(0)


class WatchedProducer(SharedStreamProducer):
    """
    The producer under test, as Airflow drives it; tells the truth what passes, and judges how it behaves.

    :param triggerer: where it runs.
    :param producer: the producer.
    :param unmatched: what becomes of a message that nobody wants.
    """

    def __init__(self, triggerer: Triggerer, producer: Any, unmatched: str) -> None:
        self._triggerer = triggerer
        self._truth = triggerer.truth
        self._producer = producer
        self._unmatched = unmatched
        self._last_watched_at = triggerer.loop.time()

    async def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
        self._triggerer.newest_stream = self
        try:
            async for raw, payload in self._producer.open_stream():
                group = asyncio.current_task().get_coro().cr_frame.f_locals["self"]  # type: ignore[union-attr]
                watchers = set(group._subscribers) - group._failed_subscribers
                now = self._triggerer.loop.time()
                if group._subscribers:
                    self._last_watched_at = now
                is_right = now - max(self._last_watched_at, self._triggerer.cancelled_at) < CLOSE_SECONDS
                self._truth.check(is_right, "%s: a stream goes on that nobody watches", self._triggerer.name)
                messages = [delivery.message for delivery in payload.deliveries]
                self._truth.fanned_out(self._triggerer, messages, watchers, self._unmatched)
                yield raw, payload
        except Exception as error:
            self._triggerer.blame(f"the stream raised {error!r}")
            raise
        self._triggerer.blame("the stream ended by itself")

    def get_advance_lane(self, broker_payload: Any) -> Hashable:
        return self._producer.get_advance_lane(broker_payload)  # type: ignore[no-any-return]

    async def advance(self, batch: Sequence[Any]) -> None:
        for item in batch:
            for delivery in item.broker_payload.deliveries:
                self._truth.resolved(delivery.message)
        try:
            await self._producer.advance(batch)
        except Exception as error:
            self._triggerer.blame(f"advance raised {error!r}")
            raise

    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._producer.aclose()
        except Exception as error:
            self._triggerer.blame(f"aclose raised {error!r}")
            raise
        took = loop.time() - began
        self._truth.check(took <= CLOSE_SECONDS, "aclose took %.0f s", took)
        if self._triggerer.newest_stream is self:  # else messages wait in a later one
            self._truth.closed(self._triggerer)


def make_trigger_class(triggerer: Triggerer) -> type[QueueMessageTrigger]:
    """
    Return the trigger's class for one triggerer: all that Airflow gives to a producer are arguments that it can store.

    :param triggerer: the triggerer.
    """
    world = triggerer.world

    class SimulatedTrigger(world.trigger_class):  # type: ignore[misc, name-defined]
        log = triggerer.log

        def _open_stream(self) -> Any:
            source = SimulatedSource(triggerer, self._options)
            return world.stream_class(
                self._options, source, now=triggerer.now, missing=self._find_missing, log=triggerer.log
            )

        @classmethod
        def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> WatchedProducer:
            return WatchedProducer(triggerer, super().create_shared_stream_producer(kwargs), kwargs["unmatched"])

    return SimulatedTrigger
