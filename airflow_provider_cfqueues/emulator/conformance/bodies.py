"""What can be sent, and how it is pulled."""

from __future__ import annotations

import base64
import json
from typing import Any

from airflow_provider_cfqueues.emulator.conformance.facts import Fact, Saw, Steps, documented, probe
from airflow_provider_cfqueues.emulator.conformance.lab import Lab

_JSON = {"ü": [1, "a"]}
_TEXT = "ü 1"
_REFUSED = "refused: 400, code 10207"


@probe(
    documented("text-encoding", "A text as it is pulled.", "as it is"),
    documented("text-metadata", "The metadata of a text.", "CF-Content-Type: text"),
)
def text(lab: Lab, saw: Saw) -> Steps:
    """Send and pull a text."""
    queue = yield from lab.queue()
    queue.send(_TEXT)
    message = yield from queue.one()
    encoded = base64.b64encode(_TEXT.encode()).decode()
    saw["text-encoding"] = {_TEXT: "as it is", encoded: "base64"}.get(message["body"], "something else")
    saw["text-metadata"] = _shown(message["metadata"])


@probe(
    documented("json-encoding", "A JSON body as it is pulled.", "base64", "json-encoding"),
    documented("json-metadata", "The metadata of a JSON body.", "CF-Content-Type: json"),
    documented("default-content-type", "A body without a content type.", "CF-Content-Type: json"),
)
def json_body(lab: Lab, saw: Saw) -> Steps:
    """Send and pull JSON."""
    queue = yield from lab.queue()
    queue.push({"body": _JSON, "content_type": "json"}, 10)
    message = yield from queue.one()
    saw["json-encoding"] = _encoding(message["body"])
    saw["json-metadata"] = _shown(message["metadata"])
    queue.push({"body": _JSON}, 10)
    message = yield from queue.one()
    saw["default-content-type"] = _shown(message["metadata"])


def _shown(metadata: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in sorted(metadata.items()))


def _encoding(body: str) -> str:
    try:
        return "plain" if json.loads(body) == _JSON else "something else"
    except ValueError:
        pass
    try:
        return "base64" if json.loads(base64.b64decode(body, validate=True)) == _JSON else "something else"
    except ValueError:
        return "something else"


@probe(
    documented("json-string", "A string as JSON.", _REFUSED, "json-bodies"),
    Fact("json-number", "A number as JSON.", _REFUSED, "json-bodies"),
    Fact("json-null", "null as JSON.", _REFUSED, "json-bodies"),
    documented("bytes", "The content type bytes.", "refused: 400, code 10203", "status"),
    Fact("no-body", "A message without a body.", _REFUSED, "status"),
    Fact("empty-text", "An empty text.", "accepted"),
    Fact("unknown-key", "A key that the API does not know.", "accepted"),
    documented("not-json", "A request that is not JSON.", "refused: 400, code 10208", "status"),
    documented("not-an-object", "A request that is a list.", _REFUSED, "status"),
    documented("batch-empty", "A batch of no messages.", _REFUSED, "status", "refused: 400, code 10013"),
)
def odd_bodies(lab: Lab, saw: Saw) -> Steps:
    """Send what may be refused."""
    queue = lab.create()
    for name, body in (("string", "a"), ("number", 1), ("null", None)):
        saw[f"json-{name}"] = queue.push({"body": body, "content_type": "json"}, 4).said()
    saw["bytes"] = queue.push({"body": "AA==", "content_type": "bytes"}, 1).said()
    saw["no-body"] = queue.push({"content_type": "text"}, 1).said()
    saw["empty-text"] = queue.send("").said()
    saw["unknown-key"] = queue.send("a", nobody_knows=1).said()
    saw["not-json"] = queue.push(b"{", 1).said()
    saw["not-an-object"] = queue.push([], 1).said()
    saw["batch-empty"] = queue.push({"messages": []}, action="/messages/batch").said()
    yield 0


@probe(
    documented("message-largest", "A message of 128,000 bytes.", "accepted", "sizes", "refused: 413, code 10204"),
    Fact("message-too-large", "A message of 128,001 bytes.", "refused: 413, code 10204", "status"),
    documented("batch-largest", "A batch of 256,000 bytes.", "accepted", "sizes"),
    Fact("batch-too-large", "A batch of 300,000 bytes.", "refused: 413, code 10205", "status"),
    documented("batch-too-long", "A batch of 101 messages.", "refused: 400, code 10206", "status"),
)
def sizes(lab: Lab, saw: Saw) -> Steps:
    """Send what is as large as may be, and larger."""
    queue = lab.create()
    saw["message-largest"] = queue.send("a" * 128_000).said()
    saw["message-too-large"] = queue.send("a" * 128_001).said()
    saw["batch-largest"] = queue.send(*["a" * 64_000] * 4).said()
    saw["batch-too-large"] = queue.send(*["a" * 100_000] * 3).said()
    saw["batch-too-long"] = queue.send(*["a"] * 101).said()
    yield 0


@probe(
    documented("push-answer", "What the answer to a message says.", "metadata.metrics"),
    documented("pull-answer", "The keys of what a pull answers.", "message_backlog_count, messages, metadata"),
    documented("message-keys", "The keys of a message.", "attempts, body, id, lease_id, metadata, timestamp_ms"),
    Fact("lease-shape", "What a lease looks like.", "compact JWE, dir, A256CBC-HS512"),
    documented("pull-of-nothing", "A pull from an empty queue.", "an empty list at once"),
)
def shapes(lab: Lab, saw: Saw) -> Steps:
    """Look at the shapes of answers."""
    queue = yield from lab.queue()
    nothing = queue.pull_once()
    saw["pull-of-nothing"] = "an empty list at once" if nothing.result.get("messages") == [] else "something else"
    sent = queue.send("a").result
    saw["push-answer"] = "metadata.metrics" if sent.get("metadata", {}).get("metrics") else "nothing"
    answer = yield from queue.answered()
    message = answer.messages[0]
    saw["pull-answer"] = ", ".join(sorted(answer.result))
    saw["message-keys"] = ", ".join(sorted(message))
    saw["lease-shape"] = _shape(message["lease_id"])


def _shape(lease: str) -> str:
    header, *rest = lease.split(".")
    try:
        kind = json.loads(base64.urlsafe_b64decode(header + "=="))
        return f"compact JWE, {kind['alg']}, {kind['enc']}" if len(rest) == 4 else "something else"
    except (ValueError, LookupError, TypeError):
        return "something else"
