"""Send messages given as arguments, or the lines of a file or of stdin."""

from __future__ import annotations

import codecs
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_cfqueues.arguments import parse_delay
from airflow_provider_cfqueues.cli.formats import number
from airflow_provider_cfqueues.cli.lines import from_line
from airflow_provider_cfqueues.cli.running import command, find_queue
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.engines.copies import copy
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Message, OutgoingMessage
from airflow_provider_cfqueues.texts import counted


@command
def send(arguments: Namespace, hook: CloudflareQueuesHook, screen: Screen) -> None:
    """Send messages given as arguments, or the lines of a file or of stdin."""
    if arguments.drained and arguments.text:
        raise ValueError("give --drained (lines that drain wrote) or --text (each line is a text), not both")
    parse_delay(arguments.delay, "--delay")
    messages = [_outgoing(where, text, arguments) for where, text in _texts(arguments)]
    queue_id = find_queue(hook, arguments.queue)
    sent = hook.send(queue_id, messages)
    waiting = sent.backlog.backlog_count if sent.backlog else None
    backlog = "" if waiting is None else f"; its backlog is {number(waiting)}"
    facts = {"queue_id": queue_id, "sent_count": sent.sent_count, "backlog_count": waiting}
    screen.result(facts, f"Sent {counted(sent.sent_count, 'message')} to {arguments.queue}{backlog}")


def _texts(arguments: Namespace) -> Iterator[tuple[str, str]]:
    """Return what to send, each with where it stands."""
    if arguments.message and arguments.file:
        raise ValueError("give messages as arguments or as --file, not both")
    if arguments.message:
        for position, text in enumerate(arguments.message, 1):
            yield f"message {position}", text
        return
    stdin = arguments.file in (None, "-")
    data = sys.stdin.buffer.read() if stdin else Path(arguments.file).read_bytes()
    data = data.removeprefix(codecs.BOM_UTF8)
    lines = data.split(b"\n")  # str.splitlines would also split inside of messages, at a form feed for one
    if not lines[-1]:
        lines.pop()
    for position, line in enumerate(lines, 1):
        where = f"line {position}"
        try:
            yield where, line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{where} is not UTF-8: {error}. Nothing was sent") from None


def _outgoing(where: str, text: str, arguments: Namespace) -> OutgoingMessage:
    try:
        message = from_line(text) if arguments.drained else _message(text, as_text=arguments.text)
        return msgspec.structs.replace(copy(message, unwrapped=False), delay_seconds=arguments.delay)
    except ValueError as error:
        raise ValueError(f"{where}: {error}. Nothing was sent") from None


def _message(text: str, *, as_text: bool) -> Message:
    body: Any = text
    if not as_text and not text:
        raise ValueError("this message is empty. To send an empty text, give --text")
    is_json = not as_text and text.lstrip().startswith(("{", "["))
    if is_json:
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"this message looks like JSON, but is not: {error}. To send it as text, give --text"
            ) from None
    return Message(id="", lease_id="", body=body, content_type="json" if is_json else "text")
