"""What callers may pass as settings of queues and pull consumers."""

from __future__ import annotations

from typing import Any

from airflow_provider_cfqueues.arguments.values import (
    parse_count,
    parse_delay,
    parse_name,
    parse_optional,
    parse_visibility_timeout,
)
from airflow_provider_cfqueues.models import Consumer

MAX_BATCH_SIZE = 100
MAX_RETRIES = 100
MIN_RETENTION_SECONDS = 60
MAX_RETENTION_SECONDS = 1_209_600
"""Documentation, limits: ``batch_size`` 1 to 100, ``max_retries`` 0 to 100, retention 60 seconds to 14 days."""


def parse_consumer(
    *,
    batch_size: Any = None,
    consumer_max_retries: Any = None,
    consumer_retry_delay: Any = None,
    visibility_timeout: Any = None,
    dead_letter_queue: Any = None,
) -> Consumer:
    """
    Return the settings of a pull consumer; those that are None are left open.

    Hook and operators call two of them ``consumer_max_retries`` and ``consumer_retry_delay``: an operator has a
    ``retry_delay`` of its own, for tries of the task.

    :param batch_size: messages per pull unless the pull says otherwise, 1 to 100.
    :param consumer_max_retries: deliveries after which a message leaves the queue, 0 to 100.
    :param consumer_retry_delay: seconds before the next delivery, if a message was retried without a delay or its lease
        ended, 0 to 86,400.
    :param visibility_timeout: seconds that a lease lasts unless the pull says otherwise, up to 43,200.
    :param dead_letter_queue: name of the queue for messages that were delivered too often.
    :raises TypeError: something is not of its type.
    :raises ValueError: something is out of range.
    """
    return Consumer(
        type="http_pull",
        batch_size=parse_optional(parse_count, batch_size, "batch_size", at_most=MAX_BATCH_SIZE),
        max_retries=parse_optional(
            parse_count, consumer_max_retries, "consumer_max_retries", at_least=0, at_most=MAX_RETRIES
        ),
        retry_delay=parse_delay(consumer_retry_delay, "consumer_retry_delay"),
        visibility_timeout=parse_visibility_timeout(visibility_timeout),
        dead_letter_queue=parse_optional(parse_name, dead_letter_queue, "dead_letter_queue"),
    )


def parse_queue_settings(*, delivery_delay: Any = None, message_retention_period: Any = None) -> dict[str, Any]:
    """
    Return those settings of a queue that are given, as the API gets them.

    :param delivery_delay: seconds that a message waits unless it says otherwise, 0 to 86,400.
    :param message_retention_period: seconds, 60 to 1,209,600 (14 days), after which a message is deleted.
    :raises TypeError: something is not a number.
    :raises ValueError: something is out of range.
    """
    settings = {
        "delivery_delay": parse_delay(delivery_delay, "delivery_delay"),
        "message_retention_period": parse_delay(
            message_retention_period,
            "message_retention_period",
            at_least=MIN_RETENTION_SECONDS,
            at_most=MAX_RETENTION_SECONDS,
        ),
    }
    return {key: value for key, value in settings.items() if value is not None}
