"""The queues that an emulator starts with: how the command line names them, and how they come to be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from airflow_provider_cfqueues.emulator import assumptions, parsing
from airflow_provider_cfqueues.emulator.fields import Fields
from airflow_provider_cfqueues.emulator.model import ConsumerSettings, QueueExists
from airflow_provider_cfqueues.emulator.registry import Registry
from airflow_provider_cfqueues.emulator.wire import ApiError

Settings = dict[str, Any]
"""``queue_id``, ``dead_letter_queue`` (a name) and the fields of ``ConsumerSettings``; each may be missing."""
Given = Iterable[str] | Mapping[str, "str | Settings | None"]
"""Queues as a caller may name them: names, or a mapping of names to ids or settings."""

DEFAULT = {"my-queue": Settings()}
KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "dead-letter-queue": ("dead_letter_queue", str),
    "max-retries": ("max_retries", float),
    "retry-delay": ("retry_delay", json.loads),  # 5 stays 5, and is not shown as 5.0
    "batch-size": ("batch_size", float),
    "visibility-timeout": ("visibility_timeout_ms", lambda text: float(text) * 1000),
}


def read(texts: Iterable[str]) -> dict[str, Settings]:
    """
    Return the queues that the command line names, each as ``NAME[=ID][,KEY=VALUE]…``.

    :raises ValueError: one of them cannot be read.
    """
    return dict(map(_read_one, texts))


def _read_one(text: str) -> tuple[str, Settings]:
    first, *pairs = text.split(",")
    name, equals, queue_id = first.partition("=")
    settings: Settings = {"queue_id": queue_id} if equals else {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in KEYS:
            raise ValueError(f"--queue {text}: unknown setting {key!r}; known: {', '.join(KEYS)}")
        setting, convert = KEYS[key]
        try:
            settings[setting] = convert(value)
        except ValueError:
            raise ValueError(f"--queue {text}: {key} must be a number, not {value!r}") from None
    return name, settings


def by_name(queues: Given) -> dict[str, Settings]:
    """
    Return settings by name, checked as far as they can be without looking at what is there.

    :raises TypeError: they are no queues, or have unknown settings.
    :raises ValueError: a name, an ID or a setting is not what the API takes.
    """
    if isinstance(queues, str):
        raise TypeError(f"queues are names, or a mapping of names to ids or settings, not the string {queues!r}")
    named = queues if isinstance(queues, Mapping) else dict.fromkeys(queues)
    wanted = {name: dict(given) if isinstance(given, Mapping) else {"queue_id": given} for name, given in named.items()}
    for name, settings in wanted.items():
        check(name, settings.get("queue_id"))
        consumer(name, settings)
    return wanted


def check(name: str, queue_id: str | None) -> None:
    """See to it that a queue may have this name and this id, if it has one already."""
    if not parsing.QUEUE_NAME.fullmatch(name):
        raise ValueError(f"queue name must be 1 to 63 lower-case letters, digits and hyphens, not {name!r}")
    if queue_id is not None and not parsing.QUEUE_ID.fullmatch(queue_id):
        raise ValueError(f"id of queue {name!r} must be 1 to 32 letters and digits, not {queue_id!r}")


def consumer(name: str, settings: Settings) -> dict[str, Any]:
    """
    Return dead-letter queue and settings of a consumer, as the registry takes them, held to the limits of the API.
    """
    given = {key: value for key, value in settings.items() if key not in ("queue_id", "dead_letter_queue")}
    known = [field.name for field in fields(ConsumerSettings)]
    if unknown := sorted(set(given) - {*known}):
        raise TypeError(f"queue {name!r}: unknown setting {unknown[0]!r}; known: {', '.join(known)}")
    request = {"type": "http_pull", "dead_letter_queue": settings.get("dead_letter_queue"), "settings": given}
    try:
        return parsing.consumer(Fields(request, assumptions.choose({})), name)
    except ApiError as error:
        raise ValueError(f"queue {name!r}: {error}") from error


def make(queues: Registry, wanted: Mapping[str, Settings]) -> None:
    """
    See to it that queues are there and can be pulled, and so can their dead-letter queues.

    :param wanted: their settings by name; an existing consumer is given those that are named.
    :raises ValueError: a queue, or its id, belongs to another one.
    """
    dead_letter_queues = filter(None, [settings.get("dead_letter_queue") for settings in wanted.values()])
    wanted = {**wanted, **{name: Settings() for name in dead_letter_queues if name not in wanted}}
    for name, settings in wanted.items():  # all queues first, or a consumer would make its dead-letter queue itself
        _make_queue(queues, name, settings.get("queue_id"))
    for name, settings in wanted.items():
        queue = queues.ensure(name)
        before = queue.consumer
        if before is None:
            queues.add_consumer(queue.id, **consumer(name, settings))
        elif settings:
            kept = {**asdict(before.settings), "dead_letter_queue": before.dead_letter_queue}
            queues.replace_consumer(queue.id, before.id, **consumer(name, kept | settings))


def _make_queue(queues: Registry, name: str, queue_id: str | None) -> None:
    queue = queues.find(name)
    if queue is None:
        try:
            queues.create(name, queue_id=queue_id)
        except QueueExists as error:
            raise ValueError(f"queue {name!r} cannot have the id {queue_id!r}: another queue has it") from error
    elif queue_id not in (None, queue.id):
        raise ValueError(f"queue {name!r} has the id {queue.id} in the state file, not {queue_id}")
