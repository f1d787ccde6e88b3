"""Real processes to kill."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest


@pytest.fixture
def worker():
    """Start a process that runs code as a task would; it is killed with -9, here or in the test."""
    started = []

    def start(code):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def until():
    """Wait for what another process does: a condition, asked again and again."""

    def until(condition):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return until
