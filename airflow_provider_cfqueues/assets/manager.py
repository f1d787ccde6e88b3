"""
An asset manager for Airflow 3.0 to 3.3 that puts every event, of any asset, into a run.

There, the scheduler creates a run from the events up to the *first* one since the last run. Later events wait for yet
another event. The scheduler goes by the time of a row in the table ``asset_dag_run_queue``. Airflow writes that time
with the first event and does not change it. This manager updates it with each event, so the run takes them all. It does
nothing else::

    [core]
    asset_manager_class = airflow_provider_cfqueues.assets.manager.PromptAssetManager

Set it for all components of Airflow: API server, scheduler, triggerer and DAG processor. Airflow 3.4 has a fix of its
own (apache/airflow#70972): remove the setting then. Until you do, the manager does nothing on 3.4.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.assets.manager import AssetManager
from airflow.models.asset import AssetDagRunQueue
from sqlalchemy import case

from airflow_provider_cfqueues._compat import HAS_LATE_EVENT_GAP

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class PromptAssetManager(AssetManager):
    """Queues DAG runs as Airflow does, so that each run takes every event stored before the run is created."""

    @classmethod
    def _queue_dagruns(cls, *, asset_id: int, dags_to_queue: Any, session: Session, **others: Any) -> None:
        """Queue the DAGs of an asset, and update the time of those that are queued already."""
        super()._queue_dagruns(asset_id=asset_id, dags_to_queue=dags_to_queue, session=session, **others)
        if others.get("partition_key") is not None or not HAS_LATE_EVENT_GAP:
            return  # runs of partitions are not queued by time
        dag_ids = [dag.dag_id for dag in dags_to_queue if not getattr(dag, "timetable_partitioned", False)]
        if dag_ids:
            cls._refresh(asset_id, sorted(dag_ids), session)

    @staticmethod
    def _refresh(asset_id: int, dag_ids: list[str], session: Session) -> None:
        """
        Set the time of rows, or insert them again where the scheduler has just deleted them.

        In one statement: on PostgreSQL and MySQL it waits for a scheduler that is making a run of the row. (Before
        Airflow 3.2, the scheduler does not lock it.)
        """
        now = datetime.now(timezone.utc)
        rows = [{"asset_id": asset_id, "target_dag_id": dag_id, "created_at": now} for dag_id in dag_ids]
        session.flush()
        dialect = session.get_bind().dialect.name
        if dialect == "mysql":
            from sqlalchemy.dialects import mysql

            insert = mysql.insert(AssetDagRunQueue).values(rows)
            statement: Any = insert.on_duplicate_key_update(created_at=_later(insert.inserted.created_at))
        else:
            from sqlalchemy.dialects import postgresql, sqlite

            upsert: Any = (postgresql if dialect == "postgresql" else sqlite).insert(AssetDagRunQueue).values(rows)
            statement = upsert.on_conflict_do_update(
                index_elements=["asset_id", "target_dag_id"], set_={"created_at": _later(upsert.excluded.created_at)}
            )
        session.execute(statement)


def _later(new: Any) -> Any:
    """Return the later of the row's time and a new one: the clocks of two machines may differ."""
    return case((AssetDagRunQueue.created_at > new, AssetDagRunQueue.created_at), else_=new)
