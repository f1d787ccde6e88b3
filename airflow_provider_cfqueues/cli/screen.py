"""What a person or a program sees of a command: results on stdout, all else on stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from airflow_provider_cfqueues.cli.formats import number, to_json, write_all
from airflow_provider_cfqueues.texts import printable

WIDTH_OF_A_LOG = 120
"""How wide a table is where no terminal is: in a file, or in the log of a scheduler."""
FOLDED = ("queue", "id", "reason", "body", "detail")
"""Columns that are folded if a line is too narrow: a name or an ID that is cut off is of no use."""


class Screen:
    """Where a command shows what it has to say. Control characters are escaped: texts come from queues and the API."""

    def __init__(self, out: TextIO, *, as_json: bool) -> None:
        self.out = out
        self.as_json = as_json
        self._results = Console(file=out, highlight=False, width=_width())
        self._notes = Console(file=sys.stderr, highlight=False)

    def table(self, rows: Sequence[dict[str, Any]], columns: Mapping[str, Callable[[Any], str]], *, empty: str) -> None:
        """
        Show rows, as a table or as JSON.

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
            table.add_column(
                name.replace("_", " "),
                justify="right" if write is number else "left",
                no_wrap=name not in FOLDED,
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(Text(printable(write(row[name]))) for name, write in columns.items()))
        self._print(table)

    def json(self, value: Any) -> None:
        """Print a value as JSON."""
        try:
            text = to_json(value, indent=2)
        except RecursionError:  # the way that indents goes less deep
            text = to_json(value)
        self._write(f"{text}\n")

    def result(self, facts: dict[str, Any], text: str) -> None:
        """
        Say what a command did.

        :param facts: for programs.
        :param text: for people.
        """
        if self.as_json:
            self.json(facts)
        else:
            self._print(Text("\n".join(map(printable, text.split("\n")))), soft_wrap=True)

    def note(self, text: str) -> None:
        """Say something beside the result."""
        self._notes.print(Text(printable(text)), soft_wrap=True)

    def on_stderr(self) -> Screen:
        """Return a screen whose results go to stderr, for a command that writes something else to stdout."""
        return Screen(sys.stderr, as_json=self.as_json)

    @contextmanager
    def progress(
        self, doing: str, total: int | None = None, *, limit: int | None = None, shown: bool = True
    ) -> Iterator[Callable[..., None]]:
        """
        Show a bar on a terminal while something takes long; give a function that moves it.

        The function is told how much more is done, and how much there is to do in all (None = as before). Notes and log
        lines appear above the bar.

        :param total: how much there is to do; None = not known yet.
        :param limit: how much of it is done at the most; None = all.
        :param shown: whether to show a bar at all.
        """
        if not (shown and self._notes.is_terminal):
            yield lambda *_: None
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with (
            os.fdopen(os.dup(2), "w", encoding="utf-8") as terminal,
            Progress(*columns, TimeElapsedColumn(), console=Console(file=terminal), transient=True) as bar,
            _above(bar),
        ):
            task = bar.add_task(printable(doing), total=total)

            def advance(count: int, total: int | None = None) -> None:
                most = total if total is None or limit is None else min(total, limit)
                bar.update(task, advance=count, total=most)

            yield advance

    def _print(self, what: Any, **options: Any) -> None:
        with self._results.capture() as written:  # rich would end the process if the pipe is closed
            self._results.print(what, **options)
        self._write("".join(f"{line.rstrip()}\n" for line in written.get().splitlines()))

    def _write(self, text: str) -> None:
        write_all(self.out.fileno(), text.encode(), "stdout")


@contextmanager
def _above(bar: Progress) -> Iterator[None]:
    """
    Print above a bar what this process writes to stdout and stderr, such as log lines, instead of into it.

    Loggers keep the streams that they found when they were set up, so their file descriptors are replaced.
    """
    reader, writer = os.pipe()
    kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}

    def show() -> None:
        with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                bar.console.print(Text.from_ansi(line.rstrip("\n")), soft_wrap=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    for descriptor in kept:
        os.dup2(writer, descriptor)
    os.close(writer)
    try:
        yield
    finally:
        for descriptor, before in kept.items():
            os.dup2(before, descriptor)
            os.close(before)
        thread.join(1)  # the pipe has ended, unless a child process still holds it


def _width() -> int | None:
    """Return how wide a table may be; None = as wide as the terminal, also behind a pipe to ``less``."""
    has_terminal = "COLUMNS" in os.environ or any(os.isatty(descriptor) for descriptor in (0, 1, 2))
    return None if has_terminal else WIDTH_OF_A_LOG
