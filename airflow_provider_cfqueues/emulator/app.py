"""The ASGI application: every call of the API goes through faults, credentials, its handler and the log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

from airflow_provider_cfqueues.emulator import auth, control, page, wire
from airflow_provider_cfqueues.emulator.api import ROUTES
from airflow_provider_cfqueues.emulator.browsers import BrowserGuard
from airflow_provider_cfqueues.emulator.call import Call, Handler
from airflow_provider_cfqueues.emulator.faults import Fault
from airflow_provider_cfqueues.emulator.model import BrokerError
from airflow_provider_cfqueues.emulator.parsing import ACCOUNT_ID, QUEUE_ID
from airflow_provider_cfqueues.emulator.service import Service
from airflow_provider_cfqueues.emulator.snapshot import LoggedRequest

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

BASE_PATH = "/client/v4"
Hangup = Callable[["Scope"], None]
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)

log = logging.getLogger(__name__)


def make_app(service: Service, hang_up: Hangup, hosts: Iterable[str]) -> BrowserGuard:
    """
    Return the application of a service.

    :param hang_up: closes the connection of a request, which ASGI has no word for.
    :param hosts: names that it is known by, beside ``localhost`` and any address.
    """
    routes: list[BaseRoute] = [
        Route(BASE_PATH + path, Endpoint(service, hang_up, handlers)) for path, handlers in ROUTES.items()
    ]
    routes += [page.route(), *control.routes(service)]
    routes.append(Route("/{path:path}", Endpoint(service, hang_up, {})))
    return BrowserGuard(Router(routes), hosts)


class Endpoint:
    """
    One path of the API, all its methods.

    :param handlers: what each method does; none of them for a path that the API does not have.
    """

    def __init__(self, service: Service, hang_up: Hangup, handlers: dict[str, Handler]) -> None:
        self._service = service
        self._hang_up = hang_up
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or break off as a fault says."""
        request = Request(scope, receive)
        try:
            data = await request.body()
        except ClientDisconnect:
            return
        fault = self._service.faults.take(scope["path"].rpartition("/")[2])
        if fault.delay_ms:
            await asyncio.sleep(fault.delay_ms / 1000)
        response = None if fault.drop == "before" else self._response(request, data, fault)
        if fault.drop:
            response = None
        self._log(request, data, response)
        if response is None:
            await self._break_off(scope, receive)
        elif fault.truncate is True:
            await self._send_half(response, scope, receive, send)
        else:
            if fault.truncate is not False:
                response.body = response.body[: fault.truncate]
                response.headers["content-length"] = str(len(response.body))
            await response(scope, receive, send)

    def _response(self, request: Request, data: bytes, fault: Fault) -> Response:
        status, content = (0, None) if fault.answers else self._apply(request, data)
        ray = f"{self._service.random.getrandbits(64):016x}-EMU"
        headers = {"cf-ray": ray, **self._service.rate_limit.headers()}
        if fault.status is not None:
            return _canned(fault, headers)
        return Response(_ENCODER.encode(content), status, headers, "application/json")

    def _apply(self, request: Request, data: bytes) -> tuple[int, wire.JSON]:
        try:
            return 200, self._handle(request, data)
        except wire.ApiError as error:
            return error.status, wire.failure(error)
        except RecursionError:  # what Python can read it cannot always write
            return 400, wire.failure(wire.ApiError(400, 10208, "Request body is nested too deeply"))

    def _handle(self, request: Request, data: bytes) -> wire.JSON:
        path = request.scope["path"]
        account_id = request.path_params.get("account_id")
        if not self._handlers or (account_id and not ACCOUNT_ID.fullmatch(account_id)):
            raise wire.ApiError(404, 7003, f"Could not route to {path}, perhaps your object identifier is invalid?")
        auth.check(self._service, request.headers, path, account_id)
        self._service.rate_limit.take(path)
        handler = self._handlers.get(request.method)
        if handler is None:
            raise wire.ApiError(405, 7001, f"Method {request.method} not available for that URI.")
        if not QUEUE_ID.fullmatch(request.path_params.get("queue_id", "none")):
            raise wire.ApiError(400, 10107, "Queue ID is malformed")
        query = parse_qs(_query(request), keep_blank_values=True)
        call = Call(service=self._service, path=request.path_params, query=query, data=data)
        try:
            return handler(call)
        except BrokerError as error:
            raise wire.api_error(error, self._service.assume, data_plane="/messages" in path) from error

    def _log(self, request: Request, data: bytes, response: Response | None) -> None:
        status = response.status_code if response else None
        path = request.scope["raw_path"].decode("latin-1")  # a terminal obeys what %1B stands for
        log.info("%s %s -> %s", request.method, path, status or "connection closed")
        now = self._service.broker.clock.now_ms()
        logged = LoggedRequest(request.method, request.scope["path"], _query(request), data, status, now)
        self._service.log.append(logged)

    async def _break_off(self, scope: Scope, receive: Receive) -> None:
        self._hang_up(scope)
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _send_half(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        headers = response.raw_headers
        half = response.body[: len(response.body) // 2]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(half), "more_body": True})
        await self._break_off(scope, receive)


def _query(request: Request) -> str:
    query: bytes = request.scope["query_string"]
    return query.decode("latin-1")


def _canned(fault: Fault, headers: dict[str, str]) -> Response:
    body: Any = fault.body
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    headers["content-type"] = "text/html" if isinstance(body, str) else "application/json"
    headers |= {key.lower(): value for key, value in fault.headers.items()}
    return Response(text, fault.status or 200, headers)
