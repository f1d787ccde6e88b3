"""What a task of Airflow 3 asks its supervisor, made safe for several threads."""

from __future__ import annotations

import threading
from typing import Any


class _OneAtATime:
    """A supervisor that is asked one thing at a time."""

    def __init__(self, supervisor: Any) -> None:
        self._supervisor = supervisor
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._supervisor, name)

    def send(self, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return self._supervisor.send(*args, **kwargs)


def share_supervisor() -> Any:
    """
    Return the supervisor of the task, safe for all threads from now on. None if no task of Airflow 3 runs here.

    A task and its supervisor have one socket. Airflow 3.0 and 3.1 do not lock it: of two threads that ask something at
    once, one may get the answer for the other. ``dag.test()`` has no lock on any version.
    """
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:  # Airflow 2
        return None
    supervisor: Any = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if supervisor is None or isinstance(supervisor, _OneAtATime) or hasattr(supervisor, "_thread_lock"):
        return supervisor
    task_runner.SUPERVISOR_COMMS = shared = _OneAtATime(supervisor)  # type: ignore[assignment]
    return shared
