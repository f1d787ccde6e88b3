"""Print as JSON what ``airflow providers`` lists by some of its commands, all in one process."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO

from airflow.cli import cli_parser


def listed(command: str) -> list[dict[str, str]]:
    arguments = cli_parser.get_parser().parse_args(["providers", command, "--output", "json"])
    with redirect_stdout(StringIO()) as output:
        arguments.func(arguments)
    return json.loads(output.getvalue().splitlines()[-1])


print(
    json.dumps({command: listed(command) for command in ("hooks", "behaviours", "widgets", "notifications", "links")})
)
