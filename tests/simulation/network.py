"""What is between the engine and the broker: the package's own client on one end, the emulator's calls on the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_cfqueues import arguments, clients, flows
from airflow_provider_cfqueues.emulator import wire
from airflow_provider_cfqueues.emulator.api import ROUTES
from airflow_provider_cfqueues.emulator.call import Call as EmulatedCall
from airflow_provider_cfqueues.emulator.model import BrokerError
from airflow_provider_cfqueues.emulator.service import ACCOUNT_ID, Service
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.protocol import Answer, Call
from airflow_provider_cfqueues.settings import ApiToken, Settings

if TYPE_CHECKING:
    from airflow_provider_cfqueues.models import AckResult, SendResult
    from simulation.world import Process

T = TypeVar("T")

SETTINGS = Settings(conn_id="sim", base_url="http://sim", account_id=ACCOUNT_ID, credentials=ApiToken(token="none"))
_PREFIX = "/accounts/{account_id}/queues/"
_HANDLERS = {
    (method, path.removeprefix(_PREFIX + "{queue_id}")): handler
    for path, handlers in ROUTES.items()
    for method, handler in handlers.items()
}
_TIMEOUT = clients.READ_TIMEOUT_SECONDS
DEFECT = -1
"""Stands for an exception that is no TransportError: of a library, or of ours."""
_HTML = b"<!DOCTYPE html><html><body>One moment please</body></html>"


class Server:
    """
    Applies requests to the broker: bytes in, bytes out, by the emulator's own handlers.

    :param service: the emulated account.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def apply(self, call: Call[Any], content: bytes) -> tuple[int, wire.JSON]:
        """
        Carry out a request.

        :param call: what is called.
        :param content: its body.
        """
        queue_id, _, rest = call.path.removeprefix(_PREFIX).partition("/")
        path = {"account_id": ACCOUNT_ID, "queue_id": queue_id}
        try:
            handler = _HANDLERS[call.method, f"/{rest}"]
            return 200, handler(EmulatedCall(service=self._service, path=path, query={}, data=content))
        except BrokerError as error:
            refusal = wire.api_error(error, data_plane=True)
        except wire.ApiError as error:
            refusal = error
        return refusal.status, wire.failure(refusal)


@dataclass(frozen=True, slots=True)
class Fault:
    """
    What happens to one request.

    :param up: seconds until it reaches the server.
    :param down: seconds until its answer is back.
    :param is_applied: whether the server carries it out.
    :param breaks: the connection breaks instead of an answer; ``refused`` is a connection that was never made.
    :param status: an answer that is not the server's.
    :param content: its body.
    :param headers: its headers.
    :param cut: the answer arrives cut in half, as if it were whole.
    :param share: a pull gives this share of what it was asked for.
    """

    up: float = 0.0
    down: float = 0.0
    is_applied: bool = True
    breaks: str = ""
    status: int = 0
    content: bytes = b""
    headers: Mapping[str, str] | None = None
    cut: bool = False
    share: float = 1.0
    name: str = ""


def draw_fault(random: Random, rate: float, latency: float) -> Fault:
    """
    Decide what happens to the next request.

    :param random: decides.
    :param rate: how likely it is that anything goes wrong.
    :param latency: seconds that a good request takes at the most.
    """
    up, down = latency * random.random(), latency * random.random()
    if random.random() >= rate:
        return Fault(up, down)
    match random.choices(_FAULTS, _WEIGHTS)[0]:
        case "refused":
            return Fault(up, is_applied=False, breaks="refused", name="connection refused")
        case "request lost" | "answer lost" as name:
            return Fault(up, random.choice((0.0, _TIMEOUT)), name == "answer lost", breaks="lost", name=name)
        case "slow":
            return Fault(up + 40 * random.random() ** 3, down + 40 * random.random() ** 3, name="slow")
        case "status":
            status = random.choice((408, 429, 500, 503))
            wait = {"retry-after": str(random.choice((0, 1, 5, 40)))} if random.random() < 0.3 else {}
            return Fault(up, down, False, status=status, headers=wait, name=f"HTTP {status}, not applied")
        case "status after":
            return Fault(up, down, status=random.choice((500, 502, 504)), name="HTTP 5xx, applied")
        case "cut":
            return Fault(up, down, cut=True, name="answer cut")
        case "html":
            is_applied, status = random.random() < 0.5, random.choice((200, 502))
            return Fault(up, down, is_applied, status=status, content=_HTML, name=f"HTML {status}")
        case "defect":
            return Fault(up, down, random.random() < 0.5, status=DEFECT, name="the HTTP library's own failure")
        case _:
            return Fault(up, down, share=random.random(), name="few messages")


_FAULTS = ("refused", "request lost", "answer lost", "slow", "status", "status after", "cut", "html", "defect", "few")
_WEIGHTS = (10, 15, 20, 20, 15, 10, 2, 2, 1, 10)


class VirtualTries(clients._Tries):
    """The client's own rule of repeating, its minute measured in virtual time: tenacity knows only the real one."""

    def options(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        began = loop.time()

        def stop(state: Any) -> bool:
            return loop.time() - began + state.upcoming_sleep >= self._policy.max_seconds

        return {**super().options(), "stop": stop}


class SimulatedClient(clients.AsyncClient):
    """
    The client of the package, over the simulated network.

    :param process: whose client it is.
    """

    def __init__(self, process: Process) -> None:
        self.settings = SETTINGS
        self._policy = clients.RepeatPolicy()
        self._sleep = asyncio.sleep
        self._process = process
        self._failed: dict[int, CloudflareQueuesError] = {}

    def _tries(self, call: Call[Any]) -> VirtualTries:
        return VirtualTries(self._policy, call, self.settings)

    async def _repeat(self, call: Call[T]) -> T:
        """Ask tenacity only where something failed: it costs more than all else of a request."""
        try:
            return call.read_answer(await self._carry(call))
        except CloudflareQueuesError as error:
            self._failed[id(call)] = error
        return await super()._repeat(call)

    async def _carry(self, call: Call[Any]) -> Answer:
        if failed := self._failed.pop(id(call), None):
            raise failed
        sent_at: datetime = self._process.now()
        answer: asyncio.Future[tuple[int, Mapping[str, str], bytes, Any]] = self._process.loop.create_future()
        self._process.world.send(self._process, call, clients._content(call) or b"", answer)
        status, headers, content, arrived = await answer
        if status == DEFECT:
            raise RuntimeError("Cannot send a request, as the client has been closed.")
        if arrived is not None:
            self._process.has_read(arrived)
        return Answer(status=status, headers=headers, content=content, sent_at=sent_at)


class Hook:
    """
    The async calls of the hook, without Airflow: the same parsing of arguments, the same flows.

    :param process: whose hook it is.
    """

    def __init__(self, process: Process) -> None:
        self._client = SimulatedClient(process)

    async def aget_conn(self) -> SimulatedClient:
        """Return the client."""
        return self._client

    async def aack(self, queue_id: str, *, acks: Sequence[str], retries: Sequence[Any]) -> AckResult:
        """Settle leases."""
        parse = arguments.parse_leases
        return await self._client.run(flows.ack(queue_id, parse(acks, "acks"), parse(retries, "retries")))

    async def asend(self, queue_id: str, messages: Sequence[Any], *, repeat_ambiguous: bool) -> SendResult:
        """Send messages."""
        outgoing = arguments.parse_messages(messages)
        return await self._client.run(flows.send(queue_id, outgoing, repeat_ambiguous=repeat_ambiguous))


def answer_bytes(document: wire.JSON) -> bytes:
    """Return an answer as the emulator writes it."""
    return json.dumps(document, separators=(",", ":")).encode()
