"""A triggerer of ``scripts/e2e``: it can be killed, in whole or in half."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress

import psutil

from harness.local_airflow import Processes, airflow

HEARTBEAT_SECONDS = 1
DEAD_AFTER_SECONDS = 4
"""A triggerer that was killed keeps its watchers for so long."""
POLL_SECONDS = 0.02


class Triggerer:
    """
    A triggerer: one process that talks to the database, and its child that runs the triggers.

    :param processes: what starts it.
    :param name: of its log.
    :param ack_timeout: ``[triggerer] shared_stream_ack_timeout``.
    """

    def __init__(self, processes: Processes, name: str, ack_timeout: float) -> None:
        self.log = processes.home / f"{name}.log"
        self.ack_timeout = ack_timeout
        settings = {
            "AIRFLOW__TRIGGERER__SHARED_STREAM_ACK_TIMEOUT": str(ack_timeout),
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": str(HEARTBEAT_SECONDS),
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(DEAD_AFTER_SECONDS),
        }
        command = airflow("triggerer", "--skip-serve-logs")
        self.process = processes.start(name, command, env={**os.environ, **settings})

    @property
    def is_alive(self) -> bool:
        """Whether its first process runs."""
        return self.process.poll() is None

    def count(self, pattern: str) -> int:
        """Return how often its log has a pattern."""
        return len(re.findall(pattern, self.log.read_text(errors="replace")))

    def kill(self, victim: str = "both") -> None:
        """
        Kill it with -9.

        :param victim: ``both`` processes, as when a machine dies, only the ``supervisor``, or only the ``runner``; the
            other one is left to notice.
        """
        if victim == "both":
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return
        children = psutil.Process(self.process.pid).children(recursive=True)
        killed = children if victim == "runner" else [psutil.Process(self.process.pid)]
        for process in killed:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    def wait_until_gone(self) -> None:
        """Wait until the process that was left has ended too; one that does not is killed."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self.process.poll()
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(POLL_SECONDS)
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def pause(self) -> None:
        """Stop it without ending it, as a machine that swaps or a suspended one."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        os.killpg(self.process.pid, signal.SIGCONT)
