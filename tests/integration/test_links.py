"""The button that leads to the queue: what the task keeps, and what Airflow's page makes of it."""

from __future__ import annotations

import json

import pytest
from airflow import DAG

from airflow_provider_cfqueues.links.queues import CloudflareQueueLink
from airflow_provider_cfqueues.operators.queues import QueueAckOperator, QueueCreateOperator, QueuePullOperator

pytestmark = pytest.mark.filterwarnings("default")  # Airflow's own serialization


class TaskInstance:
    """What Airflow's runner gives an operator before it executes it."""

    def __init__(self):
        self.xcoms = []

    def xcom_push(self, key, value):
        self.xcoms.append((key, value))


def kept_by(operator):
    ti = TaskInstance()
    operator.pre_execute({"ti": ti})
    operator.execute({})
    return ti.xcoms


def url(cf, queue):
    return f"https://dash.cloudflare.com/{cf.account_id}/workers/queues/view/{queue}"


@pytest.mark.parametrize("by", ["queue_id", "queue_name"])
def test_a_task_keeps_the_address_of_its_queue(cf, queue, by):
    operator = QueuePullOperator(task_id="task", **{by: {"queue_id": queue, "queue_name": "my-queue"}[by]})
    assert kept_by(operator) == [("cloudflare_queue_link", url(cf, queue))]


def test_a_task_keeps_the_address_of_the_queue_that_it_made(cf):
    xcoms = kept_by(QueueCreateOperator(task_id="task", queue_name="new"))
    assert xcoms == [("cloudflare_queue_link", url(cf, cf.queues["new"]))]


def test_a_task_that_needs_no_queue_keeps_none(cf):
    assert kept_by(QueueAckOperator(task_id="task", queue_name="my-queue", lease_ids=[])) == []
    assert cf.requests() == []


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
