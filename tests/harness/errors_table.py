"""Write ``docs/errors.md`` from the exception classes: which error means what, and what to do."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from airflow_provider_cfqueues import exceptions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
HEAD = """\
# Errors and what to do

Look up an error by its class: what it means, and what to do. To look up a text that you saw, use
[Troubleshooting](troubleshooting.md).

```python
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, RateLimitedError
```

`CloudflareQueuesError` is the root of all errors below. An error of a request says what failed, on which connection and
queue, what the API said, and what to do. Its attributes are `conn_id`, `queue`, `status`, `codes`, `messages`,
`pointers`, `documentation_urls`, `ray_id` and `retry_after`. If a call took several requests, `progress` lists what is
done, unknown and not done.

"""
TABLE = """
## What is tried again

- **Repeated** says whether the hook repeats the request by itself, for up to a minute. It repeats a send only if the
  API cannot have accepted the messages, or with `repeat_ambiguous=True`. It repeats a purge only if it cannot have
  started.
- **Another try** says whether another try of the task may work although nothing was changed. If not,
  [CloudflareQueuesRetryPolicy](operations.md#retry-by-what-failed-airflow-33) fails the task at once.

| error | repeated | another try |
|---|---|---|
"""


def kinds(root: type[exceptions.CloudflareQueuesError]) -> Iterator[type[exceptions.CloudflareQueuesError]]:
    """Yield the classes below one, in the order of the module."""
    for kind in root.__subclasses__():
        if kind is not exceptions.ApiError:
            yield kind
        yield from kinds(kind)


def render() -> str:
    """Return the page."""
    entries, rows = [], []
    for kind in kinds(exceptions.CloudflareQueuesError):
        meaning = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
        entries.append(f"- **`{kind.__name__}`**: {meaning}\n\n  *What to do:* {kind.remedy}")
        repeated = "yes" if kind.repeatable else "no"
        again = "yes" if kind.worth_another_try else "no"
        rows.append(f"| `{kind.__name__}` | {repeated} | {again} |")
    return HEAD + "\n".join(entries) + "\n" + TABLE + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
