"""What a person or a program sees of a command: results on stdout, all else on stderr, one line for an error."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime, timezone
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from airflow_provider_cfqueues._compat import AirflowException
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
WIDTH_OF_A_FILE = 200
WRAPPED = ("body", "detail")
"""Columns that give way where a line is too narrow."""


class Screen:
    """
    Where a command shows what it has to say.

    :param out: stdout.
    :param as_json: show results as JSON.
    """

    def __init__(self, out: TextIO, *, as_json: bool) -> None:
        self.out = out
        self.as_json = as_json
        self._results = Console(file=out, highlight=False, width=None if out.isatty() else WIDTH_OF_A_FILE)
        self._notes = Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def table(self, rows: Sequence[dict[str, Any]], columns: Mapping[str, Callable[[Any], str]], *, empty: str) -> None:
        """
        Show rows, as a table or as JSON.

        :param rows: the rows.
        :param columns: keys of the rows that the table shows, each with how its value is written.
        :param empty: what to say where there are none.
        """
        if self.as_json:
            self.json(rows)
            return
        if not rows:
            self.note(empty)
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, write in columns.items():
            wraps = name in WRAPPED
            table.add_column(
                name.replace("_", " "),
                justify="right" if write is number else "left",
                no_wrap=not wraps,
                overflow="fold" if wraps else "ellipsis",
            )
        for row in rows:
            table.add_row(*(escape(write(row[name])) for name, write in columns.items()))
        self._results.print(table)

    def json(self, value: Any) -> None:
        """
        Print a value as JSON.

        :param value: the value.
        """
        print(json.dumps(value, indent=2, ensure_ascii=False), file=self.out, flush=True)

    def result(self, facts: dict[str, Any], text: str) -> None:
        """
        Say what a command did.

        :param facts: for programs.
        :param text: for people.
        """
        if self.as_json:
            self.json(facts)
        else:
            self._results.print(escape(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """
        Say something beside the result.

        :param text: one line.
        """
        self._notes.print(escape(text))

    @contextmanager
    def progress(self, doing: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
        """
        Show a bar while something long goes on, where somebody sits before it; give a function that moves it.

        :param doing: what goes on.
        :param total: how much there is to do.
        :param shown: whether to show it at all.
        """
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        to = Console(file=sys.stderr)
        hidden = not (shown and to.is_terminal)
        with Progress(*columns, TimeElapsedColumn(), console=to, transient=True, disable=hidden) as bar:
            task = bar.add_task(escape(doing), total=total)
            yield lambda count: bar.advance(task, count)


def command(work: Callable[[Namespace, Screen], int | None]) -> Callable[[Namespace], None]:
    """
    Make a function the work of a command: it ends by SystemExit, with a line on stderr where it failed.

    :param work: gets arguments and screen; returns the exit code, None is 0.
    """

    @functools.wraps(work)
    def run(arguments: Namespace) -> None:
        logging.getLogger("airflow").setLevel(logging.CRITICAL)  # not of the hooks, whose loggers are airflow.task's
        # Airflow asks its own database for connections only where it takes itself to be one of its servers.
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        try:
            with _results_alone() as out:
                code = work(arguments, Screen(out, as_json=arguments.json))
        except (CloudflareQueuesError, OSError) as error:
            code = _fail(error, FAILED)
        except AirflowException as error:  # the connection does not exist
            variable = f"AIRFLOW_CONN_{arguments.conn_id.upper()}"
            code = _fail(f"{error}. Add it under Admin → Connections, or export {variable}", FAILED)
        except (TypeError, ValueError) as error:
            code = _fail(error, MISUSED)
        except KeyboardInterrupt:
            code = _fail("interrupted", INTERRUPTED)
        sys.exit(code or 0)

    return run


def _fail(error: BaseException | str, code: int) -> int:
    text = str(error)
    if isinstance(error, CloudflareQueuesError) and error.progress is not None:
        progress, error.progress = error.progress, None
        done = len(progress.done)
        total = done + len(progress.unconfirmed) + len(progress.unknown) + len(progress.not_done)
        text = f"{error} {done} of {total} {progress.kind} were done before, {len(progress.unknown)} may be."
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code


@contextmanager
def _results_alone() -> Iterator[TextIO]:
    """Keep stdout for results: whatever else this process writes there, Airflow's log above all, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out, redirect_stdout(sys.stderr):
            yield out
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def plain(value: Any) -> str:
    """
    Write a value; one that is not known is a dash.

    :param value: the value.
    """
    return "-" if value is None else str(value)


def number(value: Any) -> str:
    """
    Write a number, in groups of three digits.

    :param value: the number, or None.
    """
    return "-" if value is None else f"{value:,}"


def age(value: Any) -> str:
    """
    Write how long ago a time was.

    :param value: an ISO 8601 time, or None.
    """
    if value is None:
        return "-"
    seconds = max(0, round((datetime.now(timezone.utc) - datetime.fromisoformat(value)).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def body(value: Any) -> str:
    """
    Write a message's body in one line, shortened.

    :param value: the decoded body.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:99]}…"
