"""One run of a DAG for each message: the operator in a real Airflow, through ``dag.test()``."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest
from airflow import DAG
from airflow.models import DagModel, DagRun
from airflow.utils.session import create_session
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from stored_dags import store

from airflow_provider_cfqueues._compat import AIRFLOW_VERSION
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueTriggerDagRunsOperator
from airflow_provider_cfqueues.outcomes import Reject, Retry

try:
    from airflow.sdk.exceptions import AirflowTaskTimeout
except ImportError:  # before 3.2
    from airflow.exceptions import AirflowTaskTimeout
try:
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:  # Airflow 2
    from airflow.operators.empty import EmptyOperator
try:
    from airflow.sdk import Param
except ImportError:  # Airflow 2
    from airflow.models.param import Param

QUEUES = ["orders", "orders-failed"]

# What Airflow's own modules warn of while a DAG runs is not ours to mend; a warning in ours is still an error.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings(r"error:::airflow_provider_cfqueues\..*"),
]
LEASE_SECONDS = 300
# Wait for the run of a message, and for its next delivery, however long they take.
TWO_DELIVERIES = {
    "wait_for_completion": True,
    "poll_interval": 0.1,
    "delay_seconds": 0,
    "max_messages": 2,
    "idle_timeout": 60,
}
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def airflow_db():
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def target(airflow_db):
    """Make a DAG whose runs nobody runs: a test says how they end."""
    number = itertools.count()

    def target(**arguments):
        with DAG(f"target_{next(number)}_{uuid4().hex[:8]}", start_date=START, schedule=None, **arguments) as dag:
            EmptyOperator(task_id="nothing")
        store(dag)
        return dag.dag_id

    return target


@pytest.fixture
def run(airflow_db):
    """Run the operator in a DAG of its own; return its state and its report."""

    def run(dag_id, **arguments):
        given = {"queue_name": "orders", "idle_timeout": 0.5, "settle_interval": 0.1, "fail_on": "none", **arguments}
        with DAG(f"starts_{dag_id}_{uuid4().hex[:8]}", start_date=START, schedule=None) as dag:
            QueueTriggerDagRunsOperator(task_id="start", trigger_dag_id=dag_id, **given)
        store(dag)
        (ti,) = dag.test().get_task_instances()
        return ti.state, ti.xcom_pull(task_ids="start")

    return run


class Scheduler:
    """
    Ends the runs of a DAG, as Airflow's scheduler does.

    :param dag_id: the DAG.
    :param decide: the state of a run by its conf and how often it was started; None = it goes on.
    """

    def __init__(self, dag_id, decide):
        self._dag_id = dag_id
        self._decide = decide
        self._tries = Counter()
        self.most_active = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join()

    def _work(self):
        while not self._ends.wait(0.05):
            with suppress(OperationalError), create_session() as session:
                active = session.query(DagRun).filter(
                    DagRun.dag_id == self._dag_id, DagRun.state.in_(["queued", "running"])
                )
                active = active.all()
                self.most_active = max(self.most_active, len(active))
                for run in active:
                    state = self._decide(run.conf["body"], self._tries[run.run_id] + 1)
                    if state == "deleted":
                        session.delete(run)
                    elif state is not None:
                        run.state = state
                    if state is not None:
                        self._tries[run.run_id] += 1


def runs_of(dag_id):
    with create_session() as session:
        return {run.run_id: run for run in session.query(DagRun).filter(DagRun.dag_id == dag_id).all()}


def send(cf, *bodies):
    CloudflareQueuesHook().send(cf.queues["orders"], list(bodies))


def queue_state(cf, name="orders"):
    (queue,) = (queue for queue in cf.state()["queues"] if queue["name"] == name)
    return queue


def copies(cf):
    return [message.body for message in CloudflareQueuesHook().pull(cf.queues["orders-failed"], max_messages=100)]


def test_each_message_starts_one_run_however_often_it_is_delivered(cf, run, target):
    send(cf, *({"n": number} for number in range(5)))
    dag_id = target()
    ids = {message["id"] for message in queue_state(cf)["messages"]}
    cf.add_fault("ack", status=403)
    state, _ = run(dag_id)
    assert (state, queue_state(cf)["states"]["leased"] > 0) == ("failed", True)
    cf.advance(LEASE_SECONDS + 1)
    state, report = run(dag_id, queue_name=None, queue_id=cf.queues["orders"])
    assert (state, report["runs_existing"] > 0) == ("success", True)
    runs = runs_of(dag_id)
    assert set(runs) == {f"cloudflare_queues__orders__{message_id}" for message_id in ids}
    assert sorted(run.conf["body"]["n"] for run in runs.values()) == list(range(5))
    assert set(next(iter(runs.values())).conf) == {"id", "body", "attempts", "timestamp", "content_type", "metadata"}
    assert queue_state(cf)["backlog_count"] == 0


def test_a_run_whose_logical_date_another_run_has_is_started_all_the_same(cf, run, target):
    """Airflow 3 answers that as if the run itself existed; in ``dag.test()``, only 3.3 does."""
    send(cf, "one", "two")
    dag_id = target()
    date = "execution_date" if AIRFLOW_VERSION.startswith("2.") else "logical_date"
    taken = []

    def collide(mapper, connection, new):
        if new.dag_id == dag_id:
            taken.append(getattr(new, date))
            if len(taken) == 2:
                setattr(new, date, taken[0])

    event.listen(DagRun, "before_insert", collide)
    try:
        run(dag_id, delay_seconds=0)
    finally:
        event.remove(DagRun, "before_insert", collide)
    run(dag_id)
    assert (len(runs_of(dag_id)), queue_state(cf)["backlog_count"]) == (2, 0)


@pytest.mark.parametrize(
    "conf",
    [
        lambda message: {"order": message.body["n"], "by": "starts"},
        {"order": "{{ message.body.n }}", "by": "{{ dag.dag_id[:6] }}"},
        '{"order": {{ message.body.n | tojson }}, "by": "{{ dag.dag_id[:6] }}"}',
    ],
    ids=["function", "templates", "template"],
)
def test_a_function_or_a_template_makes_the_conf(cf, run, target, conf):
    send(cf, {"n": 7})
    dag_id = target()
    run(dag_id, conf=conf)
    (found,) = runs_of(dag_id).values()
    assert {key: str(value) for key, value in found.conf.items()} == {"order": "7", "by": "starts"}


def conf_of_a_refund(message):
    """Want refunds, leave signups to another reader, and refuse everything else."""
    if message.body["type"] == "signup":
        raise Retry(300)
    if message.body["type"] != "refund":
        raise Reject(f"nobody handles a {message.body['type']}")
    return message.body


def test_a_conf_function_chooses_which_messages_start_a_run(cf, run, target):
    send(cf, *({"type": kind} for kind in ("refund", "signup", "typo")))
    dag_id = target()
    _, report = run(dag_id, conf=conf_of_a_refund, dead_letter_queue="orders-failed")
    assert [found.conf for found in runs_of(dag_id).values()] == [{"type": "refund"}]
    assert (report["acked"], report["retried"], report["rejected"], report["failed"]) == (1, 1, 1, 1)
    (given_back,) = queue_state(cf)["messages"]
    assert (given_back["attempts"], queue_state(cf)["states"]["delayed"]) == (1, 1)
    cf.advance(240)
    assert queue_state(cf)["states"]["ready"] == 0
    cf.advance(60)
    assert queue_state(cf)["states"]["ready"] == 1
    (copy,) = copies(cf)
    assert (copy["body"], copy["reason"]) == ({"type": "typo"}, "nobody handles a typo")


def test_a_conf_that_does_not_fit_the_schema_rejects_its_message(cf, run, target):
    send(cf, {"n": 1}, {"n": "many"})
    schema = {"properties": {"body": {"properties": {"n": {"type": "integer"}}}}}
    dag_id = target()
    _, report = run(dag_id, conf_schema=schema, dead_letter_queue="orders-failed")
    assert (report["acked"], report["rejected"], len(runs_of(dag_id))) == (1, 1, 1)
    (copy,) = copies(cf)
    assert copy["body"] == {"n": "many"}
    assert "'many' is not of type 'integer' (at $.body.n)" in copy["reason"]


def test_a_conf_that_the_dag_refuses_rejects_its_message_where_airflow_says_so(cf, run, target):
    send(cf, {"n": 1}, {"n": "many"})
    dag_id = target(params={"n": Param(0, type="integer")})
    _, report = run(dag_id, conf=lambda message: message.body, dead_letter_queue="orders-failed", delay_seconds=60)
    assert (report["acked"], report["failed"], len(runs_of(dag_id))) == (1, 1, 1)
    if AIRFLOW_VERSION.startswith(("3.0", "3.1", "3.2")):  # it looks like an outage there
        assert (report["retried"], queue_state(cf)["states"]["delayed"]) == (1, 1)
    else:
        (copy,) = copies(cf)
        assert "'many' is not of type 'integer'" in copy["reason"]


def test_messages_that_may_start_no_run_stay_in_the_queue(cf, run, target):
    send(cf, *({"n": number} for number in range(6)))
    dag_id = target()
    _, report = run(dag_id, max_active=2, concurrency=2, max_duration=1)
    assert (len(runs_of(dag_id)), report["pulled"], report["acked"]) == (2, 2, 2)
    assert [message["attempts"] for message in queue_state(cf)["messages"]] == [0] * 4


def test_there_are_never_more_active_runs_than_max_active(cf, run, target):
    send(cf, *({"n": number} for number in range(12)))
    dag_id = target()
    with Scheduler(dag_id, lambda body, tries: "success") as scheduler:
        run(dag_id, max_active=3, concurrency=4)
    assert (len(runs_of(dag_id)), queue_state(cf)["backlog_count"]) == (12, 0)
    assert scheduler.most_active <= 3


def test_a_pull_that_cannot_be_read_is_made_again_while_runs_are_counted(cf, run, target):
    send(cf, "a", "b")
    cf.add_fault("pull", status=200, body="<html>Sign in to the hotel's network</html>")
    dag_id = target()
    _, report = run(dag_id, max_active=3, execution_timeout=timedelta(seconds=60))
    assert (report["acked"], len(runs_of(dag_id))) == (2, 2)


def test_the_end_of_a_run_decides_what_becomes_of_its_message(cf, run, target):
    send(cf, "good", "bad")
    dag_id = target()
    ends = {"good": "success", "bad": "failed"}
    with Scheduler(dag_id, lambda body, tries: ends[body]):
        _, report = run(dag_id, wait_for_completion=True, poll_interval=0.1, dead_letter_queue="orders-failed")
    assert (report["acked"], report["rejected"]) == (1, 1)
    (copy,) = copies(cf)
    (bad,) = (run_id for run_id, found in runs_of(dag_id).items() if found.state == "failed")
    assert (copy["body"], copy["reason"]) == ("bad", f"run {bad} failed")


def test_the_next_delivery_clears_a_run_that_failed(cf, run, target):
    send(cf, "at the second try")
    dag_id = target()
    with Scheduler(dag_id, lambda body, tries: "failed" if tries == 1 else "success"):
        _, report = run(dag_id, on_failed_run="clear", max_active=1, **TWO_DELIVERIES)
    assert (report["handled"], report["failed"], report["retried"], report["acked"]) == (2, 1, 1, 1)
    assert (report["runs_started"], report["runs_existing"]) == (1, 1)
    assert [found.state for found in runs_of(dag_id).values()] == ["success"]


def test_a_message_that_comes_again_while_its_run_still_runs_waits_for_it(cf, run, target):
    send(cf, "slow")
    dag_id = target()
    cf.add_fault("ack", status=403)
    run(dag_id)
    cf.advance(LEASE_SECONDS + 1)
    looks = itertools.count()
    with Scheduler(dag_id, lambda body, tries: "success" if next(looks) > 10 else "running"):
        _, report = run(dag_id, wait_for_completion=True, poll_interval=0.1)
    assert (report["runs_existing"], report["acked"], report["attempts"]) == (1, 1, {"2": 1})
    assert [found.state for found in runs_of(dag_id).values()] == ["success"]
    assert next(looks) > 10


def test_a_task_that_is_killed_gives_back_the_messages_of_runs_that_go_on(cf, run, target):
    send(cf, "one", "two")
    dag_id = target()
    ended = timedelta(seconds=2)
    with suppress(AirflowTaskTimeout):  # dag.test() of Airflow 2 lets it through
        run(dag_id, wait_for_completion=True, poll_interval=0.1, concurrency=2, execution_timeout=ended)
    assert (queue_state(cf)["states"]["ready"], len(runs_of(dag_id))) == (2, 2)
    with Scheduler(dag_id, lambda body, tries: "success"):
        _, report = run(dag_id, wait_for_completion=True, poll_interval=0.1)
    assert (report["runs_existing"], report["acked"], len(runs_of(dag_id))) == (2, 2, 2)


def test_a_task_that_is_killed_at_the_last_delivery_sends_a_message_again_whose_run_goes_on(cf, run, target):
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders"], consumer_max_retries=1)
    send(cf, "one")
    with suppress(AirflowTaskTimeout):  # dag.test() of Airflow 2 lets it through
        run(target(), wait_for_completion=True, poll_interval=0.1, execution_timeout=timedelta(seconds=2))
    (copy,) = queue_state(cf)["messages"]
    assert (copy["body"], copy["attempts"], queue_state(cf)["totals"]["retried"]) == ("one", 0, 0)


def test_a_message_that_found_no_room_for_its_run_does_not_count_as_handled(cf, run, target):
    send(cf, "one")
    dag_id = target()
    run(dag_id)

    def set_state(state):
        with create_session() as session:
            session.query(DagRun).filter(DagRun.dag_id == dag_id).update({"state": state})

    def takes_the_room(message):
        set_state("running")
        return {}

    set_state("success")
    send(cf, "two")
    _, report = run(dag_id, conf=takes_the_room, max_active=1, visibility_timeout=2, max_messages=1)
    assert (report["pulled"], report["handled"], report["retried"], len(runs_of(dag_id))) == (1, 0, 1, 1)


def test_a_run_that_was_deleted_is_started_again(cf, run, target):
    send(cf, "deleted")
    dag_id = target()
    with Scheduler(dag_id, lambda body, tries: "deleted" if tries == 1 else "success"):
        _, report = run(dag_id, **TWO_DELIVERIES)
    assert (report["runs_started"], report["failed"], report["acked"]) == (2, 1, 1)


def test_a_lease_that_is_shorter_than_the_run_is_an_error_that_says_so(cf, run, target, logged):
    send(cf, "long")
    dag_id = target()
    _, report = run(dag_id, wait_for_completion=True, poll_interval=0.1, visibility_timeout=3, delay_seconds=60)
    assert (report["failed"], report["retried"]) == (1, 1)
    assert "was queued. Raise visibility_timeout (now 3 s, at most 43200 s)" in logged()


def test_a_dag_that_is_not_there_ends_the_task(cf, run, target, logged):
    send(cf, "for nobody")
    state, _ = run("no_such_dag")
    assert state == "failed"
    assert "no_such_dag" in logged()
    assert queue_state(cf)["backlog_count"] == 1


def test_a_dag_that_goes_away_costs_no_message_its_last_delivery(cf, run, target):
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders"], consumer_max_retries=1)
    send(cf, "for nobody")
    dag_id = target()

    def hides_the_dag(message):
        with create_session() as session:
            dag = session.query(DagModel).filter(DagModel.dag_id == dag_id)
            if AIRFLOW_VERSION.startswith("2."):
                dag.delete()
            else:
                dag.update({"is_stale": True})
        return {}

    state, _ = run(dag_id, conf=hides_the_dag)
    (copy,) = queue_state(cf)["messages"]
    assert (state, copy["attempts"], queue_state(cf)["totals"]["retried"]) == ("failed", 0, 0)


def test_the_log_warns_of_a_paused_dag(cf, run, target, logged):
    dag_id = target()
    with create_session() as session:
        session.query(DagModel).filter(DagModel.dag_id == dag_id).update({"is_paused": True})
    run(dag_id)
    knows = not AIRFLOW_VERSION.startswith(("3.0", "3.1"))
    assert (f"DAG {dag_id} is paused" in logged()) == knows


def test_no_message_is_pulled_ahead_of_runs_that_are_awaited(cf, run, target):
    send(cf, *map(str, range(20)))
    dag_id = target()
    seen = []

    def decide(body, tries):
        seen.append(queue_state(cf)["states"]["leased"])
        return "success"

    with Scheduler(dag_id, decide):
        _, report = run(dag_id, wait_for_completion=True, poll_interval=0.1, concurrency=4)
    assert (report["acked"], max(seen) <= 2 * 4) == (20, True)  # those whose ack is not sent yet are leased, too


@pytest.mark.skipif(AIRFLOW_VERSION.startswith("2."), reason="a task of Airflow 2 has the database")
def test_outside_of_a_task_an_error_says_how_to_run_it(cf):
    operator = QueueTriggerDagRunsOperator(task_id="start", queue_name="orders", trigger_dag_id="x")
    with pytest.raises(RuntimeError, match=r"Cannot start runs of DAG 'x'.*dag\.test"):
        operator.execute({})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_failed_run": "retry"}, "on_failed_run must be 'reject' or 'clear', not 'retry'"),
        ({"max_active": 0}, "max_active must be"),
        ({"poll_interval": 0}, "poll_interval must be at least 0.1 seconds"),
        ({"conf_schema": {"type": "dictionary"}}, "conf_schema is not a JSON Schema"),
    ],
)
def test_arguments_that_cannot_be_used_are_named_before_a_message_is_pulled(
    cf, run, target, logged, arguments, message
):
    state, _ = run(target(), **arguments)
    assert (state, message in logged()) == ("failed", True)
    assert not any(request["path"].endswith("/pull") for request in cf.requests())


@pytest.mark.parametrize("argument", ["handler", "batch", "dry_run", "journal", "op_kwargs"])
def test_arguments_about_a_handler_are_refused(argument):
    with pytest.raises(TypeError, match=f"has no argument '{argument}'"):
        QueueTriggerDagRunsOperator(task_id="start", queue_name="orders", trigger_dag_id="x", **{argument: True})
