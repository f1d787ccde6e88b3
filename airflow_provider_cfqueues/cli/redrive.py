"""Move messages from a dead-letter queue back to a queue."""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import Any

from airflow_provider_cfqueues.arguments import (
    parse_count,
    parse_number,
    parse_optional,
    parse_seconds,
    parse_visibility_timeout,
)
from airflow_provider_cfqueues.cli.formats import number
from airflow_provider_cfqueues.cli.running import FAILED, INTERRUPTED, command, count_backlog, find_queue, told_to_stop
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.engines.redriving.options import RedriveOptions
from airflow_provider_cfqueues.engines.redriving.redrive import Redrive
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.texts import counted


@command
def redrive(arguments: Namespace, hook: CloudflareQueuesHook, screen: Screen) -> int:
    """Move messages from a dead-letter queue back to a queue."""
    source_id, target_id = find_queue(hook, arguments.queue), find_queue(hook, arguments.target)
    options = RedriveOptions(
        match=arguments.match,
        unwrap=not arguments.as_is,
        messages_per_second=parse_optional(parse_number, arguments.messages_per_second, "messages_per_second"),
        max_messages=parse_optional(parse_count, arguments.max_messages, "max_messages"),
        idle_timeout=parse_seconds(arguments.idle_timeout, "idle_timeout"),
        visibility_timeout=parse_visibility_timeout(arguments.visibility_timeout),
    )
    backlog = None
    moving = Redrive(hook, source_id, target_id, options, log=logging.getLogger(__name__))
    try:
        with (
            screen.progress(f"Moving {arguments.queue} to {arguments.target}", limit=options.max_messages) as advance,
            told_to_stop(screen, moving.stop) as stop,
        ):
            moving.run(advance)
        backlog = count_backlog(hook, source_id)
    finally:
        facts = {**moving.report.to_xcom(), "backlog_count": backlog}
        screen.result(facts, _what_was_moved(facts, arguments, options))
    if stop.is_set():
        return INTERRUPTED
    return FAILED if moving.report.failed else 0


def _what_was_moved(facts: dict[str, Any], arguments: Namespace, options: RedriveOptions) -> str:
    parts = [f"Moved {counted(facts['moved'], 'message')} of {arguments.queue} to {arguments.target}"]
    parts += [
        f"{number(facts[name])} {text}"
        for name, text in (
            ("unmatched", f"did not match (delayed by {options.unmatched_delay_seconds} s)"),
            ("unmovable", "cannot be moved"),
            ("renewed", "sent to the same queue again"),
            ("returned", "given back"),
            ("expired", "not sent before their leases ended"),
        )
        if facts[name]
    ]
    if sent := facts["sent_not_acked"]:
        them = "it" if sent == 1 else "them"
        parts.append(
            f"{number(sent)} sent to {arguments.target}, but not acked here: a further redrive sends {them} again"
        )
    if rest := facts["unconfirmed"] - sent:
        parts.append(f"{number(rest)} not confirmed")
    if facts["backlog_count"]:
        parts.append(f"the backlog of {arguments.queue} is {number(facts['backlog_count'])}")
    lines = [f"  {item['message_id']}: {item['reason']}" for item in facts["not_moved"]]
    lines += [f"  {message_id}: not confirmed" for message_id in facts["unconfirmed_ids"]]
    return "\n".join([", ".join(parts), *lines])
