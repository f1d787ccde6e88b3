"""Each recipe of the page for those who have no Airflow, run as it stands there."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from airflow_provider_cfqueues.emulator.__main__ import parser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "emulator-recipes.md").read_text(encoding="utf-8")
RECIPES = {
    heading: re.findall(r"^```\w+\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    for heading, text in re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}
QUIETLY = ("--no-fund", "--no-audit", "--ignore-scripts", "--prefer-offline")
NODE_PACKAGES = ("cloudflare@7.3.0", "wrangler@4.86.0")


def run(*command: str | Path, code: str | None = None, **options) -> str:
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def recipe(start):
    """Return the recipes under a heading, with the port of an emulator that was started as the page says."""

    def recipe(heading: str) -> list[str]:
        [command] = re.findall(r"^python cfqueues-emulator.pyz (--queue .*)$", RECIPES["One file"][0], re.MULTILINE)
        base_url = json.loads(start("--port", "0", *command.split()).first_line)["base_url"]
        port = re.search(r":(\d+)/", base_url)[1]
        return [code.replace(":8787", f":{port}") for code in RECIPES[heading]]

    return recipe


@pytest.fixture(scope="session")
def node_packages() -> Path:
    """Install what the page says to install with npm, once for all runs, or skip the test."""
    folder = ROOT / ".venv" / "node" / "-".join(NODE_PACKAGES)
    complete = folder / "complete"
    if not complete.exists() and not os.environ.get("CFQ_NPM"):
        pytest.skip(f"set CFQ_NPM=1 to install {' and '.join(NODE_PACKAGES)} with npm (300 MB, below .venv)")
    if not shutil.which("npm"):
        pytest.skip("this machine has no npm")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            run("npm", "install", "--prefix", folder, *QUIETLY, *NODE_PACKAGES)
            complete.touch()
    return folder


def test_curl(recipe):
    [code] = recipe("curl")
    answers = run("bash", "-eu", code=code)
    assert '"ackCount":1' in answers
    assert '"warnings":{}' in answers


def test_the_python_sdk(recipe):
    pytest.importorskip("cloudflare")
    [code] = recipe("Cloudflare's Python SDK")
    assert run(sys.executable, "-", code=code).splitlines() == ["1.0 {'order': 1}", "acked 1.0"]


def test_the_typescript_sdk(recipe, node_packages):
    [code] = recipe("Cloudflare's TypeScript SDK")
    shown = run("node", "--input-type=module", "-", code=code, cwd=node_packages)
    assert shown.splitlines() == ["1 { order: 1 }", "acked 1"]


def test_wrangler(recipe, node_packages, tmp_path):
    [code] = recipe("wrangler")
    environment = {**os.environ, "HOME": str(tmp_path), "WRANGLER_SEND_METRICS": "false"}
    code = code.replace("npx wrangler", "node_modules/.bin/wrangler")  # npx looks for it for half a second each time
    shown = run("bash", "-eu", code=code, cwd=node_packages, env=environment)
    for text in ("Created queue 'invoices'", "Added consumer", "HTTP Pull Consumer", "Paused", "Purged", "Deleted"):
        assert text in shown


def test_pytest_without_airflow(tmp_path):
    install, code = RECIPES["pytest"]
    [extra] = re.findall(r"^emulator = (.*)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {re.match(r"\w+", required)[0] for required in json.loads(extra)} < set(install.split())
    (tmp_path / "test_of_the_page.py").write_text(code)
    without = (
        "import sys; sys.modules['airflow'] = None; import pytest; sys.exit(pytest.main(['-q', '-c', '/dev/null']))"
    )
    assert "1 passed" in run(sys.executable, "-c", without, cwd=tmp_path)


def test_one_file(one_file, tmp_path):
    [code] = RECIPES["One file"]
    *_, download, command = code.replace("\\\n", "").splitlines()
    assert download.split()[-1].endswith(f"/{one_file.name}")
    parser().parse_args(command.split()[2:])


def test_the_container_gives_the_emulator_arguments_that_it_takes(one_file):
    image, compose = RECIPES["Container"]
    program, file, *arguments = json.loads(re.search(r"^ENTRYPOINT (.*)$", image, re.MULTILINE)[1])
    assert (program, Path(file).name) == ("python", one_file.name)
    service = yaml.safe_load(compose)["services"]["queues"]
    options = parser().parse_args([*arguments, *service["command"]])
    assert options.allow_host == ["queues"]
    assert service["ports"] == [f"127.0.0.1:{options.port}:{options.port}"]


def test_the_container_can_be_built(one_file, tmp_path):
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("this machine runs no Docker")
    shutil.copy(one_file, tmp_path)
    (tmp_path / "Dockerfile").write_text(RECIPES["Container"][0])
    run("docker", "build", "--quiet", tmp_path)


def test_github_actions(one_file, tmp_path):
    [code] = RECIPES["GitHub Actions"]
    [step] = yaml.safe_load(code)["steps"]
    script, downloads = re.subn(r"curl .*pyz\n", "", step["run"])
    assert downloads == 1
    shutil.copy(one_file, tmp_path)
    variables = tmp_path / "variables"
    environment = {**os.environ, "GITHUB_ENV": str(variables)}
    process = subprocess.Popen(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, start_new_session=True)
    try:
        assert process.wait() == 0
        given = dict(line.split("=", 1) for line in variables.read_text().splitlines())
        url = f"{given['CLOUDFLARE_BASE_URL']}/accounts/{given['CLOUDFLARE_ACCOUNT_ID']}/queues"
        header = f"Authorization: Bearer {given['CLOUDFLARE_API_TOKEN']}"
        [queue] = json.loads(run("curl", "--silent", "--header", header, url))["result"]
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the emulator, which the step left running
    assert (queue["queue_name"], queue["queue_id"]) == ("orders", given["ORDERS_QUEUE_ID"])


def test_every_recipe_of_the_page_is_run():
    source = Path(__file__).read_text(encoding="utf-8")
    assert RECIPES
    assert [heading for heading in RECIPES if f'"{heading}"' not in source] == []
