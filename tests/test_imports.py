"""Who may import whom, and what an import costs: each in a fresh interpreter."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "airflow_provider_cfqueues"
LAYERS = {
    "exceptions outcomes bodies texts": "words that every other module uses",
    "models": "what the API answers, as values",
    "delays matching": "what a user may say about a message",
    "arguments": "what a caller may pass, parsed once",
    "assets": "the URI of a queue: lineage and DAGs share it",
    "client flows": "Cloudflare over HTTP, without Airflow",
    "telemetry": "what is observed of requests: hooks report it",
    "hooks": "an Airflow connection becomes a client",
    "engines": "the loops, over a hook",
    "events triggers": "the triggerer's side: runs engines",
    "links notifications retries": "what a DAG attaches to tasks",
    "operators": "a task: parses its arguments, calls a hook or runs an engine",
    "sensors": "operators that wait, so they build on these",
    "decorators queues": "other spellings of operators and triggers",
    "cli __main__": "the same for a terminal",
}
"""A folder or module may import from its own row and those above; each row says why it is a layer of its own."""
FREE = {"__version__", "DEFAULT_CONNECTION", "_compat", "provider_info"}
SHARED_BY_ENGINES = [
    "course",
    "run",
    "queue",
    "settlement",
    "settlement_log",
    "settling",
    "copies",
    "waiting",
    "threads",
]

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


SDK = """
try:
    from airflow.sdk import BaseOperator
except ImportError:
    from airflow.models import BaseOperator"""


def test_operators_load_no_heavy_library_that_airflow_did_not():
    extra = modules_loaded_by("import airflow_provider_cfqueues.operators.queues") - modules_loaded_by(SDK)
    assert "airflow_provider_cfqueues.operators.queues" in extra
    heavy = {"requests", "httpx", "tenacity", "urllib3", "aiohttp", "starlette", "uvicorn"}
    heavy |= {"openlineage", "opentelemetry", "rich"}
    assert {module.partition(".")[0] for module in extra} & heavy == set()


OPERATORS = "import airflow_provider_cfqueues.operators.queues"
MOST_MODULES = 30
"""Ours and others together, beyond the SDK that every DAG file loads."""


@pytest.mark.parametrize(
    ("module", "before"),
    [
        ("operators.queues", ""),
        ("sensors.queues", OPERATORS),
        ("notifications.queues", OPERATORS),
        ("events", OPERATORS),
        pytest.param("triggers.queues", OPERATORS, id="triggers.queues"),
    ],
)
def test_a_dag_file_loads_few_modules(module, before):
    known = modules_loaded_by(f"{SDK}\n{before}")
    extra = modules_loaded_by(f"{SDK}\n{before}\nimport airflow_provider_cfqueues.{module}") - known
    assert f"airflow_provider_cfqueues.{module}" in extra
    assert len(extra) <= MOST_MODULES, sorted(extra)


@pytest.mark.parametrize("module", ["provider_info", "exceptions", "models", "client.messages", "client.settings"])
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


def modules():
    """Return the modules of the package, each with what it imports of the package; the emulator left out of both."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name.split(".")[0] not in {"emulator", "__init__"}:
            found[name] = {other for other in imports_of(path) if not other.startswith("emulator")}
    return found


def test_each_layer_imports_only_those_above_it():
    allowed = set(FREE)
    places = {place: row for row in LAYERS for place in row.split()}
    for row in LAYERS:
        allowed |= set(row.split())
        for name, imported in modules().items():
            if places.get(name.split(".")[0]) == row:
                assert {other.split(".")[0] for other in imported} <= allowed, name
    assert {name.split(".")[0] for name in modules()} == {*places, "_compat", "provider_info"}
    assert modules()["_compat"] == modules()["provider_info"] == set()


def test_no_modules_import_each_other():
    graphlib.TopologicalSorter(modules()).prepare()


def test_what_engines_share_imports_no_engine():
    for name in SHARED_BY_ENGINES:
        engines = {other for other in modules()[f"engines.{name}"] if other.startswith("engines.")}
        assert engines <= {f"engines.{other}" for other in SHARED_BY_ENGINES}, name


def test_the_emulator_and_the_client_share_no_code():
    emulator = list((PACKAGE / "emulator").rglob("*.py"))
    assert emulator
    for path in emulator:
        assert {name for name in imports_of(path) if not name.startswith("emulator")} <= {"__version__"}, path
    for path in PACKAGE.rglob("*.py"):
        if path not in emulator:
            shared = {name for name in imports_of(path) if name.startswith("emulator")}
            assert shared <= ({EMULATOR_OPTIONS} if path.parent.name == "cli" else set()), path
    assert set(imports_of(path_of(EMULATOR_OPTIONS))) == set()
