"""The supervisor of a task, asked by several threads at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_cfqueues._compat.supervisor import share_supervisor

task_runner = pytest.importorskip("airflow.sdk.execution_time.task_runner", reason="Airflow 2 has no supervisor")


class Supervisor:
    """Answers as that of Airflow 3.0 and 3.1 does: a second question during the first gets a wrong answer."""

    def __init__(self):
        self.asked = None

    def send(self, msg):
        self.asked = msg
        time.sleep(0.001)
        return self.asked


@pytest.fixture
def supervisor(monkeypatch):
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)


def test_threads_that_ask_at_once_each_get_their_own_answer(supervisor):
    shared = share_supervisor()
    start = threading.Barrier(8)

    def ask(number):
        start.wait()
        return task_runner.SUPERVISOR_COMMS.send(msg=number)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == list(range(8))
    assert shared.asked in range(8)


def test_a_supervisor_is_wrapped_once_and_one_with_a_lock_of_its_own_never(supervisor, monkeypatch):
    assert share_supervisor() is share_supervisor()
    locked = Supervisor()
    locked._thread_lock = threading.Lock()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", locked)
    assert share_supervisor() is locked


def test_there_is_none_outside_of_a_task():
    assert share_supervisor() is None
