"""The command that runs the emulator, in a process without the client's code."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from airflow_provider_cfqueues.emulator.options import OPTIONS


def emulator(arguments: Namespace) -> None:
    """Run a local Cloudflare Queues."""
    program = [sys.executable, "-m", "airflow_provider_cfqueues.emulator"]
    for flag in OPTIONS:
        value = getattr(arguments, flag.removeprefix("--").replace("-", "_"))
        values = value if isinstance(value, list) else [value]
        program += [f"{flag}={each}" for each in values if each is not None]
    os.execv(sys.executable, program)  # noqa: S606 -- ours
