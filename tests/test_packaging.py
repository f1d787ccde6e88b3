"""What users install: the wheel, the wheel that the sdist gives, and the lists that pin an Airflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTION = "airflow-provider-cfqueues"
PACKAGE = "airflow_provider_cfqueues"
README = (ROOT / "README.md").read_text()
AIRFLOW_VERSIONS = ["2.11", "3.0", "3.1", "3.2", "3.3"]
BUILD_INPUTS = [PACKAGE, "constraints", "docs", "example_dags", "scripts", "tests"]

# Run where nothing but the installed wheel and the standard library can be imported.
ASK = f"""
import json
from importlib import metadata

import {PACKAGE}

distribution = metadata.distribution("{DISTRIBUTION}")
[entry_point] = metadata.entry_points(group="apache_airflow_provider")
print(json.dumps({{
    "file": {PACKAGE}.__file__,
    "name": distribution.metadata["Name"],
    "version": distribution.version,
    "__version__": {PACKAGE}.__version__,
    "project_urls": dict(url.split(", ") for url in distribution.metadata.get_all("Project-URL")),
    "provider_info": entry_point.load()(),
}}))
"""


@dataclass(frozen=True, kw_only=True)
class Built:
    wheel: Path
    sdist: Path

    @property
    def files_of_wheel(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    @property
    def files_of_sdist(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            return {member.name.partition("/")[2] for member in archive if member.isfile()}


def run(*command: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments: str, cwd: Path) -> None:
    run("-m", "pip", "--isolated", "--quiet", *arguments, "--no-deps", "--no-index", cwd=cwd)


def files_under(folder: Path) -> set[str]:
    return {
        path.relative_to(folder.parent).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build in a copy, so that the checkout stays as it is."""
    tree = tmp_path_factory.mktemp("tree")
    for path in ROOT.iterdir():
        if path.is_dir() and path.name in BUILD_INPUTS:
            shutil.copytree(path, tree / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file() and path.name != ".git":
            shutil.copy(path, tree)
    run("-m", "hatchling", "build", cwd=tree)
    [wheel], [sdist] = tree.glob("dist/*.whl"), tree.glob("dist/*.tar.gz")
    return Built(wheel=wheel, sdist=sdist)


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel, or the wheel made from the sdist, was installed."""
    folder = tmp_path_factory.mktemp(request.param)
    wheel = built.wheel
    if request.param == "sdist":
        pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(built.sdist), cwd=folder)
        [wheel] = folder.glob("*.whl")
    target = folder / "site"
    pip("install", "--no-compile", "--target", str(target), str(wheel), cwd=folder)
    return target


def distribution_at(path: Path) -> metadata.Distribution:
    """Read the metadata of a folder of installed packages, or of a wheel."""
    [distribution] = metadata.distributions(name=DISTRIBUTION, path=[str(path)])
    return distribution


def test_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    outside = {name for name in built.files_of_wheel if ".dist-info/" not in name}

    assert outside == files_under(ROOT / PACKAGE)
    assert f"{PACKAGE}/py.typed" in outside
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in built.files_of_wheel)


def test_sdist_holds_what_a_packager_needs_to_test_it(built: Built) -> None:
    files = built.files_of_sdist

    assert {"pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "scripts/test"} <= files
    assert "docs/images/dag-graph.png" in files
    assert not [name for name in files if name.startswith("docs/_build")]
    for folder in BUILD_INPUTS:
        assert not (ROOT / folder).is_dir() or any(name.startswith(f"{folder}/") for name in files), folder


def test_installed_files_are_those_of_the_checkout(installed: Path) -> None:
    assert files_under(installed / PACKAGE) == files_under(ROOT / PACKAGE)


def test_every_entry_point_names_a_module_of_the_wheel(installed: Path) -> None:
    for entry_point in distribution_at(installed).entry_points:
        module = installed / entry_point.module.replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file(), entry_point


def test_installed_package_introduces_itself_to_airflow(installed: Path, tmp_path: Path) -> None:
    told = json.loads(run("-S", "-c", ASK, cwd=tmp_path, PYTHONPATH=str(installed)))

    assert Path(told["file"]).is_relative_to(installed)
    # Airflow refuses every provider of an installation in which these two differ.
    assert told["provider_info"]["package-name"] == canonicalize_name(told["name"]) == DISTRIBUTION
    assert told["version"] == told["__version__"]
    assert told["project_urls"]["Documentation"].startswith("https://")


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_airflow_is_told_of_every_module_that_has_a_class(kind: str) -> None:
    info = __import__(f"{PACKAGE}.provider_info", fromlist=["get_provider_info"]).get_provider_info()
    (row,) = info[kind]
    modules = {
        f"{PACKAGE}.{kind}.{path.stem}"
        for path in (ROOT / PACKAGE / kind).glob("*.py")
        if re.search(r"^class [A-Z]", path.read_text(), re.MULTILINE)
    }
    assert set(row["python-modules"]) == modules


def test_the_readme_on_pypi_has_no_link_into_the_checkout(built: Built) -> None:
    readme = distribution_at(built.wheel).read_text("METADATA")
    targets = re.findall(r"\]\(([^)]+)\)", readme)

    assert len(targets) > 20
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert {Path(target).name for target in targets if "/raw/main/docs/images/" in target} == {
        path.name for path in (ROOT / "docs" / "images").iterdir() if f"({path.relative_to(ROOT)})" in README
    }


def test_checkout_is_installed_as_the_version_it_says() -> None:
    package = __import__(PACKAGE)

    assert metadata.version(DISTRIBUTION) == package.__version__


def test_no_lock_file_with_registry_addresses_is_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert not [path for path in tracked.stdout.splitlines() if Path(path).name == "uv.lock"]


def test_there_is_one_list_for_each_airflow() -> None:
    assert {path.name for path in ROOT.glob("constraints/*")} == {
        f"airflow-{each}.txt" for each in [*AIRFLOW_VERSIONS, "3.3-celery"]
    }


@pytest.mark.parametrize("airflow", AIRFLOW_VERSIONS)
def test_list_pins_its_airflow_and_what_the_package_requires(airflow: str, built: Built) -> None:
    lines = (ROOT / "constraints" / f"airflow-{airflow}.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][a-z0-9.]*", line)] == []
    pins = dict(line.split("==") for line in lines)
    required = [Requirement(text) for text in distribution_at(built.wheel).requires or []]

    assert len(pins) == len(lines)
    assert pins["apache-airflow"].rpartition(".")[0] == airflow
    assert {"apache-airflow", "starlette", "uvicorn"} <= {each.name for each in required}
    for requirement in required:
        if airflow.startswith("2.") and requirement.name == "apache-airflow-providers-common-messaging":
            continue  # it is for Airflow 3
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
