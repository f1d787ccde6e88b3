"""scripts/chaos in short: the task is killed while requests fail, and every message is looked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parent.parent.parent / "scripts" / "chaos.py"


@pytest.fixture(scope="module")
def chaos(tmp_path_factory):
    """What a short chaos printed, and the folder with what it left."""
    folder = tmp_path_factory.mktemp("chaos")
    command = [sys.executable, str(CHAOS), "--messages", "600", "--kills", "3", "--seed", "3", "--seconds", "90"]
    done = subprocess.run([*command, "--keep", str(folder)], stdout=subprocess.PIPE, text=True, check=False)
    return done, folder


def test_nothing_is_lost_or_acked_unhandled_while_requests_fail_and_the_task_is_killed(chaos):
    done, _ = chaos
    assert done.returncode == 0, done.stdout
    facts = json.loads(done.stdout.splitlines()[-1])
    assert (facts["killed"], facts["lost"], facts["acked but not handled"], facts["left in the queue"]) == (3, 0, 0, 0)
    assert sum(facts["faults"].values()) > 0
