"""The calls about queues, consumers and tokens; ``queue_id`` is always the queue's ID."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from airflow_provider_cfqueues.client import reading
from airflow_provider_cfqueues.client.call import Call, Envelope
from airflow_provider_cfqueues.models import Consumer, PurgeStatus, Queue


def list_consumers(queue_id: str) -> Call[list[Consumer]]:
    """Read the consumers of a queue (``queues-list-consumers``)."""
    return reading.queue_call(
        queue_id,
        "GET /consumers",
        operation="list_consumers",
        name="read the consumers",
        read=lambda envelope: [reading.read_consumer(item) for item in envelope.result or ()],
    )


def create_consumer(queue_id: str, consumer: Consumer) -> Call[Consumer]:
    """
    Add a pull consumer to a queue that has none (``queues-create-consumer``).

    :param consumer: its settings; what is None is left to the API.
    """
    return reading.queue_call(
        queue_id,
        "POST /consumers",
        operation="create_consumer",
        name="create the pull consumer",
        payload=_consumer_payload(consumer),
        read=lambda envelope: reading.read_consumer(envelope.result),
    )


def replace_consumer(queue_id: str, consumer: Consumer) -> Call[Consumer]:
    """
    Overwrite a pull consumer (``queues-update-consumer``): what is not named may go back to its default.

    :param consumer: all of its settings, with its ID.
    """
    return reading.queue_call(
        queue_id,
        f"PUT /consumers/{consumer.consumer_id}",
        operation="update_consumer",
        name="update the pull consumer",
        payload=_consumer_payload(consumer),
        read=lambda envelope: reading.read_consumer(envelope.result),
    )


def delete_consumer(queue_id: str, consumer_id: str) -> Call[None]:
    """
    Remove a consumer (``queues-delete-consumer``); the messages stay.

    :param consumer_id: ID of the consumer.
    """
    return reading.queue_call(
        queue_id,
        f"DELETE /consumers/{consumer_id}",
        name="delete the pull consumer",
        operation="delete_consumer",
        read=lambda envelope: None,
    )


def _consumer_payload(consumer: Consumer) -> dict[str, Any]:
    timeout = consumer.visibility_timeout
    settings = reading.without_none(
        batch_size=consumer.batch_size,
        max_retries=consumer.max_retries,
        retry_delay=consumer.retry_delay,
        visibility_timeout_ms=None if timeout is None else round(timeout * 1000),
    )
    return {
        "type": "http_pull",
        **reading.without_none(dead_letter_queue=consumer.dead_letter_queue, settings=settings or None),
    }


def get_queue(queue_id: str) -> Call[Queue]:
    """Read a queue (``queues-get``)."""
    return reading.queue_call(
        queue_id,
        "GET",
        operation="get_queue",
        name="read the queue",
        read=lambda envelope: reading.read_queue(envelope.result),
    )


def create_queue(name: str, settings: Mapping[str, Any]) -> Call[Queue]:
    """
    Create a queue (``queues-create``).

    The schema has the name alone; Cloudflare's own wrangler sends ``settings`` as well, and so do we.

    :param name: its name.
    :param settings: the queue's settings that are wanted.
    """
    return Call(
        operation="create_queue",
        name="create the queue",
        method="POST",
        path="/accounts/{account_id}/queues",
        queue=name,
        payload={"queue_name": name, **reading.without_none(settings=dict(settings) or None)},
        read=lambda envelope: reading.read_queue(envelope.result),
    )


def update_queue(queue_id: str, settings: Mapping[str, Any]) -> Call[Queue]:
    """
    Change settings of a queue (``queues-update-partial``); those not named stay.

    :param settings: the settings to change.
    """
    return reading.queue_call(
        queue_id,
        "PATCH",
        operation="update_queue",
        name="change the settings of the queue",
        payload={"settings": dict(settings)},
        read=lambda envelope: reading.read_queue(envelope.result),
    )


def delete_queue(queue_id: str) -> Call[None]:
    """Delete a queue with its messages (``queues-delete``)."""
    return reading.queue_call(
        queue_id, "DELETE", operation="delete_queue", name="delete the queue", read=lambda envelope: None
    )


def purge(queue_id: str) -> Call[None]:
    """Begin to delete all messages of a queue (``queues-purge``)."""
    return reading.queue_call(
        queue_id,
        "POST /purge",
        operation="purge",
        name="purge the queue",
        payload={"delete_messages_permanently": True},
        read=lambda envelope: None,
        repeat_ambiguous=False,  # a second purge would delete what was sent after the first
    )


def get_purge_status(queue_id: str) -> Call[PurgeStatus]:
    """
    Read how far the last purge is (``queues-purge-get``).

    ``completed`` is a string by the schema, of which no example is published: only ``true`` and a time are taken as
    done. Wrangler's types call the key ``complete``.
    """

    def read(envelope: Envelope) -> PurgeStatus:
        result = envelope.result or {}
        said = str(result.get("completed", result.get("complete"))).strip().lower()
        return PurgeStatus(
            completed=said == "true" or (said[:1].isdigit() and "-" in said),
            started_at=result.get("started_at") or None,
        )

    return reading.queue_call(queue_id, "GET /purge", operation="get_purge", name="read the purge status", read=read)


def list_queues(page: int, name: str | None = None) -> Call[tuple[list[Queue], bool]]:
    """
    Read one page of the account's queues (``queues-list``), and whether there is a further one.

    The schema declares no query; Cloudflare's own wrangler sends ``page`` and ``name``, and so do we.

    :param page: 1 for the first.
    :param name: only the queue of this name, where the API heeds it.
    """

    def read(envelope: Envelope) -> tuple[list[Queue], bool]:
        queues = [reading.read_queue(item) for item in envelope.result or ()]
        return queues, bool(queues) and page < _pages(envelope.result_info)

    return Call(
        operation="list_queues",
        name="list the queues",
        method="GET",
        path="/accounts/{account_id}/queues",
        params=reading.without_none(page=page, name=name),
        read=read,
    )


def _pages(result_info: Mapping[str, Any]) -> int:
    total, size = reading.read_count(result_info.get("total_count")), reading.read_count(result_info.get("per_page"))
    return reading.read_count(result_info.get("total_pages")) or (math.ceil(total / size) if total and size else 1)


def verify_token(*, account_owned: bool) -> Call[str]:
    """
    Read the status of the API token: ``active``, ``disabled`` or ``expired``.

    :param account_owned: the token belongs to the account (prefix ``cfat_``), not to a user. Each kind has its own
        endpoint, and gets 401 on the other.
    """
    return Call(
        operation="verify",
        name="verify the API token",
        method="GET",
        path=("/accounts/{account_id}" if account_owned else "/user") + "/tokens/verify",
        read=lambda envelope: str(envelope.result["status"]),
    )
