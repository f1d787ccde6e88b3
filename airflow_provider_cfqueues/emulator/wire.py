"""What answers look like: the envelope, the objects in it, and which status and code an error has."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from airflow_provider_cfqueues.emulator import model
from airflow_provider_cfqueues.emulator.model import Consumer, Message, Queue

JSON = dict[str, Any]


class ApiError(Exception):
    """
    A refusal as the API words it.

    :param code: Cloudflare's code, 0 where it has none.
    :param chain: the ``error_chain`` of an older gateway.
    """

    def __init__(self, status: int, code: int, message: str, chain: list[JSON] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error: JSON = {"code": code, "message": message}
        if chain:
            self.error["error_chain"] = chain


def success(result: Any, *, messages: list[Any] | None = None, info: JSON | None = None) -> JSON:
    """Wrap a result."""
    envelope: JSON = {"success": True, "errors": [], "messages": messages or [], "result": result}
    if info is not None:
        envelope["result_info"] = info
    return envelope


def failure(error: ApiError) -> JSON:
    """Wrap a refusal."""
    return {"success": False, "errors": [error.error], "messages": [], "result": None}


_REFUSALS: dict[type[model.BrokerError], tuple[int, int, str]] = {
    model.QueueNotFound: (404, 11000, "Queue does not exist"),
    model.QueueExists: (409, 11009, "Queue name '{}' is already taken. Please use a different name."),
    model.ConsumerNotFound: (404, 11006, "Consumer does not exist"),
    model.ConsumerExists: (409, 11004, "Queue '{}' already has a consumer"),
    model.SubscriptionNotFound: (404, 11000, "Event subscription does not exist"),
    model.SubscriptionExists: (409, 11009, "Event subscription '{}' exists already"),
    model.SubscriptionOnSameResource: (405, 11000, "Multiple subscriptions on same resource not supported"),
    model.PullNotEnabled: (405, 0, "messages cannot be pulled unless http_pull mode is enabled"),
    model.DeliveryPaused: (409, 0, "queue_delivery_paused"),
    model.QuotaExceeded: (429, 10253, "You have exceeded the daily free tier limit of {} operations"),
    model.LeaseRefused: (400, 10207, "{}"),
}


def api_error(error: model.BrokerError, assume: Mapping[str, str], *, data_plane: bool) -> ApiError:
    """
    Word a refusal of the broker.

    :param data_plane: whether the call is about messages, which knows a missing queue by another code.
    """
    status, code, text = _REFUSALS[type(error)]
    if isinstance(error, model.QueueNotFound) and data_plane:
        code = int(assume["missing-queue"])
    if isinstance(error, model.DeliveryPaused) and assume["paused"] == "429":
        status, code, text = 429, 10252, "Queue is disabled: delivery is paused"
    return ApiError(status, code, text.format(error))


def queue(value: Queue) -> JSON:
    """Return a queue as JSON; nothing but REST calls produces here, so it has no producers."""
    consumers = [consumer(value.consumer)] if value.consumer else []
    shape: JSON = {
        "queue_id": value.id,
        "queue_name": value.name,
        "created_on": timestamp(value.created_ms),
        "modified_on": timestamp(value.modified_ms),
        "producers_total_count": 0,
        "producers": [],
        "consumers_total_count": len(consumers),
        "consumers": consumers,
        "settings": asdict(value.settings),
    }
    if value.jurisdiction:
        shape["jurisdiction"] = value.jurisdiction
    return shape


def consumer(value: Consumer) -> JSON:
    """Return a consumer as JSON."""
    return {
        "consumer_id": value.id,
        "type": "http_pull" if value.notification is None else "notification",
        "created_on": timestamp(value.created_ms),
        "queue_name": value.queue_name,
        "dead_letter_queue": value.dead_letter_queue,
        "settings": asdict(value.settings) if value.notification is None else value.notification,
    }


def message(value: Message, ticket: str) -> JSON:
    """
    Return a message as JSON.

    :param ticket: the key of its lease or ref.
    """
    return {
        "id": value.id,
        "timestamp_ms": value.timestamp_ms,
        "body": body(value),
        "attempts": value.attempts,
        "metadata": value.metadata,
        ticket: value.ticket,
    }


def body(value: Message) -> str:
    """Return the body as a pull shows it."""
    if value.base64:
        return binascii.b2a_base64(value.body, newline=False).decode("ascii")
    return value.body.decode("utf-8")


def timestamp(milliseconds: int) -> str:
    """Return a point in time as the API writes it."""
    moment = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
