"""Faults: rules that make the next calls of a path fail, slow or break off."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from random import Random
from typing import Any

from airflow_provider_cfqueues.emulator.fields import is_number


@dataclass(frozen=True, kw_only=True)
class Fault:
    """
    One rule.

    Its parts happen in this order: wait ``delay_ms``; ``drop`` the connection ``before`` the call is applied;
    apply the call, or, where there is a ``status``, answer that with ``headers`` and ``body`` (``apply``: do
    both); ``drop`` the connection ``after`` that; ``truncate`` the answer.

    ``truncate`` true promises the whole answer and closes the connection half-way; a number answers, complete
    as HTTP, with that many bytes of it.

    A rule with a ``share`` lets calls pass by dice of its own, which ``seed`` starts.
    """

    path: str
    times: int = 1
    share: float = 1
    seed: int = 0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    apply: bool = False
    delay_ms: float = 0
    drop: str | None = None
    truncate: bool | int = False

    @property
    def answers(self) -> bool:
        """Whether the call itself is left undone."""
        return self.status is not None and not self.apply


NO_FAULT = Fault(path="")


def parse_fault(rule: Any) -> Fault:
    """Read a rule; a ValueError says what is wrong with it."""
    if not isinstance(rule, dict):
        raise ValueError(f"a fault is a JSON object, not {rule!r}")  # noqa: TRY004 -- one error for all
    known = {item.name for item in fields(Fault)}
    if unknown := sorted(set(rule) - known):
        raise ValueError(f"unknown key {unknown[0]!r} in a fault; known: {', '.join(sorted(known))}")
    for key, (holds, expected) in _CHECKS.items():
        if key in rule and not holds(rule[key]):
            raise ValueError(f"{key} of a fault must be {expected}, not {rule[key]!r}")
    if "path" not in rule:
        raise ValueError("a fault needs a path: the last segment of the call, such as 'pull'")
    if not {"status", "delay_ms", "drop", "truncate"} & set(rule):
        raise ValueError("a fault needs one of status, delay_ms, drop, truncate")
    if {"headers", "body", "apply"} & set(rule) and "status" not in rule:
        raise ValueError("headers, body and apply of a fault need a status")
    return Fault(**rule)


def _whole(value: Any, low: int, high: float) -> bool:
    return is_number(value) and isinstance(value, int) and low <= value <= high


_CHECKS: dict[str, tuple[Any, str]] = {
    "path": (lambda value: isinstance(value, str) and value and "/" not in value, "one path segment"),
    "times": (lambda value: _whole(value, 1, float("inf")), "a whole number from 1"),
    "share": (lambda value: is_number(value) and 0 < value <= 1, "a number above 0, up to 1"),
    "seed": (lambda value: _whole(value, 0, float("inf")), "a whole number from 0"),
    "status": (lambda value: _whole(value, 200, 599), "a whole number from 200 to 599"),
    "headers": (
        lambda value: isinstance(value, dict) and all(isinstance(item, str) for item in value.values()),
        "an object of strings",
    ),
    "apply": (lambda value: isinstance(value, bool), "true or false"),
    "delay_ms": (lambda value: is_number(value) and 0 <= value < 1e9, "a number from 0"),
    "drop": (lambda value: value in ("before", "after"), "'before' or 'after'"),
    "truncate": (lambda value: value is True or _whole(value, 0, float("inf")), "true or a number of bytes"),
}


class Faults:
    """The active rules, in the order in which they were added; a call meets at most one."""

    def __init__(self) -> None:
        self._rules: list[tuple[Fault, Random]] = []

    def add(self, rules: Any) -> None:
        """Add rules, all or none of them."""
        if not isinstance(rules, list):
            raise ValueError(f"faults are a JSON list of rules, not {type(rules).__name__}")  # noqa: TRY004 - a 400
        parsed = [parse_fault(rule) for rule in rules]
        self._rules += [(rule, Random(rule.seed)) for rule in parsed]  # noqa: S311 -- repeatable on purpose

    def take(self, path: str) -> Fault:
        """Return the first rule for this path whose dice fall on this call, used up once more, or no fault."""
        for index, (rule, dice) in enumerate(self._rules):
            if rule.path == path and dice.random() < rule.share:
                left = [(replace(rule, times=rule.times - 1), dice)] if rule.times > 1 else []
                self._rules[index : index + 1] = left
                return rule
        return NO_FAULT

    def active(self) -> list[dict[str, Any]]:
        """Return the rules that still wait for a call."""
        return [asdict(rule) for rule, _ in self._rules]
