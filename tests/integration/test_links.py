"""The button that leads to the queue: what the task keeps, and what Airflow's page makes of it."""

from __future__ import annotations

import json

import pytest
from airflow import DAG

from airflow_provider_cfqueues.links.queues import CloudflareQueueLink
from airflow_provider_cfqueues.operators.queues import QueueAckOperator, QueuePullOperator

pytestmark = pytest.mark.filterwarnings("default")  # Airflow's own serialization


class TaskInstance:
    """What Airflow's runner gives an operator before it executes it."""

    def __init__(self):
        self.xcoms = []

    def xcom_push(self, key, value):
        self.xcoms.append((key, value))


@pytest.fixture
def kept_by():
    """Return what a task keeps that comes as far as its queue."""

    def kept_by(operator, run=QueuePullOperator.find_queue):
        ti = TaskInstance()
        operator.pre_execute({"ti": ti})
        run(operator)
        return ti.xcoms

    return kept_by


@pytest.mark.parametrize("host", ["", "https://api.cloudflare.com/client/v4"])
def test_a_task_keeps_the_address_of_its_queue(cf, connect, kept_by, host):
    connect(cf, host=host)
    url = f"https://dash.cloudflare.com/{cf.account_id}/workers/queues/view/abc"
    assert kept_by(QueuePullOperator(task_id="task", queue_id="abc")) == [("cloudflare_queue_link", url)]


@pytest.mark.parametrize("by", ["queue_id", "queue_name"])
def test_a_queue_of_an_emulator_is_in_no_dashboard(cf, queue, kept_by, by):
    operator = QueuePullOperator(task_id="task", **{by: {"queue_id": queue, "queue_name": "my-queue"}[by]})
    assert kept_by(operator) == [("cloudflare_queue_link", "")]


def test_a_host_that_only_looks_like_cloudflares_is_none(cf, connect, kept_by):
    connect(cf, host="https://api.notcloudflare.com/client/v4")
    assert kept_by(QueuePullOperator(task_id="task", queue_id="abc")) == [("cloudflare_queue_link", "")]


def test_a_task_that_needs_no_queue_keeps_none(cf, kept_by):
    operator = QueueAckOperator(task_id="task", queue_name="my-queue", lease_ids=[])
    assert kept_by(operator, lambda operator: operator.execute({})) == []
    assert cf.requests() == []
    assert CloudflareQueueLink().get_link(operator, ti_key=None) == ""  # and Airflow is not asked for it


def test_a_task_that_has_run_knows_the_address_itself(cf, connect, kept_by):
    connect(cf, host="")
    operator = QueuePullOperator(task_id="task", queue_id="abc")
    ((_, url),) = kept_by(operator)
    assert CloudflareQueueLink().get_link(operator, ti_key=None) == url


def test_outside_a_runner_nothing_is_kept(queue):
    ti = TaskInstance()
    QueuePullOperator(task_id="task", queue_id=queue).execute({"ti": ti})
    assert ti.xcoms == []


def test_a_stored_dag_knows_the_link_and_where_its_address_is():
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:  # before 3.2
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    with DAG("linked", schedule=None) as dag:
        QueuePullOperator(task_id="pull", queue_name="my-queue")
    stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    operator = DagSerialization.from_dict(stored).task_dict["pull"]
    link = operator.operator_extra_link_dict["Cloudflare queue"]
    assert isinstance(link, CloudflareQueueLink) or link.xcom_key == "cloudflare_queue_link"
