"""
The options of the command line, declared once: for ``python -m airflow_provider_cfqueues.emulator`` and our own CLI.

Every ``airflow`` command loads this module, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys
from typing import Any

PROGRAM = "python -m airflow_provider_cfqueues.emulator"
if sys.argv[0].endswith(".pyz"):  # the file that scripts/emulator_file builds
    PROGRAM = f"python {os.path.basename(sys.argv[0])}"
ACCOUNT_ID = "0" * 31 + "1"
API_TOKEN = "emulator-token"  # noqa: S105 -- opens nothing but an emulator
JSON_ENCODINGS = ("base64", "plain")


def _check(is_right: bool, expected: str, text: str) -> None:
    if not is_right:
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{expected}, not {text!r}")


def _port(text: str) -> int:
    _check(text.isdigit() and int(text) <= 65535, "a port is a number from 0 to 65535", text)
    return int(text)


def _choice(text: str) -> str:
    _check("=" in text, "an assumption is given as NAME=CHOICE", text)
    return text


def _limit(text: str) -> int:
    _check(text.isdigit() and int(text) > 0, "a limit is a whole number from 1", text)
    return int(text)


OPTIONS: dict[str, dict[str, Any]] = {
    "--host": {
        "default": "127.0.0.1",
        "metavar": "HOST",
        "help": "address to listen on (%(default)s); control paths need no credentials",
    },
    "--port": {
        "type": _port,
        "default": 8787,
        "metavar": "PORT",
        "help": "port to listen on (%(default)s); 0 picks a free one",
    },
    "--allow-host": {
        "action": "append",
        "metavar": "NAME",
        "help": "a name that requests may give as Host, such as that of a container; repeatable (localhost, HOST and "
        "any address)",
    },
    "--queue": {
        "action": "append",
        "metavar": "NAME[=ID][,KEY=VALUE]",
        "help": "a queue with an http_pull consumer that exists from the start; repeatable (those in FILE, or else "
        "my-queue). KEY: dead-letter-queue, max-retries, retry-delay, batch-size, visibility-timeout; seconds",
    },
    "--state": {"metavar": "FILE", "help": "keep queues and messages in this SQLite file (memory)"},
    "--account-id": {"default": ACCOUNT_ID, "metavar": "A", "help": "the only account (%(default)s)"},
    "--api-token": {"default": API_TOKEN, "metavar": "T", "help": "the only token, and the only API key (%(default)s)"},
    "--json-encoding": {
        "choices": JSON_ENCODINGS,
        "default": JSON_ENCODINGS[0],
        "help": "how pulls show JSON bodies; the real API is seen doing both (%(default)s)",
    },
    "--assume": {
        "action": "append",
        "type": _choice,
        "metavar": "NAME=CHOICE",
        "help": "what Cloudflare is assumed to do where it is not known, such as lease-end=at-once; repeatable",
    },
    "--rate-limit": {
        "type": _limit,
        "metavar": "N",
        "help": "API requests in five minutes before all are refused for five; Cloudflare allows 1200 (no limit)",
    },
    "--daily-operations": {
        "type": _limit,
        "metavar": "N",
        "help": "operations on messages a day, as billed; Cloudflare's free plan allows 10000 (no limit)",
    },
}
"""Each flag with the keyword arguments of ``add_argument``. A flag takes a value, or is repeated."""
