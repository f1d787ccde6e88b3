"""The control paths, ``/_emulator/...``: what ``Emulator`` does in-process, for everybody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from airflow_provider_cfqueues.emulator.fields import is_number
from airflow_provider_cfqueues.emulator.model import BrokerError
from airflow_provider_cfqueues.emulator.service import Service

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_MESSAGES = 1000
"""As many messages of a queue as ``GET /_emulator/state`` shows."""
Action = Callable[[Service, Any], Any]


def routes(service: Service) -> list[Route]:
    """Return the control paths of a service."""
    return [
        Route(f"/_emulator/{name}", _endpoint(service, action), methods=[method])
        for name, (method, action) in _ACTIONS.items()
    ]


def _add_faults(service: Service, rules: Any) -> Any:
    service.faults.add(rules)
    return {"faults": service.faults.active()}


def _advance(service: Service, body: Any) -> Any:
    seconds = _only(body, "advance_seconds")["advance_seconds"]
    if not is_number(seconds):
        raise ValueError("advance_seconds must be a number")
    service.advance(seconds)
    return {"now_ms": service.broker.clock.now_ms()}


def _send(service: Service, body: Any) -> Any:
    given = _only(body, "queue_id", "body", "content_type?", "json_encoding?", "metadata?", "delay_seconds?")
    return {"id": service.send(**given)}


def _configure(service: Service, body: Any) -> Any:
    service.set_json_encoding(_only(body, "json_encoding")["json_encoding"])
    return {"json_encoding": service.json_encoding}


def _reset(service: Service, _: Any) -> Any:
    service.reset()
    return {"queues": service.queues()}


def _state(service: Service, query: Any) -> Any:
    return service.state(min(int(_only(query or {}, "messages?").get("messages", MAX_MESSAGES)), MAX_MESSAGES))


_ACTIONS: dict[str, tuple[str, Action]] = {
    "faults": ("POST", _add_faults),
    "clock": ("POST", _advance),
    "messages": ("POST", _send),
    "settings": ("POST", _configure),
    "requests": ("GET", lambda service, _: service.requests()),
    "state": ("GET", _state),
    "reset": ("POST", _reset),
}


def _endpoint(service: Service, action: Action) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> JSONResponse:
        data = await request.body()
        try:
            given = json.loads(data) if data else dict(request.query_params) or None
            return JSONResponse(action(service, given))
        except (ValueError, TypeError, BrokerError, RecursionError) as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, status_code=400)

    return endpoint


def _only(body: Any, *keys: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 -- all become a 400
    known = {key.rstrip("?") for key in keys}
    if unknown := sorted(set(body) - known):
        raise ValueError(f"unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    if missing := [key for key in keys if not key.endswith("?") and key not in body]:
        raise ValueError(f"{missing[0]} is missing")
    return body
