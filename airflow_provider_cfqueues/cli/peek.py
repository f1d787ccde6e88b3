"""Look at messages without leasing them."""

from __future__ import annotations

from argparse import Namespace

from airflow_provider_cfqueues.cli.formats import age, body, plain
from airflow_provider_cfqueues.cli.lines import to_plain
from airflow_provider_cfqueues.cli.lookup import find_queue
from airflow_provider_cfqueues.cli.running import command
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.texts import counted


@command
def peek(arguments: Namespace, screen: Screen) -> None:
    """Look at messages without leasing them."""
    hook = CloudflareQueuesHook(arguments.conn_id)
    queue_id = find_queue(hook, arguments.queue)
    messages = hook.peek(queue_id, max_messages=arguments.max_messages)
    rows = [to_plain(message) for message in messages]
    if not screen.as_json:
        rows = [{**row, "age": row["timestamp"], "body": row.get("body_error", row["body"])} for row in rows]
    columns = {"id": plain, "attempts": plain, "age": age, "content_type": plain, "body": body}
    empty = "" if rows or screen.as_json else _explain_nothing(hook, queue_id, arguments.queue)
    screen.table(rows, columns, empty=empty)


def _explain_nothing(hook: CloudflareQueuesHook, queue_id: str, queue: str) -> str:
    """Name the backlog: it looks lost if nothing is shown. Cloudflare does not say which messages a peek leaves out."""
    backlog = hook.get_metrics(queue_id).backlog_count
    there = f"{counted(backlog, 'message')}, which may be leased or delayed" if backlog else "0"
    return f"No messages to show. The backlog of {queue} is {there}"
