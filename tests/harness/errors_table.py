"""Write ``docs/errors.md`` from the exception classes: which error means what, and what to do."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from airflow_provider_cfqueues import exceptions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
HEAD = """\
# Errors and what to do

All errors of this provider are a `CloudflareQueuesError` from `airflow_provider_cfqueues.exceptions`. Each message
names what failed, the connection, the queue, what the API said, and the remedy below; the facts are attributes too:
`conn_id`, `queue`, `status`, `codes`, `messages`, `pointers`, `documentation_urls`, `ray_id`, `retry_after`, and, for a
call that takes several requests, `progress` (what is done, unknown and not done).

"Repeated" says whether the hook tries again by itself, for up to a minute. A `send` is repeated only where the API
cannot have accepted the messages, unless `repeat_ambiguous=True`; a `purge` only where it cannot have begun. "Another
try" says whether Airflow's next try of the task may work although nobody has mended anything; where not,
[CloudflareQueuesRetryPolicy](operations.md#retry-by-what-failed-airflow-33) fails the task at once.

| error | what it means | repeated | another try | what to do |
|---|---|---|---|---|
"""


def kinds(root: type[exceptions.CloudflareQueuesError]) -> Iterator[type[exceptions.CloudflareQueuesError]]:
    """Yield the classes below one, in the order of the module."""
    for kind in root.__subclasses__():
        if kind is not exceptions.ApiError:
            yield kind
        yield from kinds(kind)


def render() -> str:
    """Return the page."""
    rows = []
    for kind in kinds(exceptions.CloudflareQueuesError):
        meaning = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
        repeated = "yes" if kind.repeatable else "no"
        again = "yes" if kind.worth_another_try else "no"
        rows.append(f"| `{kind.__name__}` | {meaning} | {repeated} | {again} | {kind.remedy} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
