"""One endpoint over HTTP, with the standard library: calls that are counted, and never repeated."""

from __future__ import annotations

import http.client
import json
import math
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CLOUDFLARE = "https://api.cloudflare.com/client/v4"
TIMEOUT_SECONDS = 30
MAX_OPERATIONS = 1_000
OPERATION_BYTES = 64_000


class NoOccasion(Exception):
    """The endpoint gives no occasion to see something; the text says why."""


class StopProbing(Exception):
    """The run cannot go on: its limits are reached, or the endpoint does not answer as an API does."""


@dataclass(frozen=True)
class Answer:
    """An answer; ``body`` is an empty object where it was no JSON object."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the call was carried out."""
        return self.status == 200 and self.body.get("success") is True

    @property
    def result(self) -> Any:
        """What the call is about; an empty object where there is nothing."""
        return self.body.get("result") or {}

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of a pull, peek or preview."""
        return self.result.get("messages") or []

    @property
    def code(self) -> Any:
        """Cloudflare's code of the first error."""
        errors = self.body.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else {}
        return first.get("code") if isinstance(first, dict) else None

    def __str__(self) -> str:
        return "200" if self.ok else f"{self.status}, code {self.code}"

    # The words for what was seen, so that equal answers have equal words.

    def said(self, yes: str = "accepted") -> str:
        """Return whether the call was carried out."""
        return yes if self.ok else f"refused: {self}"

    def taken(self, count: str = "ackCount") -> str:
        """Return whether the lease of an ack call still counted, however a refusal of it is told."""
        return "counted" if self.ok and self.result.get(count) else "not counted"

    def settled(self, count: str = "ackCount") -> str:
        """Return what became of the leases of an ack call."""
        if not self.ok:
            return self.said()
        warned = "with a warning" if self.result.get("warnings") else "without a warning"
        return f"{self.result.get(count)} counted, {warned}"


class Api:
    """The API of one account."""

    def __init__(self, base_url: str, account_id: str, token: str) -> None:
        parts = urlsplit(base_url.rstrip("/"))
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
        self._path = parts.path
        self.host = parts.netloc
        self.account_id = account_id
        self.token = token
        self.requests = 0
        self.operations = 0
        self.limited = True

    def call(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, raw: bool = False
    ) -> Answer:
        """
        Make one call.

        :param path: after the account; after the base URL if it begins with ``//``.
        :param body: JSON to send, or bytes.
        :param headers: credentials instead of the token.
        :param raw: the path is not of the API but of its host.
        """
        if self.limited and self.operations >= MAX_OPERATIONS:
            raise StopProbing(f"{MAX_OPERATIONS} operations are used up")
        base = "" if raw else self._path if path.startswith("//") else f"{self._path}/accounts/{self.account_id}"
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.token}"} if headers is None else headers
        self.requests += 1
        self._connection.request(
            method,
            base + path.replace("//", "/", 1),
            data,
            {"Accept": "application/json", "Content-Type": "application/json", **given},
        )
        response = self._connection.getresponse()
        text = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, found, _object(text))
        if self.limited and answer.status == 429 and answer.code in (971, 10253):
            raise StopProbing(f"the endpoint refuses further calls ({answer})")
        if self.limited and not raw and answer.status >= 500:
            # Nobody knows whether the call was carried out, so it is not sent again.
            raise NoOccasion(f"the endpoint answered {answer.status}")
        return answer

    def charge(self, *sizes: int) -> None:
        """Count the operations that a call is billed as: each 64 KB of each body."""
        self.operations += sum(max(1, math.ceil(size / OPERATION_BYTES)) for size in sizes)

    def hide(self, text: str) -> str:
        """Return a text without the token and the account."""
        for secret, name in ((self.token, "TOKEN"), (self.account_id, "ACCOUNT")):
            text = text.replace(secret, f"<{name}>") if secret else text
        return text

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
