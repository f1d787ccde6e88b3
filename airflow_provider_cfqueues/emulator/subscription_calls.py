"""What each call about event subscriptions does."""

from __future__ import annotations

from airflow_provider_cfqueues.emulator import wire
from airflow_provider_cfqueues.emulator.call import Call
from airflow_provider_cfqueues.emulator.fields import BAD_SCHEMA, Fields
from airflow_provider_cfqueues.emulator.subscriptions import ORDERS

# The key that names the resource, where the source has one. The last four are in wrangler, not in the schema.
SOURCES = {
    "images": "",
    "kv": "",
    "r2": "",
    "superSlurper": "",
    "vectorize": "",
    "workersAi.model": "model_name",
    "workersBuilds.worker": "worker_name",
    "workers.script": "script_tag",
    "workflows.workflow": "workflow_name",
    "artifacts": "",
    "artifacts.repo": "",
    "browserRun": "",
    "email.sending": "",
}


def list_subscriptions(call: Call) -> wire.JSON:
    """GET /event_subscriptions/subscriptions."""
    order = call.query_choice("order", "name", tuple(ORDERS))
    descending = call.query_choice("direction", "asc", ("asc", "desc")) == "desc"
    found = call.broker.subscriptions.list(call.query.get("queue_id", [None])[-1], order, descending)
    return call.page(found, total=len(found))


def create_subscription(call: Call) -> wire.JSON:
    """POST /event_subscriptions/subscriptions."""
    request = call.fields
    source = request.object("source", BAD_SCHEMA)
    kind = source.string("type")
    if kind not in SOURCES:
        raise wire.ApiError(400, BAD_SCHEMA, f"source.type must be one of {', '.join(SOURCES)}")
    if SOURCES[kind]:
        source.string(SOURCES[kind])
    subscription = call.broker.subscriptions.create(
        source=request["source"],
        name=_name(request),
        enabled=request.boolean("enabled", True),
        events=_events(request),
        queue_id=_queue_id(request),
    )
    return wire.success(subscription)


def get_subscription(call: Call) -> wire.JSON:
    """GET /event_subscriptions/subscriptions/{subscription_id}."""
    return wire.success(_current(call))


def edit_subscription(call: Call) -> wire.JSON:
    """PATCH /event_subscriptions/subscriptions/{subscription_id}: what is not named stays; the source always does."""
    request, was = call.fields, _current(call)
    changed = call.broker.subscriptions.update(
        was["id"],
        name=_name(request) if "name" in request else was["name"],
        enabled=request.boolean("enabled", was["enabled"]),
        events=_events(request) if "events" in request else was["events"],
        queue_id=_queue_id(request) if "destination" in request else was["destination"]["queue_id"],
    )
    return wire.success(changed)


def delete_subscription(call: Call) -> wire.JSON:
    """DELETE /event_subscriptions/subscriptions/{subscription_id}: answers what it was."""
    return wire.success(call.broker.subscriptions.delete(call.path["subscription_id"]))


def _current(call: Call) -> wire.JSON:
    return call.broker.subscriptions.get(call.path["subscription_id"])


def _name(request: Fields) -> str:
    name = request.string("name")
    if not name:
        raise wire.ApiError(400, BAD_SCHEMA, 'String must contain at least 1 character(s) at "name"')
    return name


def _events(request: Fields) -> list[str]:
    events = request["events"]
    if not isinstance(events, list) or not events or not all(isinstance(event, str) for event in events):
        raise wire.ApiError(400, BAD_SCHEMA, 'Expected an array of at least 1 string at "events"')
    return events


def _queue_id(request: Fields) -> str:
    request["destination"]
    destination = request.object("destination", BAD_SCHEMA)
    if destination.string("type") != "queues.queue":
        raise wire.ApiError(400, BAD_SCHEMA, "destination.type must be 'queues.queue'")
    return destination.string("queue_id")
