"""The command line: ``python -m airflow_provider_cfqueues.emulator``."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
from collections.abc import Sequence

from airflow_provider_cfqueues import emulator
from airflow_provider_cfqueues.emulator import start
from airflow_provider_cfqueues.emulator.model import BrokerError
from airflow_provider_cfqueues.emulator.options import OPTIONS, PROGRAM

EPILOG = """\
With "conformance" as the first argument it checks whether an endpoint behaves as this emulator: conformance --help

Once it accepts connections it writes one line to stdout, a JSON object with base_url, account_id, api_token
and queues (NAME: ID). Logs go to stderr. Stop it with Ctrl-C or SIGTERM.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Run a local Cloudflare Queues that speaks the same HTTP.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, options in OPTIONS.items():
        made.add_argument(flag, **options)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator until a signal ends it."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["conformance"]:
        from airflow_provider_cfqueues.emulator.conformance import command

        return command.main(given[1:])
    made = parser()
    options = vars(made.parse_args(given))
    queues = options.pop("queue")
    options["allow_hosts"] = options.pop("allow_host") or ()
    options["assume"] = dict(text.split("=", 1) for text in options["assume"] or ())
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    try:
        options["queues"] = None if queues is None else start.read(queues)
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
