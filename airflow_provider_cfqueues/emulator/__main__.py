"""The command line: ``python -m airflow_provider_cfqueues.emulator``."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING

from airflow_provider_cfqueues import emulator
from airflow_provider_cfqueues.emulator.model import BrokerError
from airflow_provider_cfqueues.emulator.service import ACCOUNT_ID, API_TOKEN, JSON_ENCODINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

EPILOG = """\
Once it accepts connections it writes one line to stdout, a JSON object with base_url, account_id, api_token
and queues (NAME: ID). Logs go to stderr. Stop it with Ctrl-C or SIGTERM.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m airflow_provider_cfqueues.emulator",
        description="Run a local Cloudflare Queues that speaks the same HTTP.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (%(default)s); control paths need no credentials",
    )
    made.add_argument("--port", type=_port, default=8787, help="port to listen on (%(default)s); 0 picks a free one")
    made.add_argument(
        "--queue",
        action="append",
        metavar="NAME[=ID]",
        dest="queues",
        help="a queue with an http_pull consumer that exists from the start; repeatable (my-queue)",
    )
    made.add_argument("--state", metavar="FILE", help="keep queues and messages in this SQLite file (memory)")
    made.add_argument("--account-id", default=ACCOUNT_ID, metavar="A", help="the only account (%(default)s)")
    made.add_argument(
        "--api-token",
        default=API_TOKEN,
        metavar="T",
        help="the only token, and the only API key (%(default)s)",
    )
    made.add_argument(
        "--json-encoding",
        choices=JSON_ENCODINGS,
        default=JSON_ENCODINGS[0],
        help="how pulls show JSON bodies; the real API is seen doing both (%(default)s)",
    )
    made.add_argument(
        "--assume",
        action="append",
        type=_choice,
        default=[],
        metavar="NAME=CHOICE",
        help="what to do where nobody knows what Cloudflare does, such as lease-end=at-once; repeatable, see the docs",
    )
    made.add_argument(
        "--rate-limit",
        type=_limit,
        metavar="N",
        help="API requests in five minutes before all are refused for five; Cloudflare allows 1200 (no limit)",
    )
    made.add_argument(
        "--daily-operations",
        type=_limit,
        metavar="N",
        help="operations on messages a day, as billed; Cloudflare's free plan allows 10000 (no limit)",
    )
    return made


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _limit(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"a limit is a whole number from 1, not {text!r}")
    return int(text)


def _choice(text: str) -> tuple[str, str]:
    name, _, choice = text.partition("=")
    return name, choice


def _queues(values: Sequence[str] | None) -> dict[str, str | None] | None:
    if values is None:
        return None
    pairs = [value.partition("=") for value in values]
    return {name: queue_id if equals else None for name, equals, queue_id in pairs}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the emulator until a signal ends it.

    :param arguments: those of the command line.
    """
    made = parser()
    options = vars(made.parse_args(arguments))
    options["queues"] = _queues(options["queues"])
    options["assume"] = dict(options["assume"])
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    try:
        running = emulator.Emulator(**options)
        running.start()
    except (ValueError, BrokerError, OSError, ModuleNotFoundError) as error:
        made.error(str(error))
    facts = {name: getattr(running, name) for name in ("base_url", "account_id", "api_token", "queues")}
    print(json.dumps(facts), flush=True)
    told.wait()
    running.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
