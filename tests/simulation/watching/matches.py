"""Which messages the watchers of the simulation want."""

from __future__ import annotations

from typing import Any

from airflow_provider_cfqueues.models import Message

HERE = __name__
KINDS = ("red", "green", "grey", "large", "tricky", "odd")
"""``large``: too large for a watcher that takes red; ``tricky``: its match fails; ``odd``: cannot be decoded."""
MATCHES: dict[str, str | None] = {
    "all": None,
    "red": f"function:{HERE}.is_red",
    "green": f"function:{HERE}.is_green",
    "careful": f"function:{HERE}.is_red_or_fails",
}
LARGEST_EVENT = 2_000
LARGE = "x" * 3_000


def kind_of(message: Message) -> str:
    """Return the kind of a message, as a match sees it."""
    return message.body["kind"] if isinstance(message.body, dict) else "odd"


def is_red(message: Message) -> bool:
    return kind_of(message) in ("red", "large")


def is_green(message: Message) -> bool:
    return kind_of(message) == "green"


def is_red_or_fails(message: Message) -> bool:
    if kind_of(message) == "tricky":
        raise LookupError("no luck")
    return is_red(message)


def verdict(watcher: Any, kind: str) -> bool | None:
    """
    Return whether a watcher wants a message; None where it refuses it.

    :param watcher: how it watches.
    :param kind: of the message.
    """
    if watcher.match == "careful" and kind == "tricky":
        return None
    wanted = {
        "all": KINDS,
        "red": ("red", "large"),
        "green": ("green",),
        "careful": ("red", "large"),
    }[watcher.match]
    if kind in wanted and kind == "large" and watcher.include_body and watcher.is_small:
        return None
    return kind in wanted
