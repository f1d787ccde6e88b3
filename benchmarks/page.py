"""Write ``docs/benchmarks.md`` from the figures of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

How fast this provider is, what it costs, and how to measure it yourself:

```bash
./scripts/bench               # everything, about ten minutes
./scripts/bench cpu rate      # some of it; --help lists the names
```

Everything runs against the [emulator](emulator.md), so you need no Cloudflare account. The emulator has one core, the
measured process another, and the emulator adds the latency. Airflow's examples are switched off, as in production.
Compare figures of one table: machines differ.

These rows have no peer or floor: memory, open bytes and module counts (they have limits of their own), imports other
than the operators (they come on top of those), and the start of watchers (no peer has any).

"""
TITLES = {
    "cpu": "CPU time of one task\n\nThe floor pulls and acks the same messages over asyncio streams with the standard "
    "library's `json`: no Python client can need less.",
    "rate": "Messages a second\n\nOne task with default arguments and a handler that does nothing. The time begins "
    "with the task. Cloudflare documents 5,000 messages a second as the most of one queue. The floor has 100 "
    "connections, as many requests at once as a task makes at most, and uses them from the start; a task first has to "
    "learn the pace of its handler.",
    "large": "Large messages",
    "hook": "Calls of the hook\n\nCPU time of one call, beside the same call through `requests`.",
    "commands": "Drain and redrive\n\nBeside a loop on `requests` that does the same, 100 messages after the other.",
    "lookup": "Looking up a name",
    "loop": "The triggerer's event loop",
    "imports": "Imports\n\nWhat an import costs on top of `airflow.sdk`, and all but the operators on top of these, "
    "beside the operators of Airflow's own providers. The ratio is to the fastest of them.",
    "server": "The emulator\n\nAt a backlog of 100,000 messages, beside a bare Starlette application that answers as "
    "many bytes.",
    "requests": "Requests and billed operations\n\nSmall messages, 50 ms added to each request. Cloudflare bills an "
    "operation for each 64 KB written, read and deleted: a small message that is sent, delivered once and acked costs "
    "three. "
    "The least that 1,000 messages can take is 20 requests: ten pulls and ten acks of a hundred.",
    "resident": "Memory",
}


def figure(value: float | None) -> str:
    """
    Return a number with the digits that matter.

    :param value: the number; None = it was not measured.
    """
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def render(results: dict[str, Any]) -> str:
    """
    Return the page.

    :param results: what a run wrote.
    """
    versions = ", ".join(f"{name} {results[name]}" for name in ("Python", "apache-airflow", "requests", "httpx"))
    fewer = "some rows take fewer: drain, redrive, floors, peers; large messages and memory take one"
    runs = f"medians of {results['runs']} runs ({fewer})" if results["runs"] > 1 else "one run"
    parts = [HEAD, f"Measured on {results['date']}: {results['machine']}; {versions}; {runs}.\n"]
    for name, rows in results["rows"].items():
        parts += [f"\n## {TITLES[name]}\n\n", "| what | ours | beside | ratio | target |\n|---|---|---|---|---|\n"]
        for row in rows:
            beside = ", ".join(f"{who} {figure(value)}" for who, value in row["beside"].items())
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            target = row["target"] + ("" if row["met"] in (None, True) else " (missed)")
            parts.append(f"| {row['what']} | {figure(row['ours'])} | {beside} | {ratio} | {target} |\n")
    return "".join(parts)


def write_page() -> None:
    """Write the page from the stored figures."""
    PAGE.write_text(render(json.loads(RESULTS.read_text())))
