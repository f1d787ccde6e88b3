"""The command that runs the emulator, as a process that has nothing of the client in it."""

from __future__ import annotations

import os
import sys
from argparse import Namespace


def emulator(arguments: Namespace) -> None:
    """Run a local Cloudflare Queues."""
    given = []
    for name in ("host", "port", "state", "account_id", "api_token"):
        if getattr(arguments, name) is not None:
            given += [f"--{name.replace('_', '-')}", getattr(arguments, name)]
    for queue in arguments.queue or ():
        given += ["--queue", queue]
    os.execv(sys.executable, [sys.executable, "-m", "airflow_provider_cfqueues.emulator", *given])  # noqa: S606 - ours
