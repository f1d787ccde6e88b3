"""What a person or a program sees of a command: results on stdout, all else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from airflow_provider_cfqueues.cli.formats import number, to_json, write_all
from airflow_provider_cfqueues.texts import printable

WIDTH_OF_A_FILE = 200
WRAPPED = ("body", "detail")
"""Columns that give way where a line is too narrow."""


class Screen:
    """
    Where a command shows what it has to say; control characters are escaped, as texts come from queues and the API.

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
            table.add_row(*(Text(printable(write(row[name]))) for name, write in columns.items()))
        self._print(table)

    def json(self, value: Any) -> None:
        """
        Print a value as JSON.

        :param value: the value.
        """
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
        """
        Say something beside the result.

        :param text: one line.
        """
        self._notes.print(Text(printable(text)))

    def on_stderr(self) -> Screen:
        """Return a screen whose results go to stderr, for a command that writes something else to stdout."""
        return Screen(sys.stderr, as_json=self.as_json)

    @contextmanager
    def progress(
        self, doing: str, total: int | None = None, *, limit: int | None = None, shown: bool = True
    ) -> Iterator[Callable[..., None]]:
        """
        Show a bar while something long goes on, where somebody sits before it; give a function that moves it.

        The function is told how much more is done, and how much there is to do in all (None = as before).

        :param doing: what goes on.
        :param total: how much there is to do; None = not known yet.
        :param limit: what of it is done at the most; None = all.
        :param shown: whether to show it at all.
        """
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        to = Console(file=sys.stderr)
        hidden = not (shown and to.is_terminal)
        with Progress(*columns, TimeElapsedColumn(), console=to, transient=True, disable=hidden) as bar:
            task = bar.add_task(printable(doing), total=total)

            def advance(count: int, total: int | None = None) -> None:
                most = total if total is None or limit is None else min(total, limit)
                bar.update(task, advance=count, total=most)

            yield advance

    def _print(self, what: Any, **options: Any) -> None:
        with self._results.capture() as written:  # rich has answers of its own to a pipe that is closed
            self._results.print(what, **options)
        self._write(written.get())

    def _write(self, text: str) -> None:
        write_all(self.out.fileno(), text.encode(), "stdout")
