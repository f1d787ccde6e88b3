"""What a probe is: questions about the API with their documented and assumed answers, and a function that looks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from airflow_provider_cfqueues.emulator.conformance.lab import Lab

Steps = Generator[float, None, None]
"""A probe at work: it yields seconds to wait for."""
Saw = dict[str, str]
"""What was seen, by the name of the fact."""
Look = Callable[[Lab, Saw], Steps]


@dataclass(frozen=True)
class Fact:
    """
    One thing that the client or the emulator relies on.

    :param name: its name in the report.
    :param question: what is looked at.
    :param assumed: what the emulator does.
    :param assumption: the name in ``assumptions`` that it is about.
    :param documented: what Cloudflare's documentation says, in the same words; empty if it says nothing, and more
        than one where it contradicts itself.
    """

    name: str
    question: str
    assumed: str
    assumption: str = ""
    documented: tuple[str, ...] = ()


def documented(name: str, question: str, answer: str, assumption: str = "", *others: str) -> Fact:
    """Return a fact of which the documentation says what the emulator does; in other places perhaps others."""
    return Fact(name, question, answer, assumption, (answer, *others))


@dataclass(frozen=True)
class Probe:
    """Some facts, and the function that sees them together."""

    facts: tuple[Fact, ...]
    look: Look


PROBES: list[Probe] = []


def probe(*facts: Fact) -> Callable[[Look], Look]:
    """Register a function as the one that sees these facts."""

    def register(look: Look) -> Look:
        PROBES.append(Probe(facts, look))
        return look

    return register
