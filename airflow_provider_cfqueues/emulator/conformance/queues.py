"""Queues and consumers: defaults, names, lists and changes."""

from __future__ import annotations

import secrets

from airflow_provider_cfqueues.emulator.conformance.api import NoOccasion
from airflow_provider_cfqueues.emulator.conformance.facts import Fact, Saw, Steps, documented, probe
from airflow_provider_cfqueues.emulator.conformance.lab import Lab

_SETTINGS = ("delivery_delay", "delivery_paused", "message_retention_period")
_OF_CONSUMER = ("batch_size", "max_retries", "retry_delay", "visibility_timeout_ms")


def _shown(settings: dict[str, object], names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {settings.get(name)}" for name in names)


@probe(
    documented(
        "queue-defaults",
        "The settings of a new queue; 86,400 seconds on the free plan.",
        "delivery_delay 0, delivery_paused False, message_retention_period 345600",
        "",
        "delivery_delay 0, delivery_paused False, message_retention_period 86400",
    ),
    documented("queue-name", "A name with capitals.", "400, code 11003", "status"),
    documented("queue-exists", "A name that is taken.", "409, code 11009", "status"),
    documented("put-queue", "PUT of a queue that names no settings.", "resets them", "put"),
    Fact("queue-deleted", "DELETE of a queue that is deleted.", "404, code 11000"),
)
def queues(lab: Lab, saw: Saw) -> Steps:
    """Create, change and delete queues."""
    queue = lab.create()
    saw["queue-defaults"] = _shown(queue.call("GET").result.get("settings", {}), _SETTINGS)
    saw["queue-name"] = str(lab.api.call("POST", "/queues", {"queue_name": "Not-A-Name"}))
    saw["queue-exists"] = str(lab.api.call("POST", "/queues", {"queue_name": queue.name}))
    queue.call("PATCH", "", {"settings": {"delivery_delay": 7}})
    queue.call("PUT", "", {"queue_name": queue.name})
    left = queue.call("GET").result.get("settings", {}).get("delivery_delay")
    saw["put-queue"] = {0: "resets them", 7: "keeps them"}.get(left, f"delivery_delay is {left}")
    queue.call("DELETE")
    saw["queue-deleted"] = str(queue.call("DELETE"))
    yield 0


@probe(
    Fact("list-page", "How many queues the list has a page.", "20", "pages"),
    Fact("list-per-page", "The list with per_page=1.", "1 queue", "pages"),
    documented("list-names", "The list with two names.", "both"),
    Fact("list-total", "The total_count of a list with a name.", "all queues", "pages"),
)
def lists(lab: Lab, saw: Saw) -> Steps:
    """List queues by page and by name."""
    names = sorted([lab.create().name, lab.create().name])
    first = lab.api.call("GET", "/queues")
    info = first.body.get("result_info", {})
    if info.get("per_page") == info.get("total_count"):
        saw["list-page"] = "all"
    elif info.get("per_page"):
        saw["list-page"] = str(info["per_page"])
    one = lab.api.call("GET", "/queues?per_page=1").body.get("result") or []
    saw["list-per-page"] = "1 queue" if len(one) == 1 else "more than one"
    named = lab.api.call("GET", f"/queues?name={names[0]}&name={names[1]}").body
    found = sorted(item["queue_name"] for item in named.get("result") or [])
    saw["list-names"] = "both" if found == names else f"{len(found)} queues"
    total = named.get("result_info", {}).get("total_count")
    if info.get("total_count") == 2:
        raise NoOccasion("the account has no other queue")
    saw["list-total"] = "all queues" if total == info.get("total_count") else "those with the name"
    yield 0


@probe(
    documented("pull-without-consumer", "A pull without a consumer.", "405, code 0"),
    documented("consumer-type-missing", "A consumer without a type.", "400, code 10026"),
    Fact(
        "consumer-defaults",
        "The settings of a new http_pull consumer.",
        "batch_size 10, max_retries 3, retry_delay 0, visibility_timeout_ms 30000",
        "consumer-defaults",
    ),
    Fact("consumer-propagation", "When the first pull works after the consumer was added.", "at once"),
    documented("consumer-exists", "A second consumer.", "409, code 11004", "status"),
    Fact("put-consumer", "PUT of a consumer that names no settings.", "resets them", "put"),
    Fact("consumer-missing", "GET of a consumer that does not exist.", "404, code 11006", "status"),
    documented("put-missing-consumer", "PUT of a consumer to a queue without one.", "adds one", "put"),
)
def consumers(lab: Lab, saw: Saw) -> Steps:
    """Add, change and delete a consumer."""
    queue = lab.create()
    saw["pull-without-consumer"] = str(queue.pull_once())
    saw["consumer-type-missing"] = str(queue.call("POST", "/consumers", {}))
    queue.consume()
    one = f"/consumers/{queue.consumer_id}"
    saw["consumer-defaults"] = _shown(queue.call("GET", one).result.get("settings", {}), _OF_CONSUMER)
    waited = yield from lab.until_pulled(queue)
    saw["consumer-propagation"] = "at once" if not waited else "later"
    saw["consumer-exists"] = str(queue.call("POST", "/consumers", {"type": "http_pull"}))
    queue.consume(max_retries=9)
    queue.consume()
    left = queue.call("GET", one).result.get("settings", {}).get("max_retries")
    saw["put-consumer"] = {3: "resets them", 9: "keeps them"}.get(left, f"max_retries is {left}")
    queue.call("DELETE", one)
    saw["consumer-missing"] = str(queue.call("GET", one))
    added = queue.call("PUT", f"/consumers/{secrets.token_hex(16)}", {"type": "http_pull"})
    saw["put-missing-consumer"] = added.said("adds one")


@probe(
    documented(
        "dead-letter-queue",
        "A consumer names a dead-letter queue that does not exist.",
        "the queue is created at once",
        "dead-letter-queue",
    ),
    Fact("own-dead-letter-queue", "A queue as its own dead-letter queue.", "400, code 100127", "status"),
)
def dead_letter_queue(lab: Lab, saw: Saw) -> Steps:
    """Name a dead-letter queue that is not there."""
    name = lab.name()
    queue = lab.create()
    saw["own-dead-letter-queue"] = str(queue.consume(dead_letter_queue=queue.name))
    answer = queue.consume(dead_letter_queue=name)
    if answer.ok:
        saw["dead-letter-queue"] = "the queue is created at once" if lab.find([name]) else "no queue is created"
    else:
        saw["dead-letter-queue"] = answer.said()
    yield 0
