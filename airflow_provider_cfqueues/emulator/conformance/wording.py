"""The words for what was seen, so that equal answers have equal words."""

from __future__ import annotations

from airflow_provider_cfqueues.emulator.conformance.api import Answer


def said(answer: Answer, yes: str = "accepted") -> str:
    """Return whether a call was carried out."""
    return yes if answer.ok else f"refused: {answer}"


def taken(answer: Answer, count: str = "ackCount") -> str:
    """Return whether a lease still counted, however a refusal of it is told."""
    return "counted" if answer.ok and answer.result.get(count) else "not counted"


def settled(answer: Answer, count: str = "ackCount") -> str:
    """Return what became of leases."""
    if not answer.ok:
        return said(answer)
    warned = "with a warning" if answer.result.get("warnings") else "without a warning"
    return f"{answer.result.get(count)} counted, {warned}"
