"""The answers against Cloudflare's own schema, which is not part of this project."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

SCHEMA = os.environ.get("CFQ_OPENAPI")
jsonschema = pytest.importorskip("jsonschema")

pytestmark = pytest.mark.skipif(not SCHEMA, reason="set CFQ_OPENAPI to Cloudflare's OpenAPI file to run this")


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    assert SCHEMA
    with open(SCHEMA, encoding="utf-8") as file:
        return json.load(file)


class Checked:
    """The API, every answer of which is validated."""

    def __init__(self, api, spec) -> None:
        self.api = api
        self.spec = spec
        self.seen: set[tuple[str, str]] = set()

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        response = self.api.call(method, path, body)
        template = next(
            template
            for template in sorted(self.spec["paths"], key=lambda known: known.count("{"))
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path.partition("?")[0])
        )
        self.seen.add((method, template))
        answers = self.spec["paths"][template][method.lower()]["responses"]
        answer = answers["200" if response.status_code == 200 else "4XX"]
        schema = {**answer["content"]["application/json"]["schema"], "components": self.spec["components"]}
        jsonschema.Draft4Validator(schema).validate(response.json())
        return response.json()["result"]


def test_every_answer_matches_the_published_schema(api, spec):
    call = Checked(api, spec)
    queues, consumer = f"{api.account}/queues", {"type": "http_pull", "dead_letter_queue": "dead"}
    queue = f"{queues}/{call('POST', queues, {'queue_name': 'orders'})['queue_id']}"
    call("GET", queues)
    call("GET", queue)
    call("PATCH", queue, {"settings": {"delivery_delay": 0}})
    call("PUT", queue, {"queue_name": "orders"})
    one = f"{queue}/consumers/{call('POST', f'{queue}/consumers', consumer)['consumer_id']}"
    call("GET", f"{queue}/consumers")
    call("GET", one)
    call("PUT", one, consumer)
    call("POST", f"{queue}/messages", {"body": {"a": 1}})
    call("POST", f"{queue}/messages/batch", {"messages": [{"body": {"a": 1}}] * 4})
    call("GET", f"{queue}/metrics")
    [message] = call("POST", f"{queue}/messages/pull", {"batch_size": 1})["messages"]
    lease = {"lease_id": message["lease_id"]}
    call("POST", f"{queue}/messages/extend", {"extend": [lease, {"lease_id": "nix"}]})
    call("POST", f"{queue}/messages/ack", {"acks": [lease, {"lease_id": "nix"}]})
    [peeked, *_] = call("POST", f"{queue}/messages/peek", {})["messages"]
    call("POST", f"{queue}/messages/purge", {"refs": [{"ref": peeked["ref"]}, {"ref": "nix"}]})
    [preview, *_] = call("POST", f"{queue}/messages/preview", {})["messages"]
    acks = [{"lease_id": preview["lease_id"]}, {"lease_id": "nix"}]
    call("POST", f"{queue}/messages/preview/ack", {"acks": acks})
    call("POST", f"{queue}/purge", {"delete_messages_permanently": True})
    call("GET", f"{queue}/purge")
    call("POST", f"{queue}/messages", {})
    subscriptions = f"{api.account}/event_subscriptions/subscriptions"
    destination = {"type": "queues.queue", "queue_id": queue.rpartition("/")[2]}
    subscription = {"name": "kv", "source": {"type": "kv"}, "events": ["a"], "destination": destination}
    subscribed = f"{subscriptions}/{call('POST', subscriptions, subscription)['id']}"
    call("GET", subscriptions)
    call("GET", subscribed)
    call("PATCH", subscribed, {"enabled": False})
    call("DELETE", subscribed)
    call("DELETE", one)
    call("DELETE", queue)
    call("GET", queue)
    for path in ("/user/tokens/verify", f"{api.account}/tokens/verify"):
        call("GET", path)
    known = {
        (method.upper(), template)
        for template, methods in spec["paths"].items()
        for method in methods
        if method in ("get", "put", "post", "delete", "patch")
    }
    assert call.seen == known
