"""What README and docs say is what the code does: snippets run, tables are current, links lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def has_task_sdk():
    try:
        return importlib.util.find_spec("airflow.sdk") is not None
    except ModuleNotFoundError:
        return False


def python_of_readme(part):
    """Return the one Python snippet of the README that holds a text."""
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (snippet,) = (snippet for snippet in snippets if part in snippet)
    return snippet


def test_the_test_of_the_readme_passes(cloudflare_queues, monkeypatch, tmp_path):
    path = tmp_path / "readme_test.py"
    path.write_text(python_of_readme("def test_what_is_sent_is_pulled"))
    runpy.run_path(str(path))["test_what_is_sent_is_pulled"](cloudflare_queues, monkeypatch)


def test_the_table_of_errors_is_made_from_the_classes():
    rendered = runpy.run_path(str(ROOT / "scripts" / "errors_table.py"))["render"]()
    assert (ROOT / "docs" / "errors.md").read_text() == rendered, "run: python scripts/errors_table.py"


@pytest.mark.filterwarnings("default")
@pytest.mark.filterwarnings(r"error:::airflow_provider_cfqueues\..*")
def test_the_dag_of_the_readme_is_one(tmp_path):
    snippet = python_of_readme("def ship_orders")
    if not has_task_sdk():
        snippet = snippet.replace("from airflow.sdk import", "from airflow.decorators import")
    path = tmp_path / "readme_dag.py"
    path.write_text(snippet)
    dag = runpy.run_path(str(path))["ship_orders"]()
    assert sorted(dag.task_ids) == ["ack", "process", "pull", "retry"]
    assert dag.task_dict["ack"].upstream_task_ids == {"process"}


def test_the_snippets_on_sensors_are_code():
    names = vars(importlib.import_module("airflow_provider_cfqueues.sensors.queues"))
    for snippet in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "sensors.md").read_text(), re.DOTALL):
        exec(snippet, dict(names))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_a_page_names_exist(page):
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for name in re.findall(r"`(test_\w+)`", page.read_text()):
        assert f"def {name}(" in tests, name


def test_the_code_of_the_page_on_operations_is_that_of_the_example():
    example = (ROOT / "example_dags" / "cloudflare_queues_operations.py").read_text()
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    assert len(snippets) == 5
    for snippet in snippets:
        assert snippet in example, snippet
