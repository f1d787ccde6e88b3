"""The paths of Cloudflare's API and what each call does; no HTTP yet, that is ``server``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_cfqueues.emulator import fields, parsing, wire
from airflow_provider_cfqueues.emulator.model import QueueSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_cfqueues.emulator.service import Service

MAX_PER_PAGE = 100
PER_PAGE = 20


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, with credentials that are right."""

    service: Service
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    data: bytes

    @property
    def fields(self) -> fields.Fields:
        """The JSON of the request."""
        return fields.parse(self.data)

    @property
    def queue_id(self) -> str:
        """The queue in the path."""
        return self.path["queue_id"]

    def query_number(self, key: str, default: int, highest: int) -> int:
        """
        Return a whole number of the query, from 1.

        :param key: its key.
        :param default: what holds where it is not given.
        :param highest: the most it may be.
        """
        text = self.query.get(key, [str(default)])[-1]
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= highest):
            raise wire.ApiError(400, fields.BAD_SCHEMA, f"{key} must be a whole number from 1 to {highest}")
        return int(text)


Handler = Callable[[Call], wire.JSON]


def list_queues(call: Call) -> wire.JSON:
    """GET /queues."""
    page = call.query_number("page", 1, 10**9)
    per_page = call.query_number("per_page", PER_PAGE, MAX_PER_PAGE)
    queues = call.service.broker.queues.all()
    names = call.query.get("name")
    wanted = [queue for queue in queues if names is None or queue.name in names]
    shown = wanted[(page - 1) * per_page : page * per_page]
    info = {
        "count": len(shown),
        "page": page,
        "per_page": per_page,
        "total_count": len(queues),
        "total_pages": math.ceil(len(queues) / per_page),
    }
    return wire.success([wire.queue(queue) for queue in shown], info=info)


def create_queue(call: Call) -> wire.JSON:
    """POST /queues."""
    request = call.fields
    queue = call.service.broker.queues.create(
        parsing.queue_name(request),
        settings=parsing.queue_settings(request, QueueSettings()),
        jurisdiction=parsing.jurisdiction(request),
    )
    return wire.success(wire.queue(queue))


def get_queue(call: Call) -> wire.JSON:
    """GET /queues/{queue_id}."""
    return wire.success(wire.queue(call.service.broker.queues.get(call.queue_id)))


def edit_queue(call: Call) -> wire.JSON:
    """PATCH /queues/{queue_id}: what is not named stays."""
    return _update_queue(call, call.service.broker.queues.get(call.queue_id).settings)


def overwrite_queue(call: Call) -> wire.JSON:
    """PUT /queues/{queue_id}: settings that are not named go back to their defaults."""
    return _update_queue(call, QueueSettings())


def _update_queue(call: Call, base: QueueSettings) -> wire.JSON:
    request = call.fields
    queues = call.service.broker.queues
    name = parsing.queue_name(request) if "queue_name" in request else queues.get(call.queue_id).name
    settings = parsing.queue_settings(request, base)
    return wire.success(wire.queue(queues.update(call.queue_id, name=name, settings=settings)))


def delete_queue(call: Call) -> wire.JSON:
    """DELETE /queues/{queue_id}."""
    call.service.broker.queues.delete(call.queue_id)
    return wire.success(None)


def list_consumers(call: Call) -> wire.JSON:
    """GET /queues/{queue_id}/consumers."""
    queue = call.service.broker.queues.get(call.queue_id)
    return wire.success([wire.consumer(queue.consumer)] if queue.consumer else [])


def create_consumer(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/consumers."""
    queues = call.service.broker.queues
    dead_letter_queue, settings = parsing.consumer(call.fields, queues.get(call.queue_id).name)
    added = queues.add_consumer(call.queue_id, dead_letter_queue=dead_letter_queue, settings=settings)
    return wire.success(wire.consumer(added))


def get_consumer(call: Call) -> wire.JSON:
    """GET /queues/{queue_id}/consumers/{consumer_id}."""
    consumer = call.service.broker.queues.consumer(call.queue_id, call.path["consumer_id"])
    return wire.success(wire.consumer(consumer))


def replace_consumer(call: Call) -> wire.JSON:
    """PUT /queues/{queue_id}/consumers/{consumer_id}: what is not named goes back to its default."""
    queues = call.service.broker.queues
    dead_letter_queue, settings = parsing.consumer(call.fields, queues.get(call.queue_id).name)
    replaced = queues.replace_consumer(
        call.queue_id, call.path["consumer_id"], dead_letter_queue=dead_letter_queue, settings=settings
    )
    return wire.success(wire.consumer(replaced))


def delete_consumer(call: Call) -> wire.JSON:
    """DELETE /queues/{queue_id}/consumers/{consumer_id}."""
    call.service.broker.queues.delete_consumer(call.queue_id, call.path["consumer_id"])
    return wire.success(None)


def push(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages."""
    message = parsing.one_message(call.fields, call.service.json_encoding == "base64")
    call.service.broker.send(call.queue_id, [message])
    return wire.success(_with_metrics(call, {}))


def push_batch(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/batch."""
    messages, delay = parsing.batch(call.fields, call.service.json_encoding == "base64")
    call.service.broker.send(call.queue_id, messages, delay)
    return wire.success(_with_metrics(call, {}))


def pull(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/pull."""
    request = call.fields
    messages = call.service.broker.pull(
        call.queue_id, parsing.batch_size(request), parsing.visibility_timeout_ms(request)
    )
    shown = [wire.message(message, "lease_id") for message in messages]
    result = _with_metrics(call, {"messages": shown})
    return wire.success({"message_backlog_count": result["metadata"]["metrics"]["backlog_count"], **result})


def ack(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/ack."""
    request = call.fields
    done = call.service.broker.settle(call.queue_id, parsing.leases(request, "acks"), parsing.retries(request))
    return wire.success({"ackCount": done.acked, "retryCount": done.retried, "warnings": done.warnings})


def extend(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/extend."""
    request = call.fields
    renewed, warnings = call.service.broker.extend(
        call.queue_id, parsing.leases(request, "extend"), parsing.visibility_timeout_ms(request)
    )
    return wire.success({"extendCount": len(renewed), "leases": renewed, "warnings": warnings})


def peek(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/peek."""
    messages = call.service.broker.peek(call.queue_id, parsing.batch_size(call.fields))
    return wire.success({"messages": [wire.message(message, "ref") for message in messages]})


def purge_messages(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/purge."""
    request = call.fields
    refs = parsing.refs(request)
    return wire.success({"errors": [], "warnings": call.service.broker.remove(call.queue_id, refs)})


def preview(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/preview."""
    messages = call.service.broker.peek(call.queue_id, parsing.batch_size(call.fields), "preview")
    return wire.success({"messages": [wire.message(message, "lease_id") for message in messages]})


def ack_preview(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/messages/preview/ack: nothing was leased, so retries change nothing."""
    request = call.fields
    parsing.retries(request)
    leases = parsing.leases(request, "acks")
    return wire.success({"warnings": call.service.broker.remove(call.queue_id, leases, "preview")})


def get_metrics(call: Call) -> wire.JSON:
    """GET /queues/{queue_id}/metrics."""
    return wire.success(wire.metrics(call.service.broker.metrics(call.queue_id)))


def start_purge(call: Call) -> wire.JSON:
    """POST /queues/{queue_id}/purge: done when it answers."""
    parsing.confirm_purge(call.fields)
    return wire.success(wire.queue(call.service.broker.purge(call.queue_id)))


def purge_status(call: Call) -> wire.JSON:
    """GET /queues/{queue_id}/purge."""
    purged_ms = call.service.broker.queues.get(call.queue_id).purged_ms
    started_at = "" if purged_ms is None else wire.timestamp(purged_ms)
    return wire.success({"started_at": started_at, "completed": "" if purged_ms is None else "true"})


def verify_token(call: Call) -> wire.JSON:
    """GET /user/tokens/verify and /accounts/{account_id}/tokens/verify."""
    active = {"code": 10000, "message": "This API Token is valid and active"}
    return wire.success({"id": "ed17574386854bf78a67040be0a770b0", "status": "active"}, messages=[active])


def _with_metrics(call: Call, result: wire.JSON) -> wire.JSON:
    metrics = wire.metrics(call.service.broker.metrics(call.queue_id))
    return {**result, "metadata": {"metrics": metrics}}


_QUEUE = "/accounts/{account_id}/queues/{queue_id}"
ROUTES: dict[str, dict[str, Handler]] = {
    "/user/tokens/verify": {"GET": verify_token},
    "/accounts/{account_id}/tokens/verify": {"GET": verify_token},
    "/accounts/{account_id}/queues": {"GET": list_queues, "POST": create_queue},
    _QUEUE: {"GET": get_queue, "PATCH": edit_queue, "PUT": overwrite_queue, "DELETE": delete_queue},
    f"{_QUEUE}/consumers": {"GET": list_consumers, "POST": create_consumer},
    f"{_QUEUE}/consumers/{{consumer_id}}": {
        "GET": get_consumer,
        "PUT": replace_consumer,
        "DELETE": delete_consumer,
    },
    f"{_QUEUE}/messages": {"POST": push},
    f"{_QUEUE}/messages/batch": {"POST": push_batch},
    f"{_QUEUE}/messages/pull": {"POST": pull},
    f"{_QUEUE}/messages/ack": {"POST": ack},
    f"{_QUEUE}/messages/extend": {"POST": extend},
    f"{_QUEUE}/messages/peek": {"POST": peek},
    f"{_QUEUE}/messages/purge": {"POST": purge_messages},
    f"{_QUEUE}/messages/preview": {"POST": preview},
    f"{_QUEUE}/messages/preview/ack": {"POST": ack_preview},
    f"{_QUEUE}/metrics": {"GET": get_metrics},
    f"{_QUEUE}/purge": {"GET": purge_status, "POST": start_purge},
}
