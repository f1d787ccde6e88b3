"""
Run both tries of journal_dag.py as Airflow 3.3's executors do: a supervisor, and a task process that it forks.

Print as JSON how the first one ended, what the next one reports, what handlers did and what is left of the journal.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from uuid import UUID

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.taskinstance import TaskInstance
from airflow.sdk.api.datamodels._generated import BundleInfo
from airflow.sdk.api.datamodels._generated import TaskInstance as TaskOfWorker
from airflow.sdk.execution_time.supervisor import supervise_task
from airflow.utils.session import create_session
from journal_dag import HOME, dag, stored
from sqlalchemy import select

API_SERVER, CLOCK = sys.argv[1:] if __name__ == "__main__" else ("", "")


def create_run() -> None:
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    dag.test(mark_success_pattern=".*")  # makes the run, without a try of the task


def run_next_try() -> TaskInstance:
    with create_session() as session:
        instance = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == "journal")).one()
        instance.prepare_db_for_next_try(session)
        instance.try_number += 1
        instance.max_tries = 5
        instance.state = "queued"
    facts = {name: getattr(instance, name) for name in ("task_id", "dag_id", "run_id", "try_number", "map_index")}
    ids = {"id": UUID(str(instance.id)), "dag_version_id": UUID(str(instance.dag_version_id))}
    supervise_task(
        ti=TaskOfWorker(**facts, **ids),
        bundle_info=BundleInfo(name="dags-folder"),
        dag_rel_path="journal_dag.py",
        token="",
        server=API_SERVER,
        log_path=str(HOME / f"try-{instance.try_number}.log"),
    )
    with create_session() as session:
        return session.get(TaskInstance, instance.id)


def main() -> None:
    create_run()
    run_next_try()
    urllib.request.urlopen(CLOCK, data=b'{"advance_seconds": 601}').close()
    last = run_next_try()
    facts = {
        "state": last.state,
        "report": last.xcom_pull(task_ids="process", key="return_value"),
        "handled": (HOME / "handled").read_text().splitlines(),
        "journal": stored(),
    }
    print(json.dumps(facts))


if __name__ == "__main__":  # Airflow reads every file of its DAGs folder
    main()
    sys.stdout.flush()
    os._exit(0)  # what Airflow left running takes seconds to end
