"""The table at the end of ``scripts/matrix``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

ROW = "{:<9} {:<8} {:>7} {:>7} {:>8} {:>8}  {}"


def row_of(reports: Path, version: str) -> str:
    """
    Return what the suite said on one Airflow.

    :param reports: a folder with its log, pytest's XML, and ``VERSION.exit``: exit code and seconds.
    """
    code, seconds = (reports / f"{version}.exit").read_text().split()
    ran = re.search(r"^Airflow (\S+) on Python (\S+)$", (reports / f"{version}.log").read_text(), re.MULTILINE)
    airflow, python = ran.groups() if ran else (version, "-")
    counts: tuple[object, ...] = ("-", "-", "-")
    xml = reports / f"{version}.xml"
    if xml.exists():
        suites = list(ElementTree.parse(xml).iter("testsuite"))
        tests, failures, errors, skipped = (
            sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
        )
        failed = failures + errors
        counts = (tests - failed - skipped, failed, skipped)
    return ROW.format(airflow, python, *counts, seconds, "ok" if code == "0" else f"FAILED (exit {code})")


if __name__ == "__main__":
    print(ROW.format("airflow", "python", "passed", "failed", "skipped", "seconds", "result"))
    for each in sys.argv[2:]:
        print(row_of(Path(sys.argv[1]), each))
