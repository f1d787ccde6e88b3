"""What is between the engine and the broker: the package's own client on one end, the emulator's calls on the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_cfqueues.client import transport
from airflow_provider_cfqueues.client.answers import Answer
from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.client.environment import Network as Reached
from airflow_provider_cfqueues.client.failures import no_answer
from airflow_provider_cfqueues.client.repeating import Told, Tries
from airflow_provider_cfqueues.client.settings import Credentials, Settings
from airflow_provider_cfqueues.emulator import wire
from airflow_provider_cfqueues.emulator.api import ROUTES
from airflow_provider_cfqueues.emulator.call import Call as EmulatedCall
from airflow_provider_cfqueues.emulator.model import BrokerError
from airflow_provider_cfqueues.emulator.service import ACCOUNT_ID, Service
from simulation.faults import DEFECT, TIMEOUT, Fault, draw_fault
from simulation.loop import VirtualTime

if TYPE_CHECKING:
    from airflow_provider_cfqueues.client.flow import Flow
    from simulation.process import Process

T = TypeVar("T")

SETTINGS = Settings(conn_id="sim", base_url="http://sim", account_id=ACCOUNT_ID, credentials=Credentials(secret="none"))
_PREFIX = "/accounts/{account_id}/queues/"
_HANDLERS = {
    (method, path.removeprefix(_PREFIX + "{queue_id}")): handler
    for path, handlers in ROUTES.items()
    for method, handler in handlers.items()
}


class Server:
    """
    Applies requests to the broker: bytes in, bytes out, by the emulator's own handlers.

    :param service: the emulated account.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def now_ms(self) -> int:
        """Return what the server's clock says."""
        return self._service.broker.clock.now_ms()

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
            refusal = wire.api_error(error, self._service.assume, data_plane=True)
        except wire.ApiError as error:
            refusal = error
        return refusal.status, wire.failure(refusal)


class SimulatedHttp:
    """
    Carries calls over the simulated network.

    :param process: whose calls they are.
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    async def carry(self, call: Call[Any]) -> Answer:
        """Send a request and return its answer."""
        sent_at: datetime = self._process.now()
        answer: asyncio.Future[tuple[int, Mapping[str, str], bytes, Any]] = self._process.loop.create_future()
        self._process.world.network.send(self._process, call, call.content() or b"", answer)
        status, headers, content, arrived = await answer
        if status == DEFECT:
            raise RuntimeError("Cannot send a request, as the client has been closed.")
        if arrived is not None:
            self._process.has_read(arrived)
        return Answer(status=status, headers=headers, content=content, sent_at=sent_at)


class SimulatedClient(transport.AsyncClient):
    """
    The client of the package, over the simulated network.

    :param process: whose client it is.
    """

    def __init__(self, process: Process) -> None:
        super().__init__(SETTINGS, network=Reached())
        self._http = SimulatedHttp(process)

    def _tries(self, call: Call[T]) -> Tries[T]:
        return Tries(self._policy, call, self.settings, Told(), clock=asyncio.get_running_loop().time)


class Hook:
    """
    What the engine needs of the hook, without Airflow.

    :param process: whose hook it is.
    """

    def __init__(self, process: Process) -> None:
        self._client = SimulatedClient(process)

    async def arun(self, flow: Flow[T], *, patient: bool = False) -> T:
        """Drive a flow."""
        return await self._client.run(flow, patient=patient)

    async def aclose(self) -> None:
        """Close nothing."""

    def name_of(self, queue_id: str) -> str:
        """Return what the log calls a queue."""
        return queue_id

    def log_messages(self, queue_id: str, result: Any) -> None:
        """Log nothing."""

    log_remarks = log_messages


class Network:
    """
    Carries requests to the server and answers back, or does not.

    :param time: the time.
    :param random: decides what happens to each.
    :param server: the server.
    :param truth: is told.
    :param scenario: how likely it is that anything happens.
    """

    def __init__(self, time: VirtualTime, random: Random, server: Server, truth: Any, scenario: Any) -> None:
        self.requests = 0
        self._time = time
        self._random = random
        self.server = server
        self._truth = truth
        self.fault_rate = scenario.fault_rate
        self.latency = scenario.latency
        self._outage = scenario.outage

    def heal(self) -> None:
        """Let nothing fail any more."""
        self.fault_rate = 0.0
        self.latency = min(0.1, self.latency)
        self._outage = None

    def send(self, process: Process, call: Call[Any], content: bytes, answer: asyncio.Future[Any]) -> None:
        """Take a request, decide its fate, and see to it that it meets it."""
        outage = self._outage
        is_out = outage is not None and outage[0] <= self._time.now <= outage[1]
        fault = draw_fault(self._random, 1.0 if is_out else self.fault_rate, self.latency)
        self.requests += 1
        number = self.requests
        if fault.name:
            self._truth.note(process, "request %d, %s: %s", number, call.name, fault.name)
        else:
            self._truth.note(process, "request %d, %s", number, call.name)
        self._truth.sends(process, call, fault.name)
        if fault.up + fault.down > TIMEOUT:
            self._time.after(TIMEOUT, lambda: self._break(process, call, answer, "timed out"))
        self._time.after(fault.up, lambda: self._arrive(process, call, content, answer, fault, number))

    def _arrive(
        self, process: Process, call: Call[Any], content: bytes, answer: asyncio.Future[Any], fault: Fault, number: int
    ) -> None:
        status, document, arrived = fault.status, None, None
        if fault.is_applied:
            if fault.share < 1 and call.path.endswith("/pull"):
                size = max(1, int(call.payload["batch_size"] * fault.share))
                content = answer_bytes({**call.payload, "batch_size": size})
            if fault.share < 1 and call.path.endswith("/ack"):
                call = replace(call, payload=_part(call.payload, fault.share))
                content = answer_bytes(call.payload)
            applied, document = self.server.apply(call, content)
            arrived = self._truth.applied(process, call, document, number, self.server.now_ms())
            status = status or applied
        if fault.breaks:
            self._time.after(fault.down, lambda: self._break(process, call, answer, fault.breaks))
            return
        body = fault.content if fault.status or document is None else answer_bytes(document)
        if fault.cut:
            body = body[: len(body) // 2]
        if fault.status or fault.cut:
            arrived = None
        result = (status, fault.headers or {}, body, arrived)
        self._time.after(fault.down, lambda: self._give(process, answer, lambda: answer.set_result(result)))

    def _break(self, process: Process, call: Call[Any], answer: asyncio.Future[Any], why: str) -> None:
        error = no_answer(call, SETTINGS, Reached(), ConnectionError(why), connected=why != "refused")
        self._give(process, answer, lambda: answer.set_exception(error))

    def _give(self, process: Process, answer: asyncio.Future[Any], give: Callable[[], None]) -> None:
        if not process.is_dead and not answer.done():
            give()


def _part(payload: Any, share: float) -> Any:
    """Return what is left of a request to settle leases if the API overlooks some: its counts fall short."""
    acks, retries = payload["acks"], payload["retries"]
    kept = max(1, int((len(acks) + len(retries)) * share))
    return {"acks": acks[:kept], "retries": retries[: max(0, kept - len(acks))]}


def answer_bytes(document: wire.JSON) -> bytes:
    """Return an answer as the emulator writes it."""
    return json.dumps(document, separators=(",", ":")).encode()
