"""Look at messages without leasing them."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from airflow_provider_cfqueues.cli.formats import age, body, plain
from airflow_provider_cfqueues.cli.lines import to_plain
from airflow_provider_cfqueues.cli.running import command, find_queue
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.engines.copies import is_wrapped
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.texts import counted


@command
def peek(arguments: Namespace, hook: CloudflareQueuesHook, screen: Screen) -> None:
    """Look at messages without leasing them."""
    queue_id = find_queue(hook, arguments.queue)
    messages = hook.peek(queue_id, max_messages=arguments.max_messages)
    rows = [to_plain(message) for message in messages]
    columns = {"id": plain, "attempts": plain, "age": age, "content_type": plain, "body": body}
    if not screen.as_json:
        rows = [{**row, "age": row["timestamp"], "body": row.get("body_error", row["body"])} for row in rows]
        if any(is_wrapped(row["body"]) for row in rows):
            names = {queue.queue_id: queue.queue_name for queue in hook.list_queues()}
            rows = [_unwrap(row, names) for row in rows]
            columns = {"id": plain, "age": age, "rejected_from": plain, "reason": plain, "body": body}
    empty = "" if rows or screen.as_json else _explain_nothing(hook, queue_id, arguments.queue)
    screen.table(rows, columns, empty=empty)


def _unwrap(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Show a copy of a rejected message as the message that it was, with where it is from and why it was rejected."""
    copy = row["body"]
    if not is_wrapped(copy):
        return {**row, "rejected_from": None, "reason": None}
    source = names.get(copy["queue_id"], copy["queue_id"])
    return {**row, "rejected_from": source, "reason": copy["reason"], "body": copy["body"]}


def _explain_nothing(hook: CloudflareQueuesHook, queue_id: str, queue: str) -> str:
    """Name the backlog: it looks lost if nothing is shown. Cloudflare does not say which messages a peek leaves out."""
    backlog = hook.get_metrics(queue_id).backlog_count
    there = f"{counted(backlog, 'message')}, which may be leased or delayed" if backlog else "0"
    return f"No messages to show. The backlog of {queue} is {there}"
