"""
Run the benchmarks: each figure beside its peer or floor in the same run, printed as a table and written as JSON.

The emulator has one core, what is measured the other. Compare ratios, and figures of one run: machines differ.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.page import RESULTS, figure, write_page
from benchmarks.rows import BENCHMARKS, Effort
from benchmarks.stage import Row

SHORT = Effort(runs=1, scale=0.02)


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    versions = {name: importlib.metadata.version(name) for name in ("apache-airflow", "requests", "httpx", "msgspec")}
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = f"{len(names)} cores of {names[0]}" if names else model
    return {"machine": model, "Python": platform.python_version(), **versions}


def show(name: str, rows: list[dict[str, Any]]) -> None:
    """
    Print the table of one benchmark.

    :param name: the benchmark.
    :param rows: its rows.
    """
    table = Table("what", "ours", "beside", "ratio", "target", "", title=name, title_justify="left")
    for row in rows:
        beside = ", ".join(f"{who} {figure(value)}" for who, value in row["beside"].items())
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        mark = {True: "met", False: "[red]missed[/red]", None: ""}[row["met"]]
        table.add_row(row["what"], figure(row["ours"]), beside, ratio, row["target"], mark)
    Console(width=150).print(table)


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.strip().splitlines()[0])
    parser.add_argument("benchmarks", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHMARKS)} (all)")
    parser.add_argument("--short", action="store_true", help="few messages, one run: to see that all of it works")
    parser.add_argument("--runs", type=int, default=5, help="medians of so many runs (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md from the figures of this run")
    given = parser.parse_args()
    if unknown := sorted(set(given.benchmarks) - set(BENCHMARKS)):
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    effort = SHORT if given.short else Effort(runs=given.runs)
    results: dict[str, Any] = {**machine(), "date": time.strftime("%Y-%m-%d"), "runs": effort.runs, "rows": {}}
    names = given.benchmarks or list(BENCHMARKS)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name in progress.track(names, description="measuring"):
            began = time.monotonic()
            rows: list[Row] = list(BENCHMARKS[name](effort))
            results["rows"][name] = [asdict(row) for row in rows]
            progress.console.print(f"{name}: {time.monotonic() - began:.0f} s")
    for name, listed in results["rows"].items():
        show(name, listed)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    if given.page:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
