"""What the commands do, each on the hook of the connection given."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from airflow_provider_cfqueues.cli.moving import drain, find_queue, redrive
from airflow_provider_cfqueues.cli.ping import check_connection
from airflow_provider_cfqueues.cli.screen import FAILED, Screen, age, body, command, number, plain
from airflow_provider_cfqueues.exceptions import NotFoundError, PermissionDeniedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import OutgoingMessage, Queue

__all__ = ["drain", "peek", "ping", "queues", "redrive", "send"]

REQUESTS_AT_ONCE = 8


@command
def ping(arguments: Namespace, screen: Screen) -> int:
    """Say whether a connection is good, and what it may do."""
    checks = check_connection(CloudflareQueuesHook(arguments.conn_id), arguments.queue)
    facts = [{"check": check.name, "ok": check.ok, "detail": check.detail} for check in checks]
    columns: dict[str, Callable[[Any], str]] = {
        "ok": lambda ok: {True: "yes", False: "NO", None: "-"}[ok],
        "check": plain,
        "detail": plain,
    }
    screen.table(facts, columns, empty="")
    return FAILED if any(check.ok is False for check in checks) else 0


@command
def queues(arguments: Namespace, screen: Screen) -> None:
    """List the queues with their backlog."""
    hook = CloudflareQueuesHook(arguments.conn_id)
    found = hook.list_queues()
    for name in arguments.queue:
        find_queue(hook, name)
    wanted = [q for q in found if not arguments.queue or {q.queue_name, q.queue_id} & {*arguments.queue}]
    with screen.progress("Reading metrics", len(wanted)) as advance:
        rows = asyncio.run(_backlogs(hook, wanted, advance))
    columns = {"queue": plain, "backlog": number, "bytes": number, "oldest": age, "consumers": plain, "state": plain}
    screen.table(rows, {**columns, "id": plain}, empty="The account has no queues")


async def _backlogs(
    hook: CloudflareQueuesHook, wanted: list[Queue], advance: Callable[[int], None]
) -> list[dict[str, Any]]:
    limit = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def row(queue: Queue) -> dict[str, Any]:
        async with limit:
            try:
                metrics = await hook.aget_metrics(queue.queue_id)
            except (PermissionDeniedError, NotFoundError):  # deleted since it was listed
                metrics = None
        advance(1)
        oldest = metrics and metrics.oldest_message_timestamp
        return {
            "queue": queue.queue_name,
            "backlog": metrics and metrics.backlog_count,
            "bytes": metrics and metrics.backlog_bytes,
            "oldest": oldest.isoformat() if oldest else None,
            "consumers": queue.consumers_total_count,
            "state": "paused" if queue.settings.get("delivery_paused") else "active",
            "id": queue.queue_id,
        }

    try:
        return await asyncio.gather(*map(row, wanted))
    finally:
        await hook.aclose()


@command
def peek(arguments: Namespace, screen: Screen) -> None:
    """Look at messages without leasing them."""
    hook = CloudflareQueuesHook(arguments.conn_id)
    messages = hook.peek(find_queue(hook, arguments.queue), max_messages=arguments.max)
    rows = [{**message.to_xcom(), "age": message.timestamp and message.timestamp.isoformat()} for message in messages]
    columns = {"id": plain, "attempts": plain, "age": age, "content_type": plain, "body": body}
    if screen.as_json:
        rows = [message.to_xcom() for message in messages]
    screen.table(rows, columns, empty=f"Queue {arguments.queue} shows no message")


@command
def send(arguments: Namespace, screen: Screen) -> None:
    """Send messages given as arguments, or the lines of a file or of stdin."""
    messages = [_outgoing(text, where, arguments) for where, text in enumerate(_texts(arguments), 1) if text.strip()]
    hook = CloudflareQueuesHook(arguments.conn_id)
    queue_id = find_queue(hook, arguments.queue)
    sent = hook.send(queue_id, messages) if messages else None
    facts = {
        "queue_id": queue_id,
        "sent_count": sent.sent_count if sent else 0,
        "backlog_count": sent.backlog.backlog_count if sent and sent.backlog else None,
    }
    backlog = "" if facts["backlog_count"] is None else f"; its backlog is {number(facts['backlog_count'])}"
    screen.result(facts, f"Sent {number(facts['sent_count'])} messages to {arguments.queue}{backlog}")


def _texts(arguments: Namespace) -> list[str]:
    if arguments.message:
        if arguments.file:
            raise ValueError("give messages as arguments or as --file, not both")
        return list(arguments.message)
    if arguments.file in (None, "-"):
        return sys.stdin.read().splitlines()
    with open(arguments.file, encoding="utf-8") as file:
        return file.read().splitlines()


def _outgoing(text: str, where: int, arguments: Namespace) -> OutgoingMessage:
    value: Any = text
    if arguments.drained:
        try:
            value = json.loads(text)["body"]
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"line {where} is no line that drain wrote: it has no body") from None
    elif not arguments.text and text.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ValueError(f"message {where} begins as JSON, but is none: {error}. --text sends it as text") from None
    return OutgoingMessage(body=value, delay_seconds=arguments.delay)
