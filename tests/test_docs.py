"""What README and docs say is what the code does: snippets run, tables are current, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import errors_table

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "airflow_provider_cfqueues"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
CRASH_POINTS = ROOT / "tests" / "crash_points.md"
LONGEST_CODE_LINE = 88
"""What the site shows of a code block without cutting it, in a window of 1,280 pixels."""
HOW_TOS = """
adopt alerts connection dead-letter-queues deploy emulator emulator-recipes event-driven on-call operations operators
process scaling-out sensors several-kinds testing trigger-runs
"""
LONGEST_FIRST_EXAMPLE = 18
"""Lines of code."""
NO_MODULES = {"ack", "body_error", "execute", "lease_ids", "match", "pull", "raw_body"}
"""What the map of CONTRIBUTING.md names that is no module."""
IMAGES = sorted((ROOT / "docs" / "images").glob("*"))
# The inside of the package: not in the reference, and free to change.
NOT_PUBLIC = {"__main__", "bodies", "flows", "provider_info", "texts"}
NOT_PUBLIC_PACKAGES = {"arguments", "cli", "_compat", "client", "engines", "telemetry"}
PUBLIC_OF_EMULATOR = {"emulator", "emulator.broker", "emulator.clock", "emulator.pytest_plugin", "emulator.server"}


def test_the_table_of_errors_is_made_from_the_classes():
    assert errors_table.PAGE.read_text() == errors_table.render(), "run: ./scripts/check --fix"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", HOW_TOS.split())
def test_a_how_to_starts_with_its_purpose_and_a_short_example(page):
    before, _, code = (ROOT / "docs" / f"{page}.md").read_text().partition("\n```")
    purpose = [line for line in before.splitlines() if line and not line.startswith(("# ", "<!--"))]
    assert len(purpose) <= 3
    assert code.partition("\n```")[0].count("\n") <= LONGEST_FIRST_EXAMPLE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_code_is_too_long_to_be_shown(page):
    blocks = re.findall(r"^ *```\w+[^\n]*\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE)
    assert [line for block in blocks for line in block.splitlines() if len(line) > LONGEST_CODE_LINE] == []


def test_each_crash_point_has_a_test():
    page = (ROOT / "docs" / "delivery-guarantees.md").read_text()
    points, begins = [], ("what dies", "what happened")
    for line in page.splitlines():
        if line.startswith("| ") and not line.startswith(tuple(f"| {begin}" for begin in begins)):
            *what, _ = (cell.strip() for cell in line.strip("|").split("|"))
            points.append(": ".join(what))
    assert len(points) > 60
    tested = re.findall(r"^- (.+)\n  - `test_", CRASH_POINTS.read_text(), re.MULTILINE)
    assert tested == points


@pytest.mark.parametrize("page", [*PAGES, CRASH_POINTS], ids=lambda page: page.name)
def test_tests_that_a_page_names_exist(page):
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for name in re.findall(r"`(test_\w+)`", page.read_text()):
        assert f"def {name}(" in tests, name


def squeezed(code):
    """Return code without what depends on how far it is indented."""
    return re.sub(r"\s+|,(?=\s*[)\]}])", "", code)


def test_the_code_of_the_page_on_operations_is_that_of_the_example():
    example = (ROOT / "example_dags" / "cloudflare_queues_operations.py").read_text()
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    assert len(snippets) == 5
    for snippet in snippets:
        assert squeezed(snippet) in squeezed(example), snippet


def test_pictures_are_small_and_all_are_shown():
    assert len(IMAGES) >= 5
    assert {path.name: path.stat().st_size for path in IMAGES if path.stat().st_size > 150_000} == {}
    assert sum(path.stat().st_size for path in IMAGES) < 1_000_000
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^]]+\]\((.+?)\)", page.read_text())
    }
    assert shown == set(IMAGES)


def test_each_public_module_is_in_the_reference():
    pages = "\n".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    referenced = set(re.findall(r"automodule:: airflow_provider_cfqueues\.(\S+)", pages))
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    packages = {name.partition(".")[0] for name in modules if "." in name}
    public = {
        name
        for name in modules
        if not name.rpartition(".")[2].startswith("_")
        and name not in NOT_PUBLIC
        and name.partition(".")[0] not in NOT_PUBLIC_PACKAGES | {"emulator"}
    }
    told_by_another = {
        *("hooks.base", "hooks.form", "hooks.administration"),  # inherited members of the hook
        *("operators.base", "operators.leases", "operators.process"),  # operators.queues has them
        *("operators.administration", "operators.consumers", "operators.purge", "operators.redrive", "operators.runs"),
        "operators.settling",
        *("triggers.purging", "triggers.sensing"),  # made by operators and sensors alone
    }
    assert referenced - PUBLIC_OF_EMULATOR == public - told_by_another
    assert referenced >= PUBLIC_OF_EMULATOR
    assert modules >= NOT_PUBLIC
    assert packages >= NOT_PUBLIC_PACKAGES


def test_each_example_is_used_by_a_test():
    tests = "\n".join(path.read_text() for path in (ROOT / "tests" / "integration").glob("*.py"))
    assert [path.stem for path in (ROOT / "example_dags").glob("*.py") if path.stem not in tests] == []


def test_what_the_map_of_contributing_names_is_there():
    the_map = (ROOT / "CONTRIBUTING.md").read_text().partition("## The map")[2].partition("## House rules")[0]
    files = [path for path in ROOT.glob("[!.]*/**/*") if path.is_file()]
    modules = [path.relative_to(ROOT).with_suffix("").as_posix() for path in files]
    names = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*)(?:\.\w+)?/?`", the_map))
    assert len(names) > 80
    assert names >= {path.stem for path in PACKAGE.iterdir() if path.stem != "__pycache__"}
    for name in names - NO_MODULES:
        assert any(f"/{name}/" in f"/{module}/" for module in modules), name
