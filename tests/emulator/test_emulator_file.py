"""The emulator as one file: built on the oldest Python, started on the oldest and the newest without any package."""

from __future__ import annotations

import json
import subprocess
import zipfile

import httpx
import pytest

from airflow_provider_cfqueues.emulator import Emulator


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_one_file_serves_queues_where_only_python_is_installed(one_file, interpreter, version):
    python = [interpreter(version), "-I", "-S"]  # without -S it would see what that Python has installed
    command = [*python, one_file, "--port", "0", "--queue", "orders,max-retries=5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            facts = json.loads(process.stdout.readline())
            queues = f"{facts['base_url']}/accounts/{facts['account_id']}/queues"
            with httpx.Client(headers={"Authorization": f"Bearer {facts['api_token']}"}) as http:
                [queue] = http.get(queues).json()["result"]
                messages = f"{queues}/{facts['queues']['orders']}/messages"
                http.post(messages, json={"body": {"order": 1}})
                [pulled] = http.post(f"{messages}/pull", json={}).json()["result"]["messages"]
        finally:
            process.terminate()
    assert queue["consumers"][0]["settings"]["max_retries"] == 5
    assert pulled["attempts"] == 1


def test_one_file_says_how_it_is_called(one_file, interpreter):
    done = subprocess.run([interpreter("3.10"), "-I", "-S", one_file, "--help"], capture_output=True, text=True)
    assert done.stdout.startswith("usage: python cfqueues-emulator.pyz [-h]")


def test_one_file_checks_endpoints_and_its_exit_code_says_whether_they_differ(one_file, interpreter):
    with Emulator(assume={"attempts": "max-retries"}) as cf:
        command = [interpreter("3.10"), "-I", "-S", one_file, "conformance", "--base-url", cf.base_url]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "differences" in done.stderr


def test_one_file_holds_the_license_of_all_that_is_in_it(one_file):
    names = zipfile.ZipFile(one_file).namelist()
    libraries = {name.partition(".dist-info/")[0] for name in names if ".dist-info/" in name}
    licensed = {name.partition(".dist-info/")[0] for name in names if ".dist-info/licenses/" in name}
    assert libraries == licensed
    assert {name.partition("-")[0] for name in libraries} >= {"starlette", "uvicorn", "h11"}
    assert "LICENSE" in names
