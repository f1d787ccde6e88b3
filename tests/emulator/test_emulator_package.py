"""What importing costs, what the documentation promises, and that no other part of the package is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_cfqueues.emulator.assumptions import ASSUMPTIONS

DOCS = Path(__file__).parents[2] / "docs" / "emulator.md"


def modules_after(code: str) -> set[str]:
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_plugin_imports_next_to_nothing():
    added = modules_after("import pytest, airflow_provider_cfqueues.emulator.pytest_plugin")
    added -= modules_after("import pytest")
    assert {name.partition(".")[0] for name in added} <= {"airflow_provider_cfqueues"}
    assert len(added) <= 3


def test_the_emulator_imports_nothing_else_of_the_package():
    loaded = modules_after("from airflow_provider_cfqueues.emulator import Emulator")
    ours = {name for name in loaded if name.startswith("airflow_provider_cfqueues.")}
    assert all(name.startswith("airflow_provider_cfqueues.emulator") for name in ours)
    assert not {"airflow", "httpx", "requests", "pytest"} & loaded


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_extra_is_named(missing):
    code = f"""
import sys
sys.modules[{missing!r}] = None
from airflow_provider_cfqueues.emulator import Clock
try:
    from airflow_provider_cfqueues.emulator import Emulator
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'airflow-provider-cfqueues[emulator]'" in done.stdout


def test_the_fixture_is_as_new_for_each_test(cloudflare_queues):
    assert list(cloudflare_queues.queues) == ["my-queue"]
    assert cloudflare_queues.requests() == []
    cloudflare_queues.create_queue("left-behind")


def test_the_fixture_is_as_new_for_the_next_test_too(cloudflare_queues):
    assert list(cloudflare_queues.queues) == ["my-queue"]


def test_the_documentation_says_of_every_assumption_what_it_is_about_and_can_be():
    section = DOCS.read_text(encoding="utf-8").partition("## What is not known\n")[2].partition("\n## ")[0]
    shown = re.findall(r"^- \*\*([\w-]+)\*\*(?: \((.*)\))?: \S", section, re.MULTILINE)
    assert shown == [(name, ", ".join(f"`{choice}`" for choice in choices)) for name, choices in ASSUMPTIONS.items()]
