"""What flows share."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.models import Consumer

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """
    What a flow yields to let time pass; the client waits.

    :param seconds: how long.
    """

    seconds: float


Flow: TypeAlias = Generator["Call[Any] | Pause", Any, T]

API_VISIBILITY_SECONDS = 30
"""Documentation, pull consumers: how long a lease lasts where neither pull nor consumer says so."""


@dataclass
class Known:
    """
    What a hook has looked up, for its life.

    :param queue_ids: queue IDs by name.
    :param consumers: pull consumers by queue ID; None: not to be had.
    :param arguments: the arguments that hold queue IDs, by ID, if they are not ``queue_id``; for errors.
    """

    queue_ids: dict[str, str] = field(default_factory=dict)
    consumers: dict[str, Consumer | None] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)

    def name_of(self, queue_id: str | None) -> str | None:
        """
        Return the name of a queue, None where it was not looked up.

        :param queue_id: ID of the queue.
        """
        return next((name for name, known_id in self.queue_ids.items() if known_id == queue_id), None)

    def call(self, queue_id: str) -> str:
        """
        Return what a text calls a queue: its name where it was looked up, else its ID.

        :param queue_id: ID of the queue.
        """
        return self.name_of(queue_id) or queue_id


def once(call: Call[T]) -> Flow[T]:
    """
    Make one call.

    :param call: the call.
    """
    result: T = yield call
    return result
