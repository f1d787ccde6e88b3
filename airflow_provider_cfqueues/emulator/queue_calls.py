"""What each call about queues, consumers and tokens does."""

from __future__ import annotations

from airflow_provider_cfqueues.emulator import parsing, wire
from airflow_provider_cfqueues.emulator.call import Call
from airflow_provider_cfqueues.emulator.model import QueueSettings


def list_queues(call: Call) -> wire.JSON:
    """GET /queues."""
    queues = call.broker.queues.all()
    names = call.query.get("name")
    wanted = [wire.queue(queue) for queue in queues if names is None or queue.name in names]
    return call.page(wanted, total=len(queues), whole=call.service.assume["pages"] == "all")


def create_queue(call: Call) -> wire.JSON:
    """POST /queues."""
    request = call.fields
    queue = call.broker.queues.create(
        parsing.queue_name(request),
        settings=parsing.queue_settings(request, QueueSettings()),
        jurisdiction=parsing.jurisdiction(request),
    )
    return wire.success(wire.queue(queue))


def get_queue(call: Call) -> wire.JSON:
    """GET /queues/{queue_id}."""
    return wire.success(wire.queue(call.broker.queues.get(call.queue_id)))


def edit_queue(call: Call) -> wire.JSON:
    """PATCH /queues/{queue_id}: what is not named stays."""
    return _update_queue(call, call.broker.queues.get(call.queue_id).settings)


def overwrite_queue(call: Call) -> wire.JSON:
    """PUT /queues/{queue_id}: settings that are not named go back to their defaults."""
    if call.service.assume["put"] == "keeps":
        return edit_queue(call)
    return _update_queue(call, QueueSettings())


def _update_queue(call: Call, base: QueueSettings) -> wire.JSON:
    request = call.fields
    queues = call.broker.queues
    name = parsing.queue_name(request) if "queue_name" in request else queues.get(call.queue_id).name
    settings = parsing.queue_settings(request, base)
    return wire.success(wire.queue(queues.update(call.queue_id, name=name, settings=settings)))


def delete_queue(call: Call) -> wire.JSON:
    """DELETE /queues/{queue_id}."""
    call.broker.queues.delete(call.queue_id)
    return wire.success(None)


def list_consumers(call: Call) -> wire.JSON:
    """GET /queues/{queue_id}/consumers."""
    queue = call.broker.queues.get(call.queue_id)
    return wire.success([wire.consumer(queue.consumer)] if queue.consumer else [])


def create_consumer(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/consumers."""
    queues = call.broker.queues
    given = parsing.consumer(call.fields, queues.get(call.queue_id).name)
    return wire.success(wire.consumer(queues.add_consumer(call.queue_id, **given)))


def get_consumer(call: Call) -> wire.JSON:
    """GET /queues/{queue_id}/consumers/{consumer_id}."""
    consumer = call.broker.queues.consumer(call.queue_id, call.path["consumer_id"])
    return wire.success(wire.consumer(consumer))


def replace_consumer(call: Call) -> wire.JSON:
    """PUT /queues/{queue_id}/consumers/{consumer_id}: what is not named goes back to its default."""
    queues = call.broker.queues
    queue = queues.get(call.queue_id)
    before = queue.consumer if call.service.assume["put"] == "keeps" else None
    given = parsing.consumer(call.fields, queue.name, before)
    return wire.success(wire.consumer(queues.replace_consumer(call.queue_id, call.path["consumer_id"], **given)))


def delete_consumer(call: Call) -> wire.JSON:
    """DELETE /queues/{queue_id}/consumers/{consumer_id}."""
    call.broker.queues.delete_consumer(call.queue_id, call.path["consumer_id"])
    return wire.success(None)


def verify_token(call: Call) -> wire.JSON:
    """GET /user/tokens/verify and /accounts/{account_id}/tokens/verify."""
    active = {"code": 10000, "message": "This API Token is valid and active"}
    return wire.success({"id": "ed17574386854bf78a67040be0a770b0", "status": "active"}, messages=[active])
