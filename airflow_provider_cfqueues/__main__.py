"""``python -m airflow_provider_cfqueues``: the commands of ``airflow cfqueues``, for every Airflow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from airflow_provider_cfqueues import __version__
from airflow_provider_cfqueues.cli.definition import COMMANDS, HELP, arguments_of


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m airflow_provider_cfqueues", description=f"{HELP}.")
    made.add_argument("--version", action="version", version=__version__)
    commands = made.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.help, description=command.description)
        for argument in arguments_of(command):
            own.add_argument(*argument.flags, **argument.options)
        own.set_defaults(command=command)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run a command. It always ends with a SystemExit.

    :param arguments: the arguments of the command line.
    """
    try:
        given = parser().parse_args(arguments)
        module, _, function = given.command.function.rpartition(".")
        getattr(import_module(module), function)(given)
    except KeyboardInterrupt:  # before the command handles it itself
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
