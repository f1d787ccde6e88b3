"""What each call about messages does."""

from __future__ import annotations

import logging
from dataclasses import asdict

from airflow_provider_cfqueues.emulator import parsing, wire
from airflow_provider_cfqueues.emulator.call import Call

log = logging.getLogger(__name__)


def push(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages."""
    message = parsing.one_message(call.fields, call.service.json_encoding == "base64")
    call.broker.send(call.queue_id, [message])
    return wire.success(_with_metrics(call, {}))


def push_batch(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/batch."""
    messages, delay = parsing.batch(call.fields, call.service.json_encoding == "base64")
    call.broker.send(call.queue_id, messages, delay)
    return wire.success(_with_metrics(call, {}))


def pull(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/pull."""
    request = call.fields
    if "visibility_timeout" in request and "visibility_timeout_ms" not in request:
        log.warning("A pull has visibility_timeout, which the API ignores. Send visibility_timeout_ms, in milliseconds")
    messages = call.broker.pull(call.queue_id, parsing.batch_size(request), parsing.visibility_timeout_ms(request))
    shown = [wire.message(message, "lease_id") for message in messages]
    result = _with_metrics(call, {"messages": shown})
    return wire.success({"message_backlog_count": result["metadata"]["metrics"]["backlog_count"], **result})


def ack(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/ack."""
    request = call.fields
    done = call.broker.settle(call.queue_id, parsing.leases(request, "acks"), parsing.retries(request))
    return wire.success({"ackCount": done.acked, "retryCount": done.retried, "warnings": done.warnings})


def extend(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/extend."""
    if call.service.assume["extend"] == "missing":
        raise wire.ApiError(404, 7003, "Could not route to extend, perhaps your object identifier is invalid?")
    request = call.fields
    renewed, warnings = call.broker.extend(
        call.queue_id, parsing.leases(request, "extend"), parsing.visibility_timeout_ms(request)
    )
    return wire.success({"extendCount": len(renewed), "leases": renewed, "warnings": warnings})


def peek(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/peek."""
    messages = call.broker.peek(call.queue_id, parsing.batch_size(call.fields))
    return wire.success({"messages": [wire.message(message, "ref") for message in messages]})


def purge_messages(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/purge."""
    warnings = call.broker.remove(call.queue_id, parsing.refs(call.fields))
    return wire.success({"errors": [], "warnings": warnings})


def preview(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/preview."""
    if call.service.assume["preview"] == "refused":
        raise wire.ApiError(405, 10405, "Method not allowed for this authentication scheme")
    messages = call.broker.peek(call.queue_id, parsing.batch_size(call.fields), "preview")
    return wire.success({"messages": [wire.message(message, "lease_id") for message in messages]})


def ack_preview(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/preview/ack: nothing was leased, so retries change nothing."""
    request = call.fields
    parsing.retries(request)
    leases = parsing.leases(request, "acks")
    return wire.success({"warnings": call.broker.remove(call.queue_id, leases, "preview")})


def get_metrics(call: Call) -> wire.JSON:
    """GET /queues/{queue_id}/metrics."""
    return wire.success(asdict(call.broker.metrics(call.queue_id)))


def start_purge(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/purge: done when it answers."""
    parsing.confirm_purge(call.fields)
    return wire.success(wire.queue(call.broker.purge(call.queue_id)))


def purge_status(call: Call) -> wire.JSON:
    """GET /queues/{queue_id}/purge."""
    purged_ms = call.broker.queues.get(call.queue_id).purged_ms
    started_at = "" if purged_ms is None else wire.timestamp(purged_ms)
    return wire.success({"started_at": started_at, "completed": "" if purged_ms is None else "true"})


def _with_metrics(call: Call, result: wire.JSON) -> wire.JSON:
    return {**result, "metadata": {"metrics": asdict(call.broker.metrics(call.queue_id))}}
