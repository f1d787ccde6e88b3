"""The report of a run, as Markdown and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from airflow_provider_cfqueues.emulator.conformance.run import RunResult, Seen

_FORM = "https://github.com/airflow-provider-cfqueues/airflow-provider-cfqueues/issues/new?template=conformance.yml"


def as_json(result: RunResult, endpoint: str, day: str) -> str:
    """Return a run as JSON."""
    report: dict[str, Any] = {
        "endpoint": endpoint,
        "day": day,
        "requests": result.requests,
        "operations": result.operations,
        "seconds": round(result.seconds),
        "queues_left": result.left,
        "facts": [
            {
                **asdict(item.fact),
                "assumption": item.fact.assumption or None,
                "seen": item.seen,
                "agrees": item.agrees,
                "reason": item.reason or None,
            }
            for item in result.seen
        ],
    }
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def as_markdown(result: RunResult, endpoint: str, day: str) -> str:
    """Return a run as Markdown."""
    lines = [
        f"## Conformance of {endpoint}, {day}",
        "",
        summary(result),
        "",
        "| fact | looked at | documented | assumed | seen | agrees |",
        "|---|---|---|---|---|---|",
        *map(_row, result.seen),
        "",
    ]
    if result.differences:
        lines += [f"Please report the differences: {_FORM}", ""]
    return "\n".join(lines)


def summary(result: RunResult) -> str:
    """Return what a run saw, in a sentence."""
    agree = sum(1 for item in result.seen if item.agrees)
    unseen = sum(1 for item in result.seen if item.agrees is None)
    return (
        f"{_number(agree, 'fact')} as the emulator assumes, {_number(len(result.differences), 'difference')}, "
        f"{unseen} not seen; {_number(result.requests, 'request')}, {_number(result.operations, 'operation')}, "
        f"{round(result.seconds)} s."
    )


def _number(amount: int, what: str) -> str:
    return f"{amount} {what}{'' if amount == 1 else 's'}"


def _row(item: Seen) -> str:
    fact = item.fact
    name = fact.name if fact.assumption in ("", fact.name) else f"{fact.name} ({fact.assumption})"
    seen = f"not seen: {item.reason}" if item.seen is None else item.seen
    agrees = {True: "yes", False: "**no**", None: ""}[item.agrees]
    cells = (name, fact.question, " or ".join(fact.documented) or "-", fact.assumed, seen, agrees)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
