"""Look at messages without leasing them."""

from __future__ import annotations

from argparse import Namespace

from airflow_provider_cfqueues.cli.formats import age, body, plain
from airflow_provider_cfqueues.cli.lines import to_plain
from airflow_provider_cfqueues.cli.lookup import find_queue
from airflow_provider_cfqueues.cli.running import command
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook


@command
def peek(arguments: Namespace, screen: Screen) -> None:
    """Look at messages without leasing them."""
    hook = CloudflareQueuesHook(arguments.conn_id)
    messages = hook.peek(find_queue(hook, arguments.queue), max_messages=arguments.max_messages)
    rows = [to_plain(message) for message in messages]
    if not screen.as_json:
        rows = [{**row, "age": row["timestamp"], "body": row.get("body_error", row["body"])} for row in rows]
    columns = {"id": plain, "attempts": plain, "age": age, "content_type": plain, "body": body}
    screen.table(rows, columns, empty=f"Queue {arguments.queue} shows no message")
