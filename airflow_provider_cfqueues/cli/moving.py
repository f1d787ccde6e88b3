"""The commands that move messages, which may take long and can be stopped."""

from __future__ import annotations

import logging
import re
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_cfqueues.arguments import parse_count, parse_visibility_timeout
from airflow_provider_cfqueues.cli.drain import Drain, open_sink
from airflow_provider_cfqueues.cli.screen import FAILED, INTERRUPTED, Screen, command, number
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.processing.redrive import Redrive
from airflow_provider_cfqueues.processing.redrive_options import RedriveOptions

_ID = re.compile(r"[0-9a-f]{32}")


def find_queue(hook: CloudflareQueuesHook, queue: str) -> str:
    """
    Return the ID of a queue that was given by name or by ID.

    :param hook: the hook.
    :param queue: what was given.
    """
    return queue if _ID.fullmatch(queue) else hook.get_queue_id(queue)


@command
def drain(arguments: Namespace, screen: Screen) -> int:
    """Pull messages into a file, and ack what is written."""
    hook = CloudflareQueuesHook(arguments.conn_id)
    queue_id = find_queue(hook, arguments.queue)
    backlog = hook.get_metrics(queue_id).backlog_count
    limit = None if arguments.max is None else parse_count(arguments.max, "--max")
    total = backlog if limit is None else min(backlog, limit)
    with open_sink(arguments.output, screen.out) as sink:
        drained = Drain(hook, queue_id, sink, visibility_timeout=arguments.visibility_timeout)
        told = screen if sink.is_file else Screen(sys.stderr, as_json=screen.as_json)
        try:
            with (
                screen.progress(f"Draining {arguments.queue}", total, shown=sink.is_file) as advance,
                told_to_stop(screen) as stop,
            ):
                drained.run(limit, stop=stop, advance=advance)
        finally:
            told.result(drained.facts(), drained.summary(arguments.queue, arguments.output))
    if stop.is_set():
        return INTERRUPTED
    return FAILED if drained.unconfirmed else 0


@command
def redrive(arguments: Namespace, screen: Screen) -> int:
    """Move messages from a dead-letter queue back to a queue."""
    hook = CloudflareQueuesHook(arguments.conn_id)
    source_id, target_id = find_queue(hook, arguments.queue), find_queue(hook, arguments.target)
    limit = None if arguments.max is None else parse_count(arguments.max, "--max")
    options = RedriveOptions(
        match=arguments.match,
        unwrap=not arguments.as_is,
        messages_per_second=_positive(arguments.rate, "--rate"),
        max_messages=limit,
        idle_timeout=0,
        visibility_timeout=parse_visibility_timeout(arguments.visibility_timeout),
    )
    moving = Redrive(hook, source_id, target_id, options, log=logging.getLogger(__name__))
    backlog = hook.get_metrics(source_id).backlog_count
    total = backlog if limit is None else min(backlog, limit)
    try:
        with (
            screen.progress(f"Moving {arguments.queue} to {arguments.target}", total) as advance,
            told_to_stop(screen, moving.stop) as stop,
            _followed(lambda: moving.report.moved, advance),
        ):
            moving.run()
    finally:
        facts = moving.report.to_xcom()
        screen.result(facts, _what_was_moved(facts, arguments))
    if stop.is_set():
        return INTERRUPTED
    return FAILED if facts["unmovable"] or facts["unconfirmed"] else 0


def _positive(value: float | None, what: str) -> float | None:
    if value is not None and not value > 0:
        raise ValueError(f"{what} must be above 0, not {value:g}")
    return value


def _what_was_moved(facts: dict[str, Any], arguments: Namespace) -> str:
    parts = [f"Moved {number(facts['moved'])} messages of {arguments.queue} to {arguments.target}"]
    parts += [
        f"{number(facts[name])} {text}"
        for name, text in (
            ("unmatched", "did not match"),
            ("unmovable", "cannot be moved"),
            ("renewed", "sent anew to the same queue"),
            ("returned", "given back"),
            ("expired", "not sent before their leases ended"),
            ("unconfirmed", "not confirmed"),
        )
        if facts[name]
    ]
    return "\n".join([", ".join(parts), *(f"  {item['message_id']}: {item['reason']}" for item in facts["not_moved"])])


@contextmanager
def _followed(count: Callable[[], int], advance: Callable[[int], None]) -> Iterator[None]:
    """Move a bar beside work that counts for itself."""
    done = threading.Event()

    def follow() -> None:
        shown = 0
        while not done.wait(0.2):
            now = count()
            advance(now - shown)
            shown = now

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def told_to_stop(screen: Screen, also: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
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
