"""What each call about event subscriptions does."""

from __future__ import annotations

from airflow_provider_cfqueues.emulator import wire
from airflow_provider_cfqueues.emulator.call import Call
from airflow_provider_cfqueues.emulator.fields import BAD_SCHEMA, Fields

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
ORDERS = ("created_at", "name", "enabled", "source")


def list_subscriptions(call: Call) -> wire.JSON:
    """GET /event_subscriptions/subscriptions."""
    order = call.query_choice("order", "name", ORDERS)
    descending = call.query_choice("direction", "asc", ("asc", "desc")) == "desc"
    queue_id = call.query.get("queue_id", [None])[-1]
    found = [item for item in call.broker.subscriptions.all() if queue_id in (None, item["destination"]["queue_id"])]
    found.sort(key=lambda item: str(item[order]), reverse=descending)
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
    return wire.success(call.broker.subscriptions.create({"source": request["source"], **_read(request)}))


def get_subscription(call: Call) -> wire.JSON:
    """GET /event_subscriptions/subscriptions/{subscription_id}."""
    return wire.success(call.broker.subscriptions.get(call.path["subscription_id"]))


def edit_subscription(call: Call) -> wire.JSON:
    """PATCH /event_subscriptions/subscriptions/{subscription_id}: what is not named stays; the source always does."""
    was = call.broker.subscriptions.get(call.path["subscription_id"])
    return wire.success(call.broker.subscriptions.update(was["id"], _read(call.fields.over(was))))


def delete_subscription(call: Call) -> wire.JSON:
    """DELETE /event_subscriptions/subscriptions/{subscription_id}: answers what it was."""
    return wire.success(call.broker.subscriptions.delete(call.path["subscription_id"]))


def _read(request: Fields) -> wire.JSON:
    """Return what a caller may set of a subscription."""
    name, events = request.string("name"), request["events"]
    if not name:
        raise wire.ApiError(400, BAD_SCHEMA, 'String must contain at least 1 character(s) at "name"')
    if not isinstance(events, list) or not events or not all(isinstance(event, str) for event in events):
        raise wire.ApiError(400, BAD_SCHEMA, 'Expected an array of at least 1 string at "events"')
    request["destination"]
    destination = request.object("destination", BAD_SCHEMA)
    if destination.string("type") != "queues.queue":
        raise wire.ApiError(400, BAD_SCHEMA, "destination.type must be 'queues.queue'")
    return {
        "name": name,
        "enabled": request.boolean("enabled", True),
        "events": events,
        "destination": {"type": "queues.queue", "queue_id": destination.string("queue_id")},
    }
