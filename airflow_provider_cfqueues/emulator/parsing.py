"""What requests may say: JSON in, values of the model out, within the limits of the API."""

from __future__ import annotations

import json
import re
from typing import Any

from airflow_provider_cfqueues.emulator.fields import BAD_SCHEMA, Fields
from airflow_provider_cfqueues.emulator.model import Consumer, ConsumerSettings, Outgoing, QueueSettings, Retry
from airflow_provider_cfqueues.emulator.wire import ApiError

MAX_BATCH = 100
MAX_MESSAGE_BYTES = 128_000
MAX_BATCH_BYTES = 256_000
MAX_DELAY = 86_400
MAX_LEASE_MS = 43_200_000
MIN_RETENTION = 60
MAX_RETENTION = 14 * 86_400
JURISDICTIONS = ("eu", "us", "fedramp")

ACCOUNT_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
QUEUE_ID = re.compile(r"[A-Za-z0-9]{1,32}")
QUEUE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_BAD_SETTINGS_OF_CONSUMER = 100127
_BAD_SETTINGS_OF_QUEUE = 100128


def queue_name(fields: Fields, key: str = "queue_name") -> str:
    """Return the name of a queue."""
    name = fields.string(key)
    if not QUEUE_NAME.fullmatch(name):
        raise ApiError(400, 11003, f"Invalid queue name '{name}': use 1 to 63 lower-case letters, digits and hyphens")
    return name


def jurisdiction(fields: Fields) -> str | None:
    """Return where a new queue is to keep its data."""
    if "jurisdiction" not in fields:
        return None
    value = fields.string("jurisdiction")
    if value not in JURISDICTIONS:
        raise ApiError(400, _BAD_SETTINGS_OF_QUEUE, f"jurisdiction must be one of {', '.join(JURISDICTIONS)}")
    return value


def queue_settings(fields: Fields, base: QueueSettings) -> QueueSettings:
    """Return the settings of a queue; ``base`` holds for those that the request does not name."""
    given = fields.object("settings", _BAD_SETTINGS_OF_QUEUE)
    return QueueSettings(
        delivery_delay=given.seconds("delivery_delay", 0, MAX_DELAY, base.delivery_delay),
        delivery_paused=given.boolean("delivery_paused", base.delivery_paused),
        message_retention_period=given.seconds(
            "message_retention_period", MIN_RETENTION, MAX_RETENTION, base.message_retention_period
        ),
    )


def consumer(fields: Fields, own_queue: str, before: Consumer | None = None) -> dict[str, Any]:
    """
    Return dead-letter queue and settings of a consumer, as the registry takes them.

    :param own_queue: name of the queue that it consumes.
    :param before: the consumer whose settings hold where the request names none.
    """
    kind = fields.get("type")
    if kind == "worker":
        raise ApiError(404, 10007, "This Worker does not exist: the emulator runs none")
    if kind not in ("http_pull", "notification"):
        raise ApiError(400, 10026, "invalid request body: type has to be 'http_pull', 'worker' or 'notification'")
    given = fields.object("settings", _BAD_SETTINGS_OF_CONSUMER)
    base = before.settings if before else ConsumerSettings()
    if not before and fields.assume["consumer-defaults"] == "batch-size-5":
        base = ConsumerSettings(batch_size=5)
    settings = ConsumerSettings(
        batch_size=given.integer("batch_size", 1, MAX_BATCH, base.batch_size),
        max_retries=given.integer("max_retries", 0, 100, base.max_retries),
        retry_delay=given.seconds("retry_delay", 0, MAX_DELAY, base.retry_delay),
        visibility_timeout_ms=given.integer("visibility_timeout_ms", 1, MAX_LEASE_MS, base.visibility_timeout_ms),
    )
    name = queue_name(fields, "dead_letter_queue") if fields.get("dead_letter_queue") else ""
    if name == own_queue:
        raise ApiError(400, _BAD_SETTINGS_OF_CONSUMER, "a queue cannot be its own dead letter queue")
    sent = fields.get("settings", {}) if kind == "notification" else None
    return {"dead_letter_queue": name, "settings": settings, "notification": sent}


def one_message(fields: Fields, json_base64: bool) -> Outgoing:
    """Return a message to send; with ``json_base64``, a pull shows a JSON body as base64."""
    content_type = fields.get("content_type", "json")
    value = fields["body"]
    if content_type == "text":
        if not isinstance(value, str):
            raise fields.mismatch("string", "body")
        data = value.encode()
    elif content_type == "json":
        if not isinstance(value, (dict, list)) and fields.assume["json-bodies"] == "containers":
            raise fields.mismatch("object", "body")
        data = _compact(value)
    else:
        raise ApiError(400, 10203, "content_type must be 'text' or 'json'")
    if len(data) + _metadata_bytes(fields) > MAX_MESSAGE_BYTES:
        raise ApiError(413, 10204, f"message is larger than {MAX_MESSAGE_BYTES} bytes")
    return Outgoing(
        body=data,
        content_type=content_type,
        base64=content_type == "json" and json_base64,
        delay_seconds=fields.seconds("delay_seconds", 0, MAX_DELAY, None, code=10203),
    )


def _metadata_bytes(fields: Fields) -> int:
    return 100 if fields.assume["sizes"] == "with-metadata" else 0


def _compact(value: Any) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:  # 1e999 is a number in JSON, and infinite in Python
        raise ApiError(400, BAD_SCHEMA, 'Number is too large at "body"') from error


def batch(fields: Fields, json_base64: bool) -> tuple[list[Outgoing], float | None]:
    """Return the messages to send, and the delay for messages that have none; see ``one_message``."""
    delay = fields.seconds("delay_seconds", 0, MAX_DELAY, None, code=10202)
    fields["messages"]
    messages = [one_message(item, json_base64) for item in fields.objects("messages")]
    if not messages:
        raise ApiError(400, BAD_SCHEMA, 'Array must contain at least 1 element(s) at "messages"')
    if len(messages) > MAX_BATCH:
        raise ApiError(400, 10206, f"batch has more than {MAX_BATCH} messages")
    if sum(len(message.body) + _metadata_bytes(fields) for message in messages) > MAX_BATCH_BYTES:
        raise ApiError(413, 10205, f"batch is larger than {MAX_BATCH_BYTES} bytes")
    return messages, delay


def batch_size(fields: Fields) -> int | None:
    """Return how many messages to pull, peek or preview at most."""
    return fields.integer("batch_size", 1, MAX_BATCH, None)


def visibility_timeout_ms(fields: Fields) -> int | None:
    """Return how long a lease holds."""
    return fields.integer("visibility_timeout_ms", 1, MAX_LEASE_MS, None)


def leases(fields: Fields, key: str) -> list[str]:
    """Return the leases of a list of ``{"lease_id"}``."""
    found = fields.strings(key, "lease_id")
    if len(found) > MAX_BATCH and fields.assume["lease-count"] == "100":
        raise ApiError(400, BAD_SCHEMA, f'Array must contain at most {MAX_BATCH} element(s) at "{key}"')
    return found


def retries(fields: Fields) -> list[Retry]:
    """Return the leases to give back."""
    return [
        Retry(item.string("lease_id"), item.seconds("delay_seconds", 0, MAX_DELAY, None, code=10203))
        for item in fields.objects("retries")
    ]


def refs(fields: Fields) -> list[str]:
    """Return the refs of messages to delete."""
    fields["refs"]
    return fields.strings("refs", "ref")


def confirm_purge(fields: Fields) -> None:
    """See to it that a purge is meant."""
    if fields.get("delete_messages_permanently") is not True:
        raise ApiError(400, BAD_SCHEMA, 'Expected true at "delete_messages_permanently"')
