"""Who may import whom, and what an import costs: each in a fresh interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "airflow_provider_cfqueues"
LAYERS = [
    {"exceptions", "outcomes", "bodies"},
    {"models"},
    {"delays", "protocol", "matching"},
    {"arguments.values"},
    {"arguments.leases", "arguments.messages", "arguments.administration"},
    {"arguments"},
    {"api.parts", "settings", "assets.queues"},
    {"api.messages", "api.administration"},
    {"api"},
    {"flows.base"},
    {"flows.lookup"},
    {"flows.messages", "flows.administration", "flows.purging"},
    {"flows"},
    {"processing.options", "processing.threads"},
    {"processing.handling"},
    {"processing.report", "processing.window"},
    {"processing.settling", "processing.changes"},
    {"processing.pulling"},
    {"processing.journal"},
    {"processing.engine"},
    {"openlineage.facets"},
    {"clients", "telemetry", "lineage"},
    {"hooks.base", "hooks.form"},
    {"hooks.consumers"},
    {"hooks.administration"},
    {"hooks.queues"},
    {"processing.metrics", "processing.copies", "redriving.pace", "redriving.options"},
    {"processing.port", "processing.progress", "redriving.sending"},
    {"processing.running"},
    {"redriving.batch", "redriving.renewing"},
    {"redriving.redrive"},
    {"watching.options"},
    {"watching.deliveries", "watching.pace", "watching.source"},
    {"watching.events", "watching.settling"},
    {"watching.stream"},
    {"triggers.queues", "events"},
    {"links.queues", "notifications.queues", "retries"},
    {"operators.base", "operators.leases"},
    {"triggers.purging"},
    {"operators.process", "operators.administration", "operators.purge", "operators.redrive"},
    {"operators.queues"},
    {"sensing"},
    {"triggers.sensing"},
    {"sensors.queues"},
    {"queues.cloudflare"},
    {"decorators.queues"},
    {"cli.definition", "cli.emulator", "cli.formats", "cli.lookup"},
    {"cli.lines", "cli.screen"},
    {"cli.running", "cli.sink"},
    {"cli.drain", "cli.peek", "cli.ping", "cli.queues", "cli.redrive", "cli.send"},
    {"__main__"},
]
"""Each module may import from those above it and beside it; ``_compat`` and ``provider_info`` import none of them."""

EMULATOR_OPTIONS = "emulator.options"
"""What the command line may know of the emulator, to start it with any of its options."""


def modules_loaded_by(statement):
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def path_of(module):
    path = PACKAGE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports_of(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "airflow_provider_cfqueues":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("airflow_provider_cfqueues."):
            module = node.module.removeprefix("airflow_provider_cfqueues.")
            submodules = {
                f"{module}.{alias.name}" for alias in node.names if path_of(f"{module}.{alias.name}").exists()
            }
            yield from submodules or {module}


def test_operators_load_no_heavy_library_that_airflow_did_not():
    base = """
try:
    from airflow.sdk import BaseOperator
except ImportError:
    from airflow.models import BaseOperator"""
    extra = modules_loaded_by("import airflow_provider_cfqueues.operators.queues") - modules_loaded_by(base)
    assert "airflow_provider_cfqueues.operators.queues" in extra
    heavy = {"requests", "httpx", "tenacity", "urllib3", "aiohttp", "starlette", "uvicorn"}
    heavy |= {"openlineage", "opentelemetry", "rich"}
    assert {module.partition(".")[0] for module in extra} & heavy == set()


@pytest.mark.parametrize("module", ["provider_info", "exceptions", "models", "protocol", "api", "flows", "settings"])
def test_the_core_loads_neither_airflow_nor_an_http_library(module):
    loaded = modules_loaded_by(f"import airflow_provider_cfqueues.{module}")
    assert {name.partition(".")[0] for name in loaded} & {"airflow", "requests", "httpx", "tenacity"} == set()


def test_provider_info_loads_nothing_of_ours():
    loaded = modules_loaded_by("import airflow_provider_cfqueues.provider_info")
    assert {name for name in loaded if name.startswith("airflow_provider_cfqueues")} == {
        "airflow_provider_cfqueues",
        "airflow_provider_cfqueues.provider_info",
    }


def test_the_pytest_plugin_costs_nothing_until_it_is_used():
    loaded = modules_loaded_by("import airflow_provider_cfqueues.emulator.pytest_plugin")
    assert {name.partition(".")[0] for name in loaded} & {"starlette", "uvicorn", "sqlite3", "airflow"} == set()


def test_each_layer_imports_only_those_below():
    allowed = {"__version__", "_compat", "provider_info", EMULATOR_OPTIONS}
    for layer in LAYERS:
        allowed |= layer
        for module in layer:
            assert set(imports_of(path_of(module))) <= allowed, module
    assert set(imports_of(PACKAGE / "provider_info.py")) == set()
    assert set(imports_of(PACKAGE / "_compat.py")) == set()


def test_the_emulator_and_the_client_share_no_code():
    emulator = list((PACKAGE / "emulator").glob("*.py"))
    assert emulator
    for path in emulator:
        assert {name for name in imports_of(path) if not name.startswith("emulator")} <= {"__version__"}, path
    for path in PACKAGE.rglob("*.py"):
        if path not in emulator:
            shared = {name for name in imports_of(path) if name.startswith("emulator")}
            assert shared <= ({EMULATOR_OPTIONS} if path.parent.name == "cli" else set()), path
    assert set(imports_of(path_of(EMULATOR_OPTIONS))) == set()


def test_all_modules_stand_in_the_layers():
    standing = {module for layer in LAYERS for module in layer} | {"provider_info", "_compat"}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if (path.name != "__init__.py" or any(imports_of(path))) and not name.startswith("emulator"):
            assert name in standing
