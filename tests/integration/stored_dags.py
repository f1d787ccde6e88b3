"""DAGs in Airflow's database, as its processes put them there that parse files."""

from __future__ import annotations

import os

from airflow import DAG


def store(dag):
    """Write a DAG into the database."""
    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:
        try:
            from airflow.models.dagbag import DagBag, sync_bag_to_db
        except ImportError:  # Airflow 2.11 and 3.0
            store_in_old_airflow(dag)
            return
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)


def store_in_old_airflow(dag):
    from airflow.models.serialized_dag import SerializedDagModel

    try:
        from airflow.dag_processing.bundles.manager import DagBundlesManager
    except ImportError:  # Airflow 2
        dag.sync_to_db()
        SerializedDagModel.write_dag(dag)
    else:
        from airflow.serialization.serialized_objects import SerializedDAG

        DagBundlesManager().sync_bundles_to_db()
        DAG.bulk_write_to_db("dags-folder", None, [SerializedDAG.from_dict(SerializedDAG.to_dict(dag))])
        SerializedDagModel.write_dag(dag, bundle_name="dags-folder")
