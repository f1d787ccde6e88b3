"""What a connection may do, tried out call by call without changing anything."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from difflib import get_close_matches
from typing import NamedTuple

from airflow_provider_cfqueues.cli.formats import NO_DEAD_LETTER_QUEUE, plain
from airflow_provider_cfqueues.cli.running import FAILED, command, pick
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Queue

ANSWERS = {True: "yes", False: "NO", None: "-"}


class Check(NamedTuple):
    """Something tried: whether it worked (None = could not be tried), what there is to say, and whether it warns."""

    name: str
    ok: bool | None
    detail: str
    warns: bool = False


@command
def ping(arguments: Namespace, hook: CloudflareQueuesHook, screen: Screen) -> int:
    """Say whether a connection is good, and what it may do."""
    checks = _check_connection(hook, arguments.queue)
    facts = [
        {"check": check.name, "ok": check.ok, "warning": check.warns, "detail": check.detail}
        if screen.as_json
        else {"ok": "WARN" if check.warns else ANSWERS[check.ok], "check": check.name, "detail": check.detail}
        for check in checks
    ]
    screen.table(facts, {"ok": plain, "check": plain, "detail": plain}, empty="")
    return FAILED if any(check.ok is False for check in checks) else 0


def _check_connection(hook: CloudflareQueuesHook, queue: str | None) -> list[Check]:
    """Return the checks, up to the first failure after which nothing else can be tried."""
    settings = hook.get_conn().settings
    checks = [Check("connection", True, f"{settings.conn_id}: account {settings.account_id} at {settings.base_url}")]
    ok, said = hook.test_connection()
    checks.append(Check("credentials, list", ok, said.partition(". ")[0] if ok else said))
    if ok:
        checks += _check_queue(hook, queue)
    return checks


def _check_queue(hook: CloudflareQueuesHook, queue: str | None) -> Iterator[Check]:
    queues = hook.list_queues()
    found = pick(queues, queue) if queue else next(iter(queues), None)
    if found is None:
        missing = f"the account has no queue {queue!r}" if queue else "the account has no queues"
        if similar := get_close_matches(queue or "", [each.queue_name for each in queues]):
            missing += f"; similar names: {', '.join(similar)}"
        missing += ". Check its name and the account ID, or create it (command create)"
        yield Check("queue", False if queue else None, missing)
        return
    if found.settings.get("delivery_paused"):
        yield Check("delivery", False, f"{found.queue_name}: paused, so nothing can be pulled; resume it first")
    for name, check in (("metrics", _metrics), ("pull consumer", _consumer), ("pull, settle, send", _write)):
        try:
            yield Check(name, *check(hook, found))
        except CloudflareQueuesError as error:
            yield Check(name, False, str(error))


def _metrics(hook: CloudflareQueuesHook, queue: Queue) -> tuple[bool, str]:
    return True, f"{queue.queue_name}: backlog {hook.get_metrics(queue.queue_id).backlog_count}"


def _write(hook: CloudflareQueuesHook, queue: Queue) -> tuple[bool, str]:
    hook.peek(queue.queue_id, max_messages=1)
    return True, f"{queue.queue_name}: the credentials may write (tried by peeking, which needs the same permission)"


def _consumer(hook: CloudflareQueuesHook, queue: Queue) -> tuple[bool, str, bool]:
    consumers = hook.list_consumers(queue.queue_id)
    name = queue.queue_name
    consumer = next((consumer for consumer in consumers if consumer.type == "http_pull"), None)
    if consumer is None:
        return False, f"{name}: HTTP pull is not enabled; once: the command create {name}", False
    settings = f"{name}: max_retries={consumer.max_retries}"
    if consumer.dead_letter_queue:
        return True, f"{settings}, dead-letter queue {consumer.dead_letter_queue}", False
    return True, f"{settings}, {NO_DEAD_LETTER_QUEUE}", True
