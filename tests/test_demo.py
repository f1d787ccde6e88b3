"""``./scripts/demo`` does what the README says: the same counts from the tasks and from the queue."""

from __future__ import annotations

import json

import pytest


def test_the_demo_ends_with_counts_that_agree(program):
    pytest.importorskip("airflow.dag_processing.dagbag", reason="the demo runs on Airflow 3.3")
    done = program("harness.demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"pulled": 25, "acked": 20, "retried": 5, "left": 5}
    assert "The API counted 20 acks and 5 retries" in done.stdout
