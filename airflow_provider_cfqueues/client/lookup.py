"""Looking up queues, consumers and what a token may do."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches

from airflow_provider_cfqueues.client import queue_calls
from airflow_provider_cfqueues.client.answers import NO_ROUTE
from airflow_provider_cfqueues.client.flow import Flow, Known
from airflow_provider_cfqueues.client.settings import Credentials
from airflow_provider_cfqueues.exceptions import (
    AuthenticationError,
    CloudflareQueuesError,
    NotFoundError,
    PermissionDeniedError,
)
from airflow_provider_cfqueues.models import Consumer, Queue

CONSUMER_CODES = {10105, 11006}
"""The API's codes if a consumer does not exist."""
_LIKE_AN_ID = re.compile("[0-9a-fA-F]{32}")


def get_pull_consumer(queue_id: str, known: Known, *, required: bool = False) -> Flow[Consumer | None]:
    """
    Return a queue's pull consumer, which is looked up once; None if it cannot be read although the queue exists.

    :param queue_id: ID of the queue.
    :param known: what was looked up before; the consumer is added to it.
    :param required: repeat a look that failed, and raise its error, unless the token may not read it.
    :raises NotFoundError: there is no such queue.
    :raises CloudflareQueuesError: it is required, and failed.
    """
    if queue_id not in known.consumers:
        try:
            consumers: list[Consumer] = yield replace(queue_calls.list_consumers(queue_id), repeat=required)
        except CloudflareQueuesError as error:
            is_forbidden = isinstance(error, PermissionDeniedError)
            if isinstance(error, NotFoundError) or (required and not is_forbidden):
                raise
            if not is_forbidden:
                return None  # the next look may work
            consumers = []
        known.consumers[queue_id] = next((consumer for consumer in consumers if consumer.type == "http_pull"), None)
    return known.consumers[queue_id]


def name_argument(error: NotFoundError, known: Known) -> None:
    """
    Let the error about a queue that was given by its ID, and does not exist, say which argument to check.

    :param error: any answer that something does not exist.
    :param known: what was looked up before.
    """
    queue = error.queue
    is_explained = "remedy" in vars(error) or error.status is None or CONSUMER_CODES.intersection(error.codes)
    is_elsewhere = NO_ROUTE in error.codes and f"/queues/{queue}" not in error.message
    if queue is None or known.name_of(queue) or is_explained or is_elsewhere:
        return
    argument = known.arguments.get(queue, "queue_id")
    remedy = f"Check {argument}, and the account ID of the connection."
    if not _LIKE_AN_ID.fullmatch(queue):
        name = argument.removesuffix("_id") + "_name"
        remedy = (
            f"Check {argument}: a queue's ID has 32 hexadecimal digits. Did you mean {name}={queue!r}? (In a call of "
            f"the hook: get_queue_id({queue!r}).)"
        )
    error.add(remedy=remedy)


def list_queues(name: str | None = None) -> Flow[list[Queue]]:
    """
    Read all pages of the account's queues; with a name, up to the queue of this name.

    :param name: only the queue of this name, if the API heeds it.
    """
    queues: list[Queue] = []
    known: set[str] = set()
    page, more = 1, True
    while more:
        part, more = yield queue_calls.list_queues(page, name)
        fresh = [queue for queue in part if queue.queue_id not in known]
        known |= {queue.queue_id for queue in fresh}
        queues += fresh
        page += 1
        more = more and bool(fresh)  # an API that ignores the page would give the first one for ever
        more = more and all(queue.queue_name != name for queue in fresh)
    return queues


def get_queue(queue_id: str, known: Known) -> Flow[Queue]:
    """
    Read a queue and its settings.

    :param queue_id: ID of the queue.
    :param known: what was looked up before; the queue's name is added to it.
    """
    queue: Queue = yield queue_calls.get_queue(queue_id)
    known.queue_ids[queue.queue_name] = queue.queue_id
    return queue


def get_queue_id(name: str, known: Known, what: str = "queue_name") -> Flow[str]:
    """
    Look up the ID of a queue.

    :param name: the queue's name.
    :param known: what was looked up before; the ID is added to it.
    :param what: where the name comes from, for the error: an argument, or the queue's consumer.
    :raises NotFoundError: the account has no queue of this name; the message names similar ones of the first page.
    """
    if name not in known.queue_ids:
        queues = yield from list_queues(name)
        known.queue_ids |= {queue.queue_name: queue.queue_id for queue in queues}
    if name not in known.queue_ids:
        if not queues:
            queues, _ = yield queue_calls.list_queues(1)
        similar = get_close_matches(name, [queue.queue_name for queue in queues])
        hint = f"; similar names: {', '.join(similar)}" if similar else ""
        error = NotFoundError(f"The account has no queue named {name!r}{hint}.", queue=name)
        error.add(remedy=f"Check {what}, and the account ID of the connection, or create the queue.")
        raise error
    return known.queue_ids[name]


def test_connection(credentials: Credentials) -> Flow[str]:
    """
    Verify the credentials and read the queue list; return one line that says what works.

    :param credentials: what the client authenticates with.
    :raises CloudflareQueuesError: the credentials are not valid, or may not list queues.
    """
    # No call verifies an e-mail and a key by themselves.
    may, may_not = "The e-mail and Global API Key can", "The e-mail and Global API Key may not"
    if credentials.email is None:
        status = yield from _verify_token(credentials.secret)
        if status != "active":
            raise AuthenticationError(f"The API token is {status}.")
        may, may_not = "The API token is active, and it can", "The API token is active, but may not"
    try:
        queues, more = yield queue_calls.list_queues(1)
    except (AuthenticationError, PermissionDeniedError) as error:
        error.add(message=f"{may_not} list the account's queues ('Queues Read' is missing): {error.message}")
        raise
    count = f"{len(queues)}{' or more' if more else ''}"
    return (
        f"{may} list the account's queues ({count}). Pulling, settling and sending also need 'Queues Write', which no "
        "call can test without touching a queue."
    )


def _verify_token(token: str) -> Flow[str]:
    """Ask the endpoint of the token's kind; an account's token made before prefixes existed is found by the second."""
    account_owned = token.startswith("cfat_")
    try:
        status: str = yield queue_calls.verify_token(account_owned=account_owned)
    except AuthenticationError:
        if account_owned or token.startswith("cfut_"):
            raise
        status = yield queue_calls.verify_token(account_owned=True)
    return status
