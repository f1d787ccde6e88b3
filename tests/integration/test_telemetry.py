"""What Airflow's metrics and OpenTelemetry are told, and that docs/metrics.md lists all of it and nothing else."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

from airflow_provider_cfqueues._compat import Stats
from airflow_provider_cfqueues.client import message_calls, queue_calls
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.processing.running import Metrics
from airflow_provider_cfqueues.engines.settlement import Kind
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Consumer
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator, QueueRedriveOperator
from airflow_provider_cfqueues.outcomes import Reject, Retry

QUEUES = ["orders", "orders-failed"]

PAGE = (Path(__file__).parent.parent.parent / "docs" / "metrics.md").read_text()


@pytest.fixture
def sent(monkeypatch):
    """Everything that goes to Airflow's metrics: kind, name, value and tags."""
    sent = []

    def keep(kind):
        return lambda name, value=1, *, tags: sent.append((kind, name, value, tags))

    for kind in ("incr", "gauge", "timing"):
        monkeypatch.setattr(Stats, kind, keep(kind))
    return sent


def table_below(heading):
    """Return the rows of the page's table below a heading, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def ticked(cell):
    return frozenset(re.findall(r"`([^`]+)`", cell))


def is_moved(message):
    return message.body == "move" or isinstance(message.body, bytes)


def use_everything(cf):
    """Make each kind of request, and one that fails."""
    orders = cf.queues["orders"]
    hook = CloudflareQueuesHook()
    hook.get_queue_id("orders")
    hook.send(orders, ["a", "b", "c", "d"])
    first, second, *_ = hook.pull(orders, max_messages=4, visibility_timeout=1)
    hook.ack(orders, acks=[first], retries=[second, "unknown"])
    hook.get_metrics(orders)
    hook.test_connection()
    cf.advance(10)

    def handle(message):
        if message.body == "d":
            raise Reject
        return Retry(delay_seconds=60)

    processed = {"queue_name": "orders", "task_id": "task", "dead_letter_queue": "orders-failed", "idle_timeout": 0}
    QueueProcessOperator(handler=handle, **processed).execute({})
    hook.send(orders, ["late"])
    cf.add_fault("pull", delay_ms=50)
    QueueProcessOperator(handler=handle, visibility_timeout=0.001, fail_on="none", max_messages=1, **processed).execute(
        {}
    )
    hook.send(cf.queues["orders-failed"], ["move", "stay"])
    cf.send(cf.queues["orders-failed"], "AP8=", content_type="bytes")
    hook.update_pull_consumer(cf.queues["orders-failed"], consumer_max_retries=1)
    redriven = {"queue_name": "orders-failed", "target_queue_name": "orders", "task_id": "task", "idle_timeout": 0}
    QueueRedriveOperator(match=f"function:{__name__}.is_moved", **redriven).execute({})
    Metrics(orders).send(Report(fates=Counter({Kind.ACKED_FROM_JOURNAL: 1})))  # what only Airflow 3.3 can count
    cf.add_fault(path="metrics", status=400, body={"success": False, "errors": [{"code": 1, "message": "no"}]})
    with pytest.raises(CloudflareQueuesError):
        hook.get_metrics(orders)
    hook.close()


def test_the_page_lists_each_metric_with_its_tags(cf, sent):
    use_everything(cf)
    kinds = {"incr": "counter", "gauge": "gauge", "timing": "timer"}
    seen = {}
    for kind, name, _, tags in sent:
        seen.setdefault((name, kinds[kind]), set()).update(tags)
    listed = {}
    for name, kind, what in table_below("Metrics"):
        (short,) = ticked(name)
        listed[f"cloudflare_queues.{short}", kind] = {"queue", *ticked(re.sub(r".*?(; tags? |$)", "", what, count=1))}
    assert listed == seen
    assert {tags["queue"] for *_, tags in sent if "call" not in tags} == set(cf.queues.values())


CALLS = re.search(r"\*\*`call`\*\* is ([^.]*)\.", PAGE)[1]


def calls_of_the_api():
    """Make one call of each function of the API."""
    given = {
        "queue_id": "5d41402abc4b2a76b9719d911017c592",
        "acks": [],
        "retries": [],
        "max_messages": 1,
        "visibility_timeout": 1,
        "lease_seconds": 1,
        "messages": [],
        "repeat_ambiguous": False,
        "consumer_id": "5d41402abc4b2a76b9719d911017c592",
        "consumer": Consumer(type="http_pull", consumer_id="5d41402abc4b2a76b9719d911017c592"),
        "name": "orders",
        "settings": {},
        "page": 1,
        "account_owned": False,
    }
    for function in (*vars(message_calls).values(), *vars(queue_calls).values()):
        if inspect.isfunction(function) and "Call[" in str(function.__annotations__.get("return")):
            yield function(**{parameter: given[parameter] for parameter in inspect.signature(function).parameters})


def test_the_page_names_each_call_of_the_api():
    assert {call.operation for call in calls_of_the_api()} == ticked(CALLS)


def test_each_call_has_a_name_of_its_own_that_follows_could_not():
    names = [call.name for call in calls_of_the_api()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z]+ [A-Za-z ]+", name) for name in names)


def test_each_call_about_a_queue_names_it_for_errors_and_metrics():
    queue = "5d41402abc4b2a76b9719d911017c592"
    assert {call.queue for call in calls_of_the_api() if queue in call.path} == {queue}


def test_the_calls_of_a_hook_are_counted(cf, sent):
    orders = cf.queues["orders"]
    hook = CloudflareQueuesHook()
    hook.send(orders, ["a", "b", "c"])
    first, *others = hook.pull(orders, max_messages=10)
    hook.ack(orders, acks=others, retries=[first, "unknown"])
    tags = {"queue": orders}
    counted = [(name, value) for kind, name, value, given in sent if kind == "incr" and given == tags]
    assert counted == [
        ("cloudflare_queues.sent", 3),
        ("cloudflare_queues.pulled", 3),
        ("cloudflare_queues.acked", 2),
        ("cloudflare_queues.retried", 1),
        ("cloudflare_queues.unconfirmed", 1),
    ]
    assert [value for kind, name, value, given in sent if kind == "gauge"] == [3, 3]


def test_where_the_api_counts_nothing_confirmed_leases_are_counted(cf, sent):
    hook = CloudflareQueuesHook()
    cf.add_fault(path="ack", status=200, body={"success": True, "result": {"warnings": {"b": "unknown"}}})
    hook.ack(cf.queues["orders"], acks=["a", "b"], retries=["c"])
    counted = {name: value for kind, name, value, _ in sent if kind == "incr"}
    assert counted == {
        "cloudflare_queues.acked": 1,
        "cloudflare_queues.retried": 1,
        "cloudflare_queues.unconfirmed": 1,
    }


def test_a_redrive_counts_each_message_once(cf, sent):
    failed, hook = cf.queues["orders-failed"], CloudflareQueuesHook()
    hook.send(failed, ["move", "move", "stay"])
    cf.send(failed, "AP8=", content_type="bytes")
    redriven = {"queue_name": "orders-failed", "target_queue_name": "orders", "idle_timeout": 0, "fail_on": "none"}
    QueueRedriveOperator(task_id="task", match=f"function:{__name__}.is_moved", **redriven).execute({})
    counted = Counter()
    for kind, name, value, tags in sent:
        if kind == "incr" and tags["queue"] == failed:
            counted[name.removeprefix("cloudflare_queues.")] += value
    assert counted == {"sent": 3, "pulled": 4, "moved": 2, "acked": 2, "unmatched": 1, "unmovable": 1, "retried": 2}


def test_each_try_is_timed_and_each_failure_counted_by_its_class(cf, sent):
    cf.add_fault(path="ack", status=429, headers={"Retry-After": "0"}, body={"success": False, "errors": []})
    CloudflareQueuesHook().ack(cf.queues["orders"], acks=["a"])
    assert len([name for kind, name, *_ in sent if kind == "timing"]) == 2
    (error,) = [tags for _, name, _, tags in sent if name == "cloudflare_queues.request_errors"]
    assert error == {"call": "ack", "queue": cf.queues["orders"], "error": "RateLimitedError"}


@pytest.fixture(scope="module")
def exporter():
    """Spans of this process, kept in memory; OpenTelemetry takes one provider in the life of a process."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter):
    """The spans that ended, in order."""
    exporter.clear()
    return exporter.get_finished_spans


def test_the_page_lists_each_attribute_of_a_span(cf, spans):
    use_everything(cf)
    attributes = {name for span in spans() for name in span.attributes}
    assert {next(iter(ticked(name))) for name, *_ in table_below("Spans")} == attributes


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_each_request_is_a_span(cf, spans, kind):
    orders = cf.queues["orders"]
    hook = CloudflareQueuesHook()

    async def send():
        await hook.asend(orders, ["a", "b"])
        await hook.aclose()

    if kind == "sync":
        hook.send(orders, ["a", "b"])
    else:
        asyncio.run(send())
    (span,) = spans()
    assert (span.name, span.kind.name, span.status.is_ok) == (f"send {orders}", "CLIENT", True)
    assert dict(span.attributes) == {
        "messaging.system": "cloudflare_queues",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": orders,
        "messaging.batch.message_count": 2,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "cloudflare_queues.conn_id": "cloudflare_default",
    }


def test_a_span_of_a_failed_request_names_the_error_and_no_secret_or_lease(cf, spans):
    body = {"success": False, "errors": [{"code": 1, "message": f"bad header Bearer {cf.api_token}"}]}
    cf.add_fault(path="ack", status=403, body=body)
    lease = "eyJhbGciOiJkaXIi" + "x" * 150
    with pytest.raises(CloudflareQueuesError):
        CloudflareQueuesHook().ack(cf.queues["orders"], acks=[lease])
    (span,) = spans()
    assert (span.status.is_ok, span.attributes["error.type"]) == (False, "PermissionDeniedError")
    assert span.attributes["http.response.status_code"] == 403
    assert cf.api_token not in span.to_json()
    assert lease not in span.to_json()


def test_a_request_under_a_span_of_the_task_is_its_child(cf, spans):
    from opentelemetry import trace

    with trace.get_tracer("task").start_as_current_span("task"):
        CloudflareQueuesHook().list_queues()
    child, parent = spans()
    assert (child.name, child.parent.span_id) == ("list_queues", parent.context.span_id)
