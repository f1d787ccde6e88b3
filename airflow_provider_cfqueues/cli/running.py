"""What every command needs: where its output goes, how it is told to stop, how it ends, and which queue is meant."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO

from airflow_provider_cfqueues._compat import AirflowException
from airflow_provider_cfqueues.cli.definition import option_of
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.client.repeating import RepeatPolicy
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, NotFoundError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Queue
from airflow_provider_cfqueues.texts import printable

FAILED, MISUSED, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141
"""Exit codes; the last two are what shells show for SIGINT and SIGPIPE."""
ONE_QUICK_REPEAT = RepeatPolicy(unreached_seconds=1, jitter=0.25)
"""
A command says soon if nothing listens; once it was answered, it is as patient as a task. The first wait is 0.5 to
0.75 s, the second one would end too late. Somebody waits, and can press again.
"""


def command(work: Callable[[Namespace, CloudflareQueuesHook, Screen], int | None]) -> Callable[[Namespace], None]:
    """
    Make a function the work of a command. It ends by SystemExit; if it failed, with a line on stderr.

    :param work: gets arguments, hook and screen; returns the exit code, None is 0.
    """

    @functools.wraps(work)
    def run(arguments: Namespace) -> None:
        logging.getLogger("airflow").setLevel(logging.CRITICAL)  # not of the hooks, whose loggers are airflow.task's
        # Airflow asks its own database for connections only where it takes itself to be one of its servers.
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        try:
            with _results_alone() as out:
                hook = CloudflareQueuesHook(arguments.conn_id)
                hook.repeat_policy = ONE_QUICK_REPEAT
                code = work(arguments, hook, Screen(out, as_json=arguments.json))
        except BrokenPipeError:  # the reader of the results has closed the pipe
            code = PIPE_CLOSED
        except (CloudflareQueuesError, OSError) as error:
            code = _fail(describe(error), FAILED)
        except AirflowException as error:  # the connection does not exist
            variable = f"AIRFLOW_CONN_{arguments.conn_id.upper()}"
            remedy = f"Add it under Admin → Connections, or export {variable}"
            if variable in os.environ:
                remedy = f"{variable} is set, but is neither a URI nor valid JSON: check its quotes and braces"
            code = _fail(f"{error}. {remedy}", FAILED)
        except (TypeError, ValueError, ImportError) as error:  # the last: an extra is not installed
            argument, space, rest = str(error).partition(" ")
            failed = FAILED if isinstance(error, ImportError) else MISUSED
            code = _fail(f"{option_of(work.__name__, argument)}{space}{rest}", failed)
        except KeyboardInterrupt:
            code = _fail("interrupted", INTERRUPTED)
        sys.exit(code or 0)

    return run


def describe(error: Exception) -> str:
    """Return an error's text. If the call took several requests, it counts the items that are done and not done."""
    if not isinstance(error, CloudflareQueuesError) or error.progress is None:
        return str(error)
    parts = {"done": error.progress.done, **error.progress.open}
    told = "; ".join(f"{label}: {len(items)}" for label, items in parts.items() if items)
    return f"{error.brief()} Of {sum(map(len, parts.values()))} {error.progress.kind}: {told}."


def _fail(text: str, code: int) -> int:
    print(f"error: {printable(' '.join(text.split()))}", file=sys.stderr)
    return code


@contextmanager
def _results_alone() -> Iterator[TextIO]:
    """Keep stdout for results. Anything else that is written there, such as Airflow's log, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out, redirect_stdout(sys.stderr):
            yield out
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def told_to_stop(screen: Screen, also: Callable[[], None]) -> Iterator[threading.Event]:
    """
    Set an event at the first Ctrl-C or SIGTERM; the second does what it always does.

    :param screen: where to say so.
    :param also: what else to do then.
    """
    stop = threading.Event()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    def handle(*_: Any) -> None:
        stop.set()
        also()
        restore()
        screen.note("Stopping: settling what is under way (again to stop at once)")

    for each in before:
        signal.signal(each, handle)
    try:
        yield stop
    finally:
        restore()


def pick(queues: Sequence[Queue], given: str) -> Queue | None:
    """Return the queue with this name. If there is none, return the queue with this ID, in upper or lower case."""
    names = [queue for queue in queues if queue.queue_name == given]
    exact = [queue for queue in queues if queue.queue_id == given]
    alike = [queue for queue in queues if queue.queue_id.lower() == given.lower()]
    return next(iter(names + exact + alike), None)


def find_queue(hook: CloudflareQueuesHook, given: str) -> str:
    """
    Return the ID of a queue that was given by name or by ID; the name goes first.

    :raises NotFoundError: the account has no such queue; the message names similar ones.
    """
    try:
        return hook.get_queue_id(given, what="the name or ID of the queue")
    except NotFoundError:
        if found := pick(hook.list_queues(), given):
            return found.queue_id
        raise


def count_backlog(hook: CloudflareQueuesHook, queue_id: str) -> int | None:
    """Return how many messages a queue has, leased and delayed ones included; None if the API does not say."""
    with suppress(CloudflareQueuesError):
        return hook.get_metrics(queue_id).backlog_count
    return None
