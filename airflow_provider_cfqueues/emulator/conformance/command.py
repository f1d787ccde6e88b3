"""``conformance`` on the command line of the emulator."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_cfqueues.emulator.conformance import report
from airflow_provider_cfqueues.emulator.conformance.api import CLOUDFLARE, MAX_OPERATIONS, Api, NoOccasion, StopProbing
from airflow_provider_cfqueues.emulator.conformance.lab import PREFIX
from airflow_provider_cfqueues.emulator.conformance.run import FACTS, MAX_SECONDS, Moving, RunResult, Waiting, run
from airflow_provider_cfqueues.emulator.options import ACCOUNT_ID, API_TOKEN, PROGRAM

OPERATIONS = 530
"""What a run takes, as it is billed; a test holds it to what was counted."""
MINUTES = 5
"""What a run takes in real time: its longest wait, and a third of a second for each of its requests."""
DESCRIPTION = f"""\
Check whether an endpoint behaves as this emulator does, fact by fact, and report each difference.

Without --base-url or --cloudflare it checks this emulator itself, in the same process, and calls nothing else.
Token and account come from CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID; the token needs the permission to edit
Queues. The run creates queues whose names begin with {PREFIX}, deletes them at the end and touches no other queue.
"""
EPILOG = """\
Exit codes: 0, nothing differs; 1, something does; 2, the run could not start or was stopped.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the probes and write the report."""
    made = parser()
    options = made.parse_args(arguments)
    if options.report and options.report.suffix not in ("", ".md", ".json"):
        made.error(f"--report {options.report}: name a file that ends in .md; the JSON is written beside it")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it deletes the queues, too
    try:
        with ExitStack() as stack:
            try:
                api, moved = _endpoint(options, stack)
                _check(api)
            except (ValueError, OSError, HTTPException, ImportError, NoOccasion, StopProbing) as error:
                made.error(str(error))
            _announce(api, moved)
            result = run(api, Moving(api) if moved else Waiting(api), say=_say)
            _report(options, api, result)
    except KeyboardInterrupt:
        _say("Stopped.")
        return 2
    except (OSError, HTTPException) as error:
        _say(f"It could not go on: {type(error).__name__}: {error}")
        return 2
    return 1 if result.differences else 0


def _announce(api: Api, moved: bool) -> None:
    time = "a moment, since its clock is moved" if moved else f"{MINUTES} minutes (at most {MAX_SECONDS // 60})"
    _say(
        f"{len(FACTS)} facts about {api.host}: about {OPERATIONS} operations (at most {MAX_OPERATIONS:,}) and {time}."
        f" Queues are named {PREFIX}…; Ctrl-C deletes them and stops."
    )


def _report(options: argparse.Namespace, api: Api, result: RunResult) -> None:
    day = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    endpoint = api.host if options.base_url or options.cloudflare else "this emulator"
    texts = [api.hide(form(result, endpoint, day)) for form in (report.as_markdown, report.as_json)]
    if options.report is None:
        print(texts[0])
    else:
        for text, suffix in zip(texts, (".md", ".json"), strict=True):
            options.report.with_suffix(suffix).write_text(text, encoding="utf-8")
    _say(report.summary(result))
    if result.left:
        _say(f"Could not be deleted: {', '.join(result.left)}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog=f"{PROGRAM} conformance",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = made.add_mutually_exclusive_group()
    where.add_argument("--base-url", metavar="URL", help="the API to check, such as http://127.0.0.1:8787/client/v4")
    where.add_argument("--cloudflare", action="store_true", help=f"check Cloudflare itself: --base-url {CLOUDFLARE}")
    made.add_argument("--account-id", metavar="A", help="the account (CLOUDFLARE_ACCOUNT_ID)")
    made.add_argument(
        "--report", metavar="FILE", type=Path, help="write FILE.md and FILE.json instead of Markdown to stdout"
    )
    return made


def _endpoint(options: argparse.Namespace, stack: ExitStack) -> tuple[Api, bool]:
    """Return the API to check, and whether its clock can be moved."""
    base_url = CLOUDFLARE if options.cloudflare else options.base_url
    if base_url is None:
        from airflow_provider_cfqueues.emulator import Emulator

        cf = stack.enter_context(Emulator())
        return Api(cf.base_url, cf.account_id, cf.api_token), True
    parts = urlsplit(base_url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or parts.scheme not in ("http", "https") or (parts.scheme == "http" and not local):
        raise ValueError(f"--base-url {base_url}: give an https address, or an http address of this machine")
    account_id = options.account_id or os.environ.get("CLOUDFLARE_ACCOUNT_ID") or (ACCOUNT_ID if local else None)
    token = os.environ.get("CLOUDFLARE_API_TOKEN") or (API_TOKEN if local else None)
    if not account_id or not token:
        raise ValueError("set CLOUDFLARE_API_TOKEN, and CLOUDFLARE_ACCOUNT_ID or --account-id")
    if not (re.fullmatch(r"[!-~]+", token) and re.fullmatch(r"[\w-]{1,32}", account_id, re.ASCII)):
        # Not shown: http.client would show all of it.
        raise ValueError(
            "CLOUDFLARE_API_TOKEN or the account ID has a character that is not allowed, such as a line break"
        )
    api = Api(base_url, account_id, token)
    stack.callback(api.close)
    return api, local and "now_ms" in api.call("GET", "/_emulator/state", headers={}, raw=True).body


def _check(api: Api) -> None:
    """See to it that the endpoint lets us in, before anything is created."""
    answer = api.call("GET", "/queues?per_page=1")
    if not answer.ok:
        raise ValueError(
            f"{api.host} refuses to list the queues of the account ({answer}): check that the token is allowed to edit "
            "Queues, and that the account ID is the token's account"
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
