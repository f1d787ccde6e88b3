"""One emulated account: its broker, its credentials and what a test can do to it."""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from typing import Any

from airflow_provider_cfqueues.emulator import parsing, snapshot, start, wire
from airflow_provider_cfqueues.emulator.broker import Broker
from airflow_provider_cfqueues.emulator.faults import Faults
from airflow_provider_cfqueues.emulator.fields import is_number
from airflow_provider_cfqueues.emulator.limits import RateLimit
from airflow_provider_cfqueues.emulator.model import Outgoing
from airflow_provider_cfqueues.emulator.options import ACCOUNT_ID, API_TOKEN, JSON_ENCODINGS
from airflow_provider_cfqueues.emulator.snapshot import LoggedRequest

CONTENT_TYPES = ("json", "text", "bytes", "v8")
LOGGED_REQUESTS = 1000


class Service:
    """
    Everything behind the HTTP; not thread-safe. :class:`.server.Emulator` explains its arguments.

    :param broker: the arguments of its :class:`.broker.Broker`.
    """

    def __init__(
        self,
        *,
        queues: start.Given | None = None,
        account_id: str = ACCOUNT_ID,
        api_token: str = API_TOKEN,
        rate_limit: int | None = None,
        **broker: Any,
    ) -> None:
        if not parsing.ACCOUNT_ID.fullmatch(account_id):
            raise ValueError(f"account id must be 1 to 32 letters, digits, '-' or '_', not {account_id!r}")
        if not re.fullmatch(r"[!-~]+", api_token):
            raise ValueError("API token must be printable ASCII without white space")
        self.account_id = account_id
        self.api_token = api_token
        wanted = None if queues is None else start.by_name(queues)
        self.broker = Broker(**broker)
        self.random = self.broker.random
        self.assume = self.broker.assume
        self._rate_limit = rate_limit
        self._forget()
        self.broker.clock.offset_ms += self.broker.store.get("clock_offset_ms", 0)
        if wanted is None:
            wanted = start.DEFAULT if self.broker.store.is_new else {}
        try:
            start.make(self.broker.queues, wanted)
        except BaseException:
            self.close()
            raise
        self._at_start = self.broker.queues.all()

    def _forget(self) -> None:
        """Set what no state file keeps to what it is at the start."""
        self.faults = Faults()
        self.log: deque[LoggedRequest] = deque(maxlen=LOGGED_REQUESTS)
        self.rate_limit = RateLimit(self._rate_limit, self.broker.clock, self.assume)
        self.json_encoding = self.assume["json-encoding"]
        self.broker.operations.used = 0

    def queues(self) -> dict[str, str]:
        """Return the id of every queue by its name."""
        return {queue.name: queue.id for queue in self.broker.queues.all()}

    def create_queue(self, name: str, *, queue_id: str | None = None, **settings: Any) -> str:
        """Make a queue with an http_pull consumer, and a dead-letter queue that is missing; return its id."""
        start.check(name, queue_id)
        consumer = start.consumer(name, settings)
        queue = self.broker.queues.create(name, queue_id=queue_id)
        self.broker.queues.add_consumer(queue.id, **consumer)
        return queue.id

    def send(
        self,
        queue_id: str,
        body: Any,
        *,
        content_type: str = "json",
        json_encoding: str | None = None,
        metadata: dict[str, Any] | None = None,
        delay_seconds: float | None = None,
    ) -> str:
        """
        Send what REST cannot: any content type, either encoding, any metadata. Return the message's id.

        :param json_encoding: how a pull shows a JSON body; what the emulator is set to where it is None.
        :param metadata: instead of the ``CF-Content-Type`` that says the content type.
        """
        encoding = _one_of(JSON_ENCODINGS, json_encoding or self.json_encoding, "json_encoding")
        if metadata is not None and not isinstance(metadata, dict):
            raise ValueError(f"metadata must be an object, not {metadata!r}")
        if delay_seconds is not None and not (is_number(delay_seconds) and 0 <= delay_seconds <= parsing.MAX_DELAY):
            raise ValueError(f"delay_seconds must be from 0 to {parsing.MAX_DELAY}, not {delay_seconds!r}")
        message = Outgoing(
            body=_encoded(body, _one_of(CONTENT_TYPES, content_type, "content_type")),
            content_type=content_type,
            base64=content_type in ("bytes", "v8") or (content_type == "json" and encoding == "base64"),
            metadata=metadata,
            delay_seconds=delay_seconds,
        )
        return self.broker.send(queue_id, [message])[0]

    def set_json_encoding(self, encoding: str) -> None:
        """Let pulls show JSON bodies sent from now on as ``base64`` or ``plain``."""
        self.json_encoding = _one_of(JSON_ENCODINGS, encoding, "json_encoding")

    def advance(self, seconds: float) -> None:
        """Move the clock forward; a state file remembers how far."""
        self.broker.clock.advance(seconds)
        self.broker.store.put("clock_offset_ms", self.broker.clock.offset_ms)

    def requests(self) -> list[wire.JSON]:
        """Return the latest calls, oldest first."""
        return [snapshot.request(request) for request in self.log]

    def state(self, limit: int = 1000) -> wire.JSON:
        """Return every queue with what became of its messages, and its ``limit`` oldest ones."""
        reports = [self.broker.report(queue_id, limit) for queue_id in self.queues().values()]
        return {
            "now_ms": self.broker.clock.now_ms(),
            "advanced_seconds": self.broker.clock.offset_ms / 1000,
            "account_id": self.account_id,
            "json_encoding": self.json_encoding,
            "operations_today": self.broker.operations.used,
            "faults": self.faults.active(),
            "queues": [snapshot.queue(report, self.broker.deliveries(report.queue)) for report in reports],
        }

    def reset(self) -> None:
        """Go back to the start: its queues with their ids, real time, no messages, faults or logged calls."""
        self._forget()
        self.broker.store.clear()
        self.broker.clock.offset_ms = 0
        self.broker.store.put("clock_offset_ms", 0)
        for queue in self._at_start:
            self.broker.queues.create(
                queue.name,
                queue_id=queue.id,
                settings=queue.settings,
                jurisdiction=queue.jurisdiction,
                consumer=queue.consumer,
            )

    def close(self) -> None:
        """Close the state file."""
        self.broker.close()


def _one_of(choices: tuple[str, ...], value: str, name: str) -> str:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


def _encoded(body: Any, content_type: str) -> bytes:
    if content_type == "json":
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    if not isinstance(body, str):
        raise ValueError(f"a {content_type} body must be a string")  # noqa: TRY004 -- one error for all
    return body.encode() if content_type == "text" else base64.b64decode(body, validate=True)
