"""The operators inside a real Airflow: whole DAGs through ``dag.test()``, XCom and dynamic task mapping included."""

from __future__ import annotations

import json
import os
import runpy
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from airflow import DAG
from airflow.utils.session import create_session
from stored_dags import store

from airflow_provider_cfqueues._compat import HAS_ASSET_WATCHERS, HAS_SHARED_STREAMS
from airflow_provider_cfqueues.assets.queues import create_asset
from airflow_provider_cfqueues.events import event_batches
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators import queues as operators
from airflow_provider_cfqueues.operators.base import QueueOperator
from airflow_provider_cfqueues.operators.queues import (
    QueueAckOperator,
    QueueDeletePullConsumerOperator,
    QueueProcessOperator,
    QueuePullOperator,
    QueueRetryOperator,
    QueueSendOperator,
    QueueSettleOperator,
    QueueTriggerDagRunsOperator,
)
from airflow_provider_cfqueues.outcomes import Reject
from airflow_provider_cfqueues.sensors.queues import QueueBacklogSensor, QueueMessageSensor

try:
    from airflow.sdk import task
except ImportError:  # Airflow 2
    from airflow.decorators import task

try:
    from airflow.models.asset import AssetEvent
except ImportError:  # Airflow 2
    from airflow.models.dataset import DatasetEvent as AssetEvent

QUEUES = ["orders", "orders-failed", "alerts"]

# What Airflow's own modules warn of while a DAG runs is not ours to mend; a warning in ours is still an error.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings(r"error:::airflow_provider_cfqueues\..*"),
]

EXAMPLES = Path(__file__).parent.parent.parent / "example_dags"


@pytest.fixture(scope="module")
def airflow_db():
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def run_dag(airflow_db):
    """Run a DAG to its end; return its task instances' XComs by a function of task, key and map index."""

    def run(dag):
        _serialize(dag)
        dag_run = dag.test()
        assert dag_run.state == "success"
        instances = {(ti.task_id, ti.map_index): ti for ti in dag_run.get_task_instances()}

        def xcom(task_id, key="return_value", map_index=-1):
            return instances[task_id, map_index].xcom_pull(task_ids=task_id, key=key, map_indexes=map_index)

        return xcom

    return run


def _serialize(dag):
    """Airflow 3.1 and later test only a DAG that is in the database."""
    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:
        try:
            from airflow.models.dagbag import DagBag, sync_bag_to_db
        except ImportError:  # Airflow 2.11 and 3.0
            return
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)


def in_queue(cf, *states):
    (queue,) = (queue for queue in cf.state()["queues"] if queue["name"] == "orders")
    return [message for message in queue["messages"] if message["state"] in states]


def test_the_example_acks_what_it_could_ship_and_gives_the_rest_back(cf, run_dag, capsys):
    CloudflareQueuesHook().send(cf.queues["orders"], [{"quantity": number % 3} for number in range(9)])
    example = runpy.run_path(str(EXAMPLES / "cloudflare_queues_ack_retry.py"))
    xcom = run_dag(example["cloudflare_queues_ack_retry"]())
    assert len(xcom("pull")) == 9
    assert xcom("ack") == {"ack_count": 6, "retry_count": 0, "warnings": {}}
    assert (xcom("ack", "ack_count"), xcom("retry", "retry_count")) == (6, 3)
    assert [message["attempts"] for message in in_queue(cf, "delayed")] == [1, 1, 1]
    assert in_queue(cf, "ready", "leased") == []


def test_the_example_of_processing_ships_retries_and_rejects(cf, run_dag):
    CloudflareQueuesHook().send(cf.queues["orders"], [{"quantity": 1}, {"quantity": 2}, {"quantity": 0}, {"name": "?"}])
    example = runpy.run_path(str(EXAMPLES / "cloudflare_queues_process.py"))
    report = run_dag(example["cloudflare_queues_process"]())("ship")
    assert {key: report[key] for key in ("acked", "retried", "rejected", "failed")} == {
        "acked": 2,
        "retried": 1,
        "rejected": 1,
        "failed": 2,
    }
    (copy,) = CloudflareQueuesHook().pull(cf.queues["orders-failed"], max_messages=10)
    assert copy.body["body"] == {"name": "?"}


def example_dag(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))[name]()


def test_the_example_of_the_quickstart_acks_what_it_sent(cf, run_dag):
    xcom = run_dag(example_dag("cloudflare_queues_quickstart"))
    assert xcom("send") == {"sent_count": 2, "backlog_count": 2}
    assert xcom("ack", "ack_count") == 2
    assert in_queue(cf, "ready", "leased", "delayed") == []


def test_the_example_of_settling_acks_and_retries_in_one_request(cf, run_dag):
    CloudflareQueuesHook().send(cf.queues["orders"], [{"quantity": 1}, {"quantity": 0}, {"quantity": 2}])
    xcom = run_dag(example_dag("cloudflare_queues_settle"))
    assert xcom("settle") == {"ack_count": 2, "retry_count": 1, "warnings": {}}
    assert [request["path"].rpartition("/")[2] for request in cf.requests()].count("ack") == 1


def test_the_example_of_sending_sends_now_and_later(cf, run_dag):
    reminders = cf.create_queue("reminders")
    assert run_dag(example_dag("cloudflare_queues_send"))("send")["sent_count"] == 2
    (queue,) = (queue for queue in cf.state()["queues"] if queue["id"] == reminders)
    assert queue["states"] == {"ready": 1, "delayed": 1, "leased": 0}


def test_the_example_of_runs_starts_one_for_each_message(cf, run_dag):
    CloudflareQueuesHook().send(cf.queues["orders"], [{"quantity": 1}, {"quantity": 2}])
    example = runpy.run_path(str(EXAMPLES / "cloudflare_queues_trigger_runs.py"))
    store(shipping := example["cloudflare_queues_ship_order"]())
    report = run_dag(example["cloudflare_queues_trigger_runs"]())("start_runs")
    assert (report["runs_started"], report["acked"], in_queue(cf, "ready", "leased")) == (2, 2, [])
    dag_run = shipping.test(run_conf={"id": "one", "body": {"quantity": 1}})
    assert dag_run.state == "success"


def test_the_example_of_one_kind_starts_runs_for_it_alone(cf, run_dag):
    for name in ("shop", "shop-failed"):
        cf.create_queue(name)
    hook = CloudflareQueuesHook()
    bodies = [{"type": kind, "order": 7} for kind in ("refund", "signup", "typo")]
    hook.send(hook.get_queue_id("shop"), [*bodies, "without a type"])
    example = runpy.run_path(str(EXAMPLES / "cloudflare_queues_one_kind.py"))
    store(refund := example["cloudflare_queues_refund"]())
    report = run_dag(example["cloudflare_queues_one_kind"]())("start_refunds")
    assert (report["runs_started"], report["retried"], report["rejected"]) == (1, 1, 2)
    assert refund.test(run_conf={"type": "refund", "order": 7}).state == "success"


def test_the_example_of_routing_sends_each_message_to_the_queue_of_its_kind(cf, run_dag):
    for name in ("shop", "shop-failed", "refunds", "signups"):
        cf.create_queue(name)
    hook = CloudflareQueuesHook()
    bodies = [{"type": kind, "order": 7} for kind in ("refund", "signup", "typo", "refund")]
    hook.send(hook.get_queue_id("shop"), [*bodies, "without a type", {"type": ["refund"]}])
    report = run_dag(example_dag("cloudflare_queues_route"))("route")
    assert (report["acked"], report["rejected"]) == (3, 3)
    backlogs = {queue["name"]: queue["backlog_count"] for queue in cf.state()["queues"]}
    assert [backlogs[name] for name in ("shop", "shop-failed", "refunds", "signups")] == [0, 3, 2, 1]


def test_the_event_of_an_outlet_carries_the_counts_of_a_send(cf, run_dag):
    queue = create_asset(account_id=cf.account_id, queue_name="orders")
    with DAG("outlet", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), schedule=None) as dag:
        QueueSendOperator(task_id="send", queue_name="orders", messages=["a", "b"], outlets=[queue])
    store(dag)
    run_dag(dag)
    with create_session() as session:
        (extra,) = [event.extra for event in session.query(AssetEvent) if event.source_dag_id == "outlet"]
    assert {key: extra[key] for key in ("sent_count", "backlog_count")} == {"sent_count": 2, "backlog_count": 2}


def test_the_example_of_batches_settles_each_message_by_its_outcome(cf, run_dag):
    bodies = [{"customer": 1}, {"customer": 2, "pending": True}, {"nobody": True}]
    CloudflareQueuesHook().send(cf.queues["orders"], [*bodies, *({"customer": 3} for _ in range(20))])
    report = run_dag(example_dag("cloudflare_queues_process_batch"))("store")
    assert {key: report[key] for key in ("acked", "retried", "rejected")} == {"acked": 21, "retried": 1, "rejected": 1}


def test_the_example_of_the_sensor_waits_in_the_triggerer_until_an_order_comes(cf, run_dag, tmp_path):
    hook, queue = CloudflareQueuesHook(), cf.queues["orders"]
    hook.send(queue, [{"type": "refund"}])
    path = tmp_path / "example.py"
    path.write_text((EXAMPLES / "cloudflare_queues_sensor.py").read_text().replace("interval=30", "interval=0.1"))
    late = threading.Thread(target=send_once_nothing_was_found, args=(cf, hook, queue), daemon=True)
    late.start()
    xcom = run_dag(runpy.run_path(str(path))["cloudflare_queues_sensor"]())
    late.join()
    assert [message["body"] for message in xcom("wait_for_orders")] == [{"type": "order", "quantity": 3}]
    assert xcom("ack", "ack_count") == 1
    assert [message["attempts"] for message in in_queue(cf, "delayed")] == [1]
    assert in_queue(cf, "ready", "leased") == []


def send_once_nothing_was_found(cf, hook, queue):
    while not any(request["path"].endswith("/peek") for request in cf.requests()):
        time.sleep(0.02)
    hook.send(queue, [{"type": "order", "quantity": 3}])


@pytest.mark.skipif(not HAS_SHARED_STREAMS, reason="the trigger settles from Airflow 3.3 on")
@pytest.mark.parametrize(
    ("name", "queues"),
    [
        ("cloudflare_queues_watch_event", {"orders"}),
        ("cloudflare_queues_watch_task", {"refunds"}),
        ("cloudflare_queues_watch_routes", {"shop"}),
    ],
)
def test_the_examples_of_watchers_are_scheduled_on_assets_that_watch(name, queues):
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(EXAMPLES / f"{name}.py")
    assert bag.import_errors == {}
    assert len(bag.dags) == (2 if name.endswith("routes") else 1)
    watched = set()
    for dag in bag.dags.values():
        for asset in dag.timetable.asset_condition.objects:
            (watcher,) = asset.watchers
            watched.add(watcher.trigger.serialize()[1]["queue_name"])
    assert watched == queues


def test_the_example_of_scaling_out_has_as_many_tasks_as_the_backlog_needs(cf, run_dag):
    CloudflareQueuesHook().send(cf.queues["orders"], [{"quantity": 1}] * 1_000)
    example = runpy.run_path(str(EXAMPLES / "cloudflare_queues_scale_out.py"))
    xcom = run_dag(example["cloudflare_queues_scale_out"]())
    assert list(xcom("plan")) == [{"share": 0}, {"share": 1}]
    assert sum(xcom("ship", map_index=share)["acked"] for share in (0, 1)) == 1_000
    assert in_queue(cf, "ready", "leased", "delayed") == []


def test_each_operator_can_be_mapped_and_reads_what_mapped_tasks_left(cf, run_dag):
    queue_id = cf.queues["orders"]
    with DAG("mapped", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), schedule=None) as dag:
        send = QueueSendOperator.partial(task_id="send", queue_id=queue_id).expand(messages=[["a", "b"], ["c"]])
        pull = QueuePullOperator.partial(task_id="pull", queue_name="orders", visibility_timeout=600).expand(
            max_messages=[2, 1]
        )
        ack = QueueAckOperator.partial(task_id="ack", queue_id=queue_id).expand(lease_ids=pull.output)
        again = QueueAckOperator(task_id="again", queue_id=queue_id, lease_ids=pull.output, fail_on="none")
        settle = QueueSettleOperator.partial(task_id="settle", queue_id=queue_id).expand(ack_lease_ids=[[], None])
        retry = QueueRetryOperator.partial(task_id="retry", queue_id=queue_id, lease_ids=None).expand(
            delay_seconds=[1, 2]
        )
        send >> pull >> ack >> again >> [settle, retry]
    xcom = run_dag(dag)
    assert [xcom("send", map_index=index)["sent_count"] for index in (0, 1)] == [2, 1]
    assert sorted(len(xcom("pull", map_index=index)) for index in (0, 1)) == [1, 2]
    assert [xcom("ack", "ack_count", map_index=index) for index in (0, 1)] == [2, 1]
    assert (xcom("again", "ack_count"), len(xcom("again", "warnings"))) == (0, 3)
    assert (
        xcom("settle", map_index=1) == xcom("retry", map_index=1) == {"ack_count": 0, "retry_count": 0, "warnings": {}}
    )
    assert in_queue(cf, "ready", "leased", "delayed") == []


def test_a_template_that_rendered_to_text_is_read(cf, run_dag):
    CloudflareQueuesHook().send(cf.queues["orders"], ["it's", 'a "quote"'])
    with DAG("templated", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), schedule=None) as dag:
        pull = QueuePullOperator(
            task_id="pull",
            queue_name="{{ 'ord' ~ 'ers' }}",
            cloudflare_conn_id="{{ 'cloudflare' }}_default",
            max_messages="{{ 5 * 2 }}",
            visibility_timeout="{{ 600 }}",
        )
        ack = QueueAckOperator(
            task_id="ack", queue_name="orders", lease_ids="{{ ti.xcom_pull(task_ids='pull') }}", fail_on="{{ 'any' }}"
        )
        pull >> ack
    assert run_dag(dag)("ack", "ack_count") == 2


def test_the_decorator_processes_a_queue_with_further_arguments_and_context(cf, run_dag):
    CloudflareQueuesHook().send(cf.queues["orders"], ["a", "b", "reject"])
    with DAG("decorated", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), schedule=None) as dag:

        @task.cloudflare_queue(queue_name="orders", idle_timeout=0, keep_results=10, delay_seconds=60)
        def handle(message, table, *, ti=None, upper=False):
            if message.body == "reject":
                raise Reject("no such thing")
            return [table, ti.task_id, message.body.upper() if upper else message.body]

        handle("orders", upper=True)
    report = run_dag(dag)("handle")
    assert sorted(report["results"]) == [["orders", "handle", "A"], ["orders", "handle", "B"]]
    assert (report["acked"], report["retried"], report["failed"]) == (2, 1, 1)


def test_the_decorator_can_be_mapped_and_takes_async_functions(cf, run_dag):
    CloudflareQueuesHook().send(cf.queues["orders"], ["a", "b", "c"])
    with DAG("decorated_mapped", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), schedule=None) as dag:

        @task.cloudflare_queue(queue_name="orders", idle_timeout=0, max_messages=2, keep_results=2)
        async def handle(message, number):
            return number

        handle.expand(number=[10, 20])
    xcom = run_dag(dag)
    reports = [xcom("handle", map_index=index) for index in (0, 1)]
    assert sorted(report["acked"] for report in reports) == [1, 2]
    assert {result for report in reports for result in report["results"]} == {10, 20}
    assert in_queue(cf, "ready", "leased", "delayed") == []


def test_a_body_that_airflow_cannot_store_does_not_take_the_batch_with_it(cf, run_dag):
    bodies = ["good", {"__classname__": "builtins.tuple"}, {"deep": json.loads("[" * 300 + "]" * 300)}, {"n": 2**70}]
    CloudflareQueuesHook().send(cf.queues["orders"], bodies)
    with DAG("poison", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), schedule=None) as dag:
        pull = QueuePullOperator(task_id="pull", queue_name="orders", visibility_timeout=600)
        QueueAckOperator(task_id="ack", queue_name="orders", lease_ids=pull.output)
    xcom = run_dag(dag)
    assert xcom("ack", "ack_count") == 4
    pulled = xcom("pull")
    assert [message["body"] for message in pulled if "body_error" not in message] == ["good"]
    assert len([message for message in pulled if message.get("raw_body")]) == 3


def purge_that_takes_a_while(cf):
    running = {"started_at": "2026-11-22T00:00:00Z", "completed": "false"}
    for answer in ({}, {}, running, {**running, "completed": "true"}):
        cf.add_fault("purge", status=200, apply=True, body={"success": True, "result": answer})


class FindQueue(QueueOperator):
    """Comes as far as its queue, and asks the API for nothing."""

    def execute(self, context):
        return self.find_queue()


def test_a_dag_that_uses_every_operator_once_runs_green(cf, run_dag, monkeypatch):
    """The example of operations, with the other operators and the sensors behind its own tasks."""
    itself = {"conn_type": "cloudflare", "password": "token", "extra": {"account_id": cf.account_id}}
    monkeypatch.setenv("AIRFLOW_CONN_CLOUDFLARE_ITSELF", json.dumps(itself))
    hook = CloudflareQueuesHook()
    hook.send(cf.queues["orders-failed"], ["again", {"n": 1}])
    hook.send(hook.create_queue("orders-trial").queue_id, ["a", "b"])
    purge_that_takes_a_while(cf)
    example = runpy.run_path(str(EXAMPLES / "cloudflare_queues_operations.py"))
    dag = example["cloudflare_queues_operations"]()
    dag.get_task("redrive").idle_timeout = 0
    purge = dag.get_task("purge")
    purge.deferrable, purge.poll_interval = True, 1
    queue = {"queue_name": "orders"}
    with dag:
        send = QueueSendOperator(task_id="send", messages=["a", "b", "c", "d", "e"], **queue)
        backlog = QueueBacklogSensor(task_id="backlog", at_least=5, **queue)
        pull = QueuePullOperator(task_id="pull", max_messages=3, visibility_timeout=600, **queue)
        lease = "{{ ti.xcom_pull(task_ids='pull')[%d] }}"
        ack = QueueAckOperator(task_id="ack", lease_ids=lease % 0, **queue)
        retry = QueueRetryOperator(task_id="retry", lease_ids=lease % 1, delay_seconds=600, **queue)
        settle = QueueSettleOperator(task_id="settle", ack_lease_ids=lease % 2, **queue)
        messages = QueueMessageSensor(task_id="messages", max_messages=1, visibility_timeout=600, **queue)
        process = QueueProcessOperator(task_id="process", handler=print, idle_timeout=0, **queue)
        starts = QueueTriggerDagRunsOperator(task_id="starts", trigger_dag_id=dag.dag_id, idle_timeout=0, **queue)
        remove = QueueDeletePullConsumerOperator(task_id="remove", **queue)
        FindQueue(task_id="find", queue_id="abc", cloudflare_conn_id="cloudflare_itself")
        [dag.get_task("redrive"), dag.get_task("delete")] >> send >> backlog >> pull
        pull >> [ack, retry, settle] >> messages >> process >> starts >> remove
    used = {type(task).__name__ for task in dag.tasks}
    assert used >= set(operators.__all__) | {"QueueMessageSensor", "QueueBacklogSensor"}
    store(dag)
    xcom = run_dag(dag)
    assert [xcom("ensure")["action"], xcom("ensure_failed")["action"]] == ["updated", "updated"]
    assert (xcom("redrive")["moved"], xcom("purge")["backlog_count"]) == (2, 2)
    assert xcom("purge")["started_at"] == "2026-11-22T00:00:00Z"
    assert [xcom(task_id)["delivery_paused"] for task_id in ("pause", "resume")] == [True, False]
    assert (xcom("delete")["deleted"], xcom("remove")["deleted"], xcom("starts")["runs_started"]) == (True, True, 0)
    assert (len(xcom("messages")), xcom("process")["acked"]) == (1, 3)
    assert [message["id"] for message in in_queue(cf, "delayed")] == [xcom("pull")[1]["id"]]
    for task_id in ("create", "ensure", "pause", "purge", "backlog", "pull", "ack", "process"):
        assert xcom(task_id, "cloudflare_queue_link") == "", task_id
    url = f"https://dash.cloudflare.com/{cf.account_id}/workers/queues/view/abc"
    assert xcom("find", "cloudflare_queue_link") == url


@pytest.mark.skipif(not HAS_ASSET_WATCHERS, reason="asset events came with Airflow 3.0")
def test_a_run_without_messages_skips_what_is_mapped_over_their_batches(run_dag):
    @task
    def ship(messages):
        raise AssertionError("there are none")

    with DAG("ship_in_batches", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)) as dag:
        ship.expand(messages=event_batches(size=100))
    assert run_dag(dag)("event_batches") == []
