"""Finding the queue that a command is about."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_cfqueues.exceptions import NotFoundError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Queue


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
