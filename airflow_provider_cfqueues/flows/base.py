"""What flows share."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from airflow_provider_cfqueues.models import Consumer
from airflow_provider_cfqueues.protocol import Call

T = TypeVar("T")
Flow: TypeAlias = Generator[Call[Any], Any, T]

DEFAULT_VISIBILITY_SECONDS = 30
"""Documentation, pull consumers: how long a lease lasts where neither pull nor consumer says so."""


@dataclass
class Known:
    """What a hook has looked up, for its life: queue IDs by name, pull consumers by queue ID (None: not to be had)."""

    queue_ids: dict[str, str] = field(default_factory=dict)
    consumers: dict[str, Consumer | None] = field(default_factory=dict)


def once(call: Call[T]) -> Flow[T]:
    """
    Make one call.

    :param call: the call.
    """
    result: T = yield call
    return result
