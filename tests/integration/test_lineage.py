"""Lineage as the real OpenLineage provider and Airflow's own collector see it."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from importlib import resources
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from packaging.version import Version

from airflow_provider_cfqueues.emulator import Emulator
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import (
    QueueAckOperator,
    QueueProcessOperator,
    QueuePullOperator,
    QueueRedriveOperator,
    QueueSendOperator,
    QueueSettleOperator,
)
from airflow_provider_cfqueues.sensors.queues import QueueMessageSensor

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred


@pytest.fixture
def cf(connect):
    """An emulator whose account has letters in its ID."""
    with Emulator(queues=["orders", "orders-failed"], account_id="ABCdef01") as emulator:
        connect(emulator)
        yield emulator


@pytest.fixture
def extract():
    """Return the datasets of a task that ran, as OpenLineage's provider puts them into its events."""
    manager = pytest.importorskip("airflow.providers.openlineage.extractors.manager")

    def extract(task, state="success"):
        state = importlib.import_module("airflow.utils.state").TaskInstanceState(state)
        found = manager.ExtractorManager().extract_metadata(SimpleNamespace(run_id="run"), task, state, None)
        return [plain(dataset, "inputFacets") for dataset in found.inputs], [
            plain(dataset, "outputFacets") for dataset in found.outputs
        ]

    return extract


@pytest.fixture
def lineage(extract):
    """Run an operator; return its datasets."""

    def lineage(kind, **arguments):
        operator = kind(task_id="task", **arguments)
        try:
            operator.execute({})
        except CloudflareQueuesError:
            return extract(operator, "failed")
        return extract(operator)

    return lineage


def plain(dataset, facets):
    """Return namespace, name and the numbers of a dataset."""
    from openlineage.client.serde import Serde

    event = Serde.to_dict(dataset)
    numbers = {
        name: {key: value for key, value in facet.items() if not key.startswith("_")}
        for name, facet in event.get(facets, {}).items()
    }
    return event["namespace"], event["name"], numbers


ORDERS = ("cloudflare-queues://abcdef01", "orders")
FAILED = ("cloudflare-queues://abcdef01", "orders-failed")


def test_a_send_has_the_queue_as_output(cf, lineage):
    assert lineage(QueueSendOperator, queue_name="orders", messages=["a", "b"]) == (
        [],
        [(*ORDERS, {"outputStatistics": {"rowCount": 2}})],
    )


def test_a_pull_has_the_queue_as_input_empty_or_not(cf, lineage):
    assert lineage(QueuePullOperator, queue_name="orders") == ([(*ORDERS, {"inputStatistics": {"rowCount": 0}})], [])
    CloudflareQueuesHook().send(cf.queues["orders"], ["a", "b", "c"])
    assert lineage(QueuePullOperator, queue_name="orders") == ([(*ORDERS, {"inputStatistics": {"rowCount": 3}})], [])


def test_a_queue_given_by_id_is_named_by_it(cf, lineage):
    ((_, name, _),), _ = lineage(QueuePullOperator, queue_id=cf.queues["orders"])
    assert name == cf.queues["orders"]


def test_settling_counts_in_a_facet_of_its_own_and_reads_no_rows(cf, lineage):
    CloudflareQueuesHook().send(cf.queues["orders"], ["a", "b", "c"])
    first, *others = [m.lease_id for m in CloudflareQueuesHook().pull(cf.queues["orders"], max_messages=3)]
    settled = lineage(
        QueueSettleOperator, queue_name="orders", ack_lease_ids=["unknown", *others], retry_lease_ids=first
    )
    counts = {"acked": 2, "retried": 1, "unconfirmed": 1}
    assert settled == ([(*ORDERS, {"cloudflareQueues_messages": counts})], [])


def test_the_facet_of_its_own_leads_to_the_schema_that_describes_it(cf):
    facets = pytest.importorskip("airflow_provider_cfqueues.telemetry.facets")
    from openlineage.client.serde import Serde

    facet = Serde.to_dict(facets.CloudflareQueuesMessagesInputDatasetFacet(acked=1, retried=2, unconfirmed=0))
    url, _, pointer = facet["_schemaURL"].partition("#/$defs/")
    name = url.rpartition("/")[2]
    schema = json.loads((resources.files("airflow_provider_cfqueues.telemetry") / name).read_text())
    assert (schema["$id"], re.search(r"/v\d+\.\d+\.\d+/", url) is not None) == (url, True)
    base, own = schema["$defs"][pointer]["allOf"]
    assert base["$ref"].endswith("/InputDatasetFacet")
    assert own["properties"].keys() == {key for key in facet if not key.startswith("_")}
    assert list(schema["properties"]) == ["cloudflareQueues_messages"]


def test_processing_reads_the_queue_and_writes_the_dead_letter_queue(cf, lineage):
    CloudflareQueuesHook().send(cf.queues["orders"], ["good", "again", "bad"])

    def handle(message):
        from airflow_provider_cfqueues.outcomes import Reject, Retry

        if message.body == "bad":
            raise Reject("no such thing")
        return Retry() if message.body == "again" else None

    inputs, outputs = lineage(
        QueueProcessOperator, queue_name="orders", handler=handle, dead_letter_queue="orders-failed", idle_timeout=0
    )
    ((*queue, numbers),) = inputs
    assert tuple(queue) == ORDERS
    assert numbers["inputStatistics"] == {"rowCount": 3}
    assert numbers["cloudflareQueues_messages"] == {"acked": 2, "retried": 1, "unconfirmed": 0}
    assert outputs == [(*FAILED, {"outputStatistics": {"rowCount": 1}})]


def test_a_sensor_that_waited_in_the_triggerer_has_the_queue_as_input(cf, extract):
    def sensor():
        return QueueMessageSensor(task_id="wait", queue_name="orders", deferrable=True, poke_interval=0)

    with pytest.raises(TaskDeferred) as deferred:
        sensor().execute({})
    CloudflareQueuesHook().send(cf.queues["orders"], ["a", "b"])

    async def fire():
        (event,) = [event async for event in deferred.value.trigger.run()]
        return json.loads(json.dumps(event.payload))

    resumed = sensor()
    resumed.execute_complete({}, asyncio.run(fire()))
    assert extract(resumed) == ([(*ORDERS, {"inputStatistics": {"rowCount": 2}})], [])


def test_a_redrive_reads_one_queue_and_writes_the_other(cf, lineage):
    CloudflareQueuesHook().send(cf.queues["orders-failed"], ["a", "b"])
    queues = {"queue_name": "orders-failed", "target_queue_name": "orders"}
    inputs, outputs = lineage(QueueRedriveOperator, idle_timeout=0, **queues)
    counts = {"acked": 2, "retried": 0, "unconfirmed": 0}
    assert inputs == [(*FAILED, {"inputStatistics": {"rowCount": 2}, "cloudflareQueues_messages": counts})]
    assert outputs == [(*ORDERS, {"outputStatistics": {"rowCount": 2}})]


def test_a_target_given_by_id_has_its_name(cf, lineage):
    CloudflareQueuesHook().send(cf.queues["orders-failed"], ["a"])
    queues = {"queue_name": "orders-failed", "target_queue_id": cf.queues["orders"]}
    _, outputs = lineage(QueueRedriveOperator, idle_timeout=0, **queues)
    assert outputs == [(*ORDERS, {"outputStatistics": {"rowCount": 1}})]


def test_a_task_that_failed_half_way_reports_what_it_did(cf, lineage):
    cf.add_fault(path="batch", delay_ms=0)
    cf.add_fault(path="batch", status=400, body={"success": False, "errors": [{"code": 10207, "message": "no"}]})
    _, outputs = lineage(QueueSendOperator, queue_name="orders", messages=["x"] * 150)
    assert outputs == [(*ORDERS, {"outputStatistics": {"rowCount": 100}})]


def test_a_task_that_did_nothing_has_no_lineage(cf, lineage):
    assert lineage(QueueAckOperator, queue_name="orders", lease_ids=None) == ([], [])


@pytest.fixture
def collected(monkeypatch):
    """Airflow's collector of hook lineage, switched on as a plugin that reads it does."""
    for name in ("airflow.sdk.lineage", "airflow.lineage.hook"):
        try:
            module = importlib.import_module(name)
            break
        except ModuleNotFoundError:
            continue
    collector = module.HookLineageCollector()
    monkeypatch.setattr(module, "get_hook_lineage_collector", lambda: collector)

    def collected():
        try:
            found = collector.collected_assets
            return [[(info.asset.uri, info.context) for info in infos] for infos in (found.inputs, found.outputs)]
        except AttributeError:  # Airflow 2
            found = collector.collected_datasets
            return [[(info.dataset.uri, info.context) for info in infos] for infos in (found.inputs, found.outputs)]

    return collected


def asset(uri):
    try:
        from airflow.sdk import Asset
    except ImportError:  # Airflow 2
        from airflow.datasets import Dataset as Asset
    return Asset(uri=uri)


def test_an_asset_as_inlet_or_outlet_is_the_same_dataset(cf, extract):
    if Version(version("apache-airflow-providers-openlineage")) <= Version("2.13"):
        pytest.skip("this OpenLineage provider does not look at assets among inlets and outlets")
    orders, failed = (asset(f"cloudflare-queues://ABCdef01/{name}") for name in ("orders", "orders-failed"))
    task = QueueAckOperator(task_id="task", queue_name="orders", lease_ids=None, inlets=[orders], outlets=[failed])
    assert extract(task) == ([(*ORDERS, {})], [(*FAILED, {})])


def test_the_calls_of_a_hook_are_hook_lineage(cf, collected):
    hook = CloudflareQueuesHook()
    queue = hook.get_queue_id("orders")
    assert collected() == [[], []]
    hook.send(queue, ["a"])
    orders = ("cloudflare-queues://abcdef01/orders", hook)
    assert collected() == [[], [orders]]
    for message in hook.pull(queue, max_messages=1):
        hook.ack(queue, acks=[message])
    assert collected() == [[orders], [orders]]


def test_openlineage_reads_what_a_task_did_through_a_hook(cf, collected, extract):
    hook = CloudflareQueuesHook()
    hook.send(hook.get_queue_id("orders"), ["a"])
    task = QueueAckOperator(task_id="task", queue_name="orders", lease_ids=None)
    assert extract(task) == ([], [(*ORDERS, {})])


def test_the_async_calls_of_a_hook_are_hook_lineage_too(cf, collected):
    hook = CloudflareQueuesHook()

    async def use():
        await hook.apull(cf.queues["orders"], max_messages=1)
        await hook.aclose()

    asyncio.run(use())
    assert collected() == [[(f"cloudflare-queues://abcdef01/{cf.queues['orders']}", hook)], []]
