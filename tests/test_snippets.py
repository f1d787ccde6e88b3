"""
Every snippet of README and docs runs here, or is checked as far as it can be without Cloudflare and without minutes.

A Python snippet is taken from an example DAG, which is run elsewhere, or is executed against the emulator. A command is
read by the parser that it is for. What needs more than that says so on its page, in a comment ``<!-- snippet: … -->``
before it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_provider_cfqueues._compat import HAS_SHARED_STREAMS
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

ROOT = Path(__file__).parent.parent
RUN_ELSEWHERE = ROOT / "docs" / "emulator-recipes.md"  # by tests/emulator/test_emulator_recipes.py
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted({*(ROOT / "docs").rglob("*.md")} - {RUN_ELSEWHERE})]
FENCE = re.compile(
    r"(?:^<!-- snippet: (?P<mark>[^\n]*) -->\n)?^```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
# No directive that includes code: GitHub shows none.
NOT_CODE = {"", "text", "dockerfile", "{toctree}", "{include}", "{eval-rst}"}
# What a page has told its reader to import in an earlier snippet.
IMPORTED = {
    "operations.md": ["operators.queues", "notifications.queues"],
    "dead-letter-queues.md": ["operators.queues"],
    "trigger-runs.md": ["operators.queues"],
}
NOT_OURS = {"mkdir", "npx", "pip", "curl", "git", "jq", ".", "rm", "bash", "grep"}
DAG_HEAD = """
from airflow_provider_cfqueues.operators.queues import QueueAckOperator, QueuePullOperator
with DAG("snippet", schedule=None):
"""
PULLED = """
pull = QueuePullOperator(task_id="pull", queue_name="orders")
process_one = task(lambda message: message)
"""


@dataclass(frozen=True)
class Snippet:
    page: Path
    line: int
    language: str
    mark: str
    code: str

    def __str__(self):
        return f"{self.page.name}:{self.line}"


def snippets():
    for page in PAGES:
        text = page.read_text()
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start("code"))
            yield Snippet(page, line, found["language"], found["mark"] or "", textwrap.dedent(found["code"]))


SNIPPETS = list(snippets())


def in_language(*languages):
    return [snippet for snippet in SNIPPETS if snippet.language in languages]


def lines_of(code):
    """Return the lines of code as a page shows them: of an example, not its docstring and Airflow 2's imports."""
    code = re.sub(r'\A""".*?"""', "", code, flags=re.DOTALL)
    code = re.sub(r"^try:\n(.*?)^except ImportError.*?\n\n", r"\1", code, flags=re.DOTALL | re.MULTILINE)
    lines = [line.strip() for line in code.splitlines()]
    kept = [line for line in lines if line and not line.startswith("from __future__")]
    return "\n".join(["", *kept, ""])


def is_of_an_example(code, name="*"):
    """Whether all lines of a snippet stand in one example, one after the other."""
    return any(lines_of(code) in lines_of(path.read_text()) for path in (ROOT / "example_dags").glob(f"{name}.py"))


def names_of(module):
    return vars(importlib.import_module(f"airflow_provider_cfqueues.{module}"))


def process_orders(base_url, account_id, api_token):
    """Stand for the reader's own code, where a page calls it: pulls one message and tries to ack it, once."""
    requests = importlib.import_module("requests")
    url = f"{base_url}/accounts/{account_id}/queues"
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {api_token}"
        queue = session.get(url).json()["result"][0]
        messages = f"{url}/{queue['queue_id']}/messages"
        (message,) = session.post(f"{messages}/pull", json={}).json()["result"]["messages"]
        session.post(f"{messages}/ack", json={"acks": [{"lease_id": message["lease_id"]}]})


def test_a_snippet_is_in_a_language_that_is_checked():
    checked = {"python", "bash", "console", "json"} | NOT_CODE
    assert [str(snippet) for snippet in SNIPPETS if snippet.language not in checked] == []
    assert len(in_language("python")) > 10
    assert len(in_language("bash", "console")) > 20


@pytest.mark.filterwarnings("default")
@pytest.mark.filterwarnings(r"error:::airflow_provider_cfqueues\..*")
@pytest.mark.parametrize(
    "snippet", [each for each in in_language("python") if not each.mark.startswith(("passes", "conftest"))], ids=str
)
def test_python_runs(snippet, cf, request):
    if is_of_an_example(snippet.code) or is_a_dag(snippet):
        return  # test_dags.py runs it, or the next test
    code = snippet.code
    if "create_queue(name)" not in code:
        cf.create_queue("orders")
    if "create_queue(" not in code:
        cf.create_queue("orders-failed")
    names = {"process_orders": process_orders}
    for module in IMPORTED.get(snippet.page.name, ()):
        names |= names_of(module)
    if snippet.mark.startswith("inside a DAG"):
        code = PULLED + code if snippet.mark.endswith("that has pull and process_one") else code
        code = airflow_imports("DAG", "task") + DAG_HEAD + textwrap.indent(code, "    ")
    exec(compile(for_this_airflow(code), str(snippet), "exec"), names)
    for name, value in list(names.items()):
        if name.startswith("test_"):
            value(*(request.getfixturevalue(fixture) for fixture in inspect.signature(value).parameters))


def test_code_that_a_page_says_is_of_an_example_is():
    shown = [
        (page.name, name, code)
        for page in PAGES
        for name, code in re.findall(
            r"example_dags/(\w+)\.py\)[^\n]*:\n\n```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
        )
    ]
    assert len(shown) > 5
    assert [(page, name) for page, name, code in shown if not is_of_an_example(code, name)] == []


def is_a_dag(snippet):
    """Whether a snippet is a whole DAG: one that is decorated, and called at the end."""
    return re.search(r"^@dag\(.*^\w+\(\)$", snippet.code, re.DOTALL | re.MULTILINE) is not None


@pytest.fixture(scope="module")
def airflow_db():
    from airflow.utils.db import initdb

    initdb()


@pytest.mark.filterwarnings("default")
@pytest.mark.filterwarnings(r"error:::airflow_provider_cfqueues\..*")
@pytest.mark.parametrize(
    "snippet",
    [each for each in in_language("python") if is_a_dag(each) and not is_of_an_example(each.code)],
    ids=str,
)
def test_a_whole_dag_runs_and_settles_what_it_pulled(snippet, cf, airflow_db, tmp_path, monkeypatch):
    if "AssetWatcher" in snippet.code and not HAS_SHARED_STREAMS:
        pytest.skip("a watcher settles by itself from Airflow 3.3 on")
    hook = CloudflareQueuesHook()
    monkeypatch.setenv("ORDERS_DATABASE", str(tmp_path / "orders.db"))
    for queue in ("orders", "orders-failed", "reminders"):
        cf.create_queue(queue)
    messages = [{"type": "order", "order_id": quantity, "quantity": quantity} for quantity in (1, 0, 3)]
    hook.send(hook.get_queue_id("orders"), messages)
    (tmp_path / "snippet.py").write_text(for_this_airflow(snippet.code))
    (dag,) = load_dags(tmp_path)
    assert dag.test().state == "success"
    orders = next(queue for queue in cf.state()["queues"] if queue["name"] == "orders")
    assert orders["states"]["leased"] == 0
    if "AssetWatcher" not in snippet.code:  # a run of such a DAG alone has no messages
        assert orders["totals"]["acked"] >= 2


@pytest.mark.skipif(not HAS_SHARED_STREAMS, reason="the page's watcher needs Airflow 3.3")
@pytest.mark.filterwarnings("default")
def test_the_dag_of_a_watcher_starts_one_run_for_each_message_of_its_events(airflow_db, tmp_path):
    from airflow.models import DagRun
    from airflow.utils.session import create_session

    (code,) = (snippet.code for snippet in in_language("python") if "TriggerDagRunOperator" in snippet.code)
    messages = [{"id": "a1", "body": {"order": 1}}, {"id": "b2", "body": {"order": 2}}]
    (tmp_path / "snippet.py").write_text(code.replace("event_messages()", repr(messages)))
    shutil.copy(ROOT / "example_dags" / "cloudflare_queues_one_kind.py", tmp_path)
    (dag,) = (dag for dag in load_dags(tmp_path) if dag.dag_id == "start_refunds")
    assert dag.test().state == "success"
    again = dag.test()
    assert (again.state, again.get_task_instance("start_refund", map_index=1).state) == ("success", "skipped")
    with create_session() as session:
        started = DagRun.run_id.startswith("refund__")  # other tests start runs of this DAG, too
        runs = session.query(DagRun).filter(DagRun.dag_id == "cloudflare_queues_refund", started).all()
        assert {run.run_id: run.conf for run in runs} == {"refund__a1": {"order": 1}, "refund__b2": {"order": 2}}


def load_dags(folder):
    """Return the DAGs of a folder as Airflow finds them; Airflow 3.1 and later test one that is in the database."""
    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:
        from airflow.models import dagbag

        DagBag, sync_bag_to_db = dagbag.DagBag, getattr(dagbag, "sync_bag_to_db", None)
    bag = DagBag(folder)
    assert not bag.import_errors
    if sync_bag_to_db:
        from airflow.dag_processing.bundles.manager import DagBundlesManager

        DagBundlesManager().sync_bundles_to_db()
        sync_bag_to_db(bag, "dags-folder", None)
    return list(bag.dags.values())


def for_this_airflow(code):
    return code if has_task_sdk() else code.replace("from airflow.sdk import", "from airflow.decorators import")


def has_task_sdk():
    try:
        return importlib.util.find_spec("airflow.sdk") is not None
    except ModuleNotFoundError:
        return False


def airflow_imports(*names):
    if has_task_sdk():
        return f"from airflow.sdk import {', '.join(names)}\n"
    return "from airflow import DAG\nfrom airflow.decorators import task\n"


@pytest.mark.filterwarnings("default")
def test_the_tests_that_the_page_on_testing_shows_pass(tmp_path, monkeypatch):
    shown = {snippet.mark: snippet.code for snippet in in_language("python") if snippet.page.name == "testing.md"}
    for name, mark in {
        "conftest.py": "conftest.py of the next",
        "test_operators_of_the_page.py": "passes as a test",  # no name of ours: it would be taken from sys.modules
        "test_dag_of_the_page.py": "passes as a test, beside that conftest.py",
    }.items():
        (tmp_path / name).write_text(shown[mark])
    (tmp_path / "example_dags").mkdir()
    shutil.copy(ROOT / "example_dags" / "cloudflare_queues_ack_retry.py", tmp_path / "example_dags")
    assert passed_in(tmp_path, monkeypatch) == [
        "test_orders_that_cannot_be_shipped_are_given_back",
        "test_what_is_not_acked_comes_back",
        "test_an_ack_survives_a_bad_moment_of_the_api",
        "test_an_order_that_is_retried_is_delivered_after_its_delay",
    ]


@pytest.mark.filterwarnings("default")
def test_the_test_of_the_production_dag_passes(tmp_path, monkeypatch):
    dag, test = [snippet.code for snippet in in_language("python") if snippet.page.name == "production-dag.md"]
    (tmp_path / "store_orders.py").write_text(for_this_airflow(dag))
    (tmp_path / "test_store_orders.py").write_text(test)
    monkeypatch.syspath_prepend(tmp_path)
    assert passed_in(tmp_path, monkeypatch) == [
        "test_an_order_that_is_delivered_twice_is_stored_once",
        "test_an_order_that_is_sent_twice_is_stored_once",
        "test_an_order_without_a_quantity_is_dead_lettered",
    ]


def passed_in(folder, monkeypatch):
    """Run the tests of a folder in this process, as another would spend ten seconds on Airflow; return what passed."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        monkeypatch.setenv(name, os.environ[name])  # and so back to it after what the page's conftest.py sets
    monkeypatch.chdir(folder)
    options = ["--rootdir", str(folder), "--import-mode=importlib", "-c", os.devnull, "-q", "-W", "ignore"]
    result = Results()
    assert pytest.main([*options, "-p", "no:cacheprovider", "-p", "no:xdist", str(folder)], plugins=[result]) == 0
    return result.passed


class Results:
    """A plugin that remembers what passed."""

    def __init__(self):
        self.passed = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            self.passed.append(report.nodeid.rpartition("::")[2])


def commands_of(snippet):
    """Return the words of each command of a snippet, without comments, variables and redirections."""
    if snippet.language == "console":
        lines = [line.removeprefix("$ ") for line in snippet.code.splitlines() if line.startswith("$ ")]
    else:
        lines = re.sub(r" \\\n *", " ", snippet.code)
        lines = re.sub(r"^export \w+='[^']*'.*$|^export .*$", "", lines, flags=re.MULTILINE).splitlines()
    for line in lines:
        for part in re.split(r"(?: 2>&1)? \| ", line):
            if words := shlex.split(part, comments=True):
                yield words


@pytest.fixture(scope="module")
def airflow_parser():
    from airflow.cli.cli_parser import get_parser

    return get_parser()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("snippet", in_language("bash", "console"), ids=str)
def test_commands_are_ones_that_exist(snippet, airflow_parser):
    if snippet.language == "bash":
        subprocess.run(["bash", "-n"], input=snippet.code, text=True, check=True)
    for words in commands_of(snippet):
        program, *arguments = words
        if program == "python" and arguments[0] == "-m":
            program, arguments = arguments[1], arguments[2:]
        if program == "python":
            assert (ROOT / arguments[0]).is_file(), words
        elif words[:2] == ["airflow", "cfqueues"] or program == "airflow_provider_cfqueues":
            parser = importlib.import_module("airflow_provider_cfqueues.__main__").parser()
            parser.parse_args(words[2:] if words[0] == "airflow" else arguments)
        elif program == "airflow_provider_cfqueues.emulator":
            checks = arguments[:1] == ["conformance"]
            module = importlib.import_module(f"{program}.{'conformance.command' if checks else '__main__'}")
            module.parser().parse_args(arguments[checks:])
        elif program == "airflow":
            airflow_parser.parse_args(arguments)
        elif program.startswith("./scripts/"):
            assert os.access(ROOT / program, os.X_OK), words
        else:
            assert program in {*NOT_OURS, "python3", "venv"}, words
        if program == "pip" and "airflow-provider-cfqueues" in (asked := arguments[-1]):
            extras = re.findall(r"\[(.*)\]", asked)
            assert not extras or f"\n{extras[0]} = [" in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "snippet",
    [each for each in in_language("bash") if re.search("export AIRFLOW_CONN_|--conn-uri", each.code)],
    ids=str,
)
def test_connections_can_be_used(snippet, monkeypatch):
    exports = "\n".join(re.findall(r"^export AIRFLOW_CONN_\w+='[^']*'", snippet.code, re.MULTILINE))
    for uri in re.findall(r"--conn-uri \\\n +('[^']*')", snippet.code):
        exports = f"export AIRFLOW_CONN_CLOUDFLARE_DEFAULT={uri}"
    done = subprocess.run(["bash", "-c", f"{exports}\nenv -0"], capture_output=True, text=True, check=True)
    told = dict(line.split("=", 1) for line in done.stdout.split("\0") if line.startswith("AIRFLOW_CONN_"))
    assert list(told) == ["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"]
    monkeypatch.setenv("AIRFLOW_CONN_CLOUDFLARE_DEFAULT", told["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"])
    hook = CloudflareQueuesHook()
    hook.get_conn()
    hook.close()


@pytest.mark.parametrize("snippet", in_language("json"), ids=str)
def test_json_is_json(snippet):
    json.loads(snippet.code)


def fixed_texts_of_logs():
    """Yield where the package warns, and the pieces of each text that are always the same."""
    for path in (ROOT / "airflow_provider_cfqueues").rglob("*.py"):
        if "emulator" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("warning", "error")
                and isinstance(node.args[0] if node.args else None, ast.Constant)
            ):
                pieces = [piece.strip() for piece in re.split(r"%[-.\d]*[a-z]|[.:;(]", node.args[0].value)]
                yield f"{path.name}:{node.lineno}", [piece for piece in pieces if len(piece) > 4]


def test_troubleshooting_explains_every_warning_and_every_error():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    errors = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE))
    assert errors
    assert {name for name in errors if f"`{name}" not in page} == set()
    texts = list(fixed_texts_of_logs())
    assert len(texts) > 20
    assert [each for each in texts if not any(piece in page for piece in each[1])] == []
