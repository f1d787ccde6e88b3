"""Messages to send and to process, and real processes to kill."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest
from jumping_time import JumpingLoop

from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator


@pytest.fixture
def send(cf):
    """Send bodies to the queue ``orders``."""
    return lambda *bodies: CloudflareQueuesHook().send(cf.queues["orders"], list(bodies))


@pytest.fixture
def process(cf):
    """Process the queue ``orders`` until it is empty; return the report."""

    def process(handler, context=None, **arguments):
        arguments = {"idle_timeout": 0, "settle_interval": 0.05, "delay_seconds": 60, **arguments}
        operator = QueueProcessOperator(task_id="process", queue_name="orders", handler=handler, **arguments)
        return operator.execute({} if context is None else context)

    return process


@pytest.fixture
def jumping_time():
    """Waits of a run take no time."""

    class Policy(asyncio.DefaultEventLoopPolicy):
        _loop_factory = JumpingLoop

    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(Policy())
    yield
    asyncio.set_event_loop_policy(before)


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
