"""The asset manager that lets a run take every event, on Airflow's own tables."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from airflow_provider_cfqueues._compat import HAS_ASSET_WATCHERS, import_string
from airflow_provider_cfqueues._compat.events import ASSET_MANAGER, skips_late_events

pytestmark = [
    pytest.mark.skipif(not HAS_ASSET_WATCHERS, reason="asset events came with Airflow 3.0"),
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture
def session():
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    with create_session() as session:
        yield session
        session.rollback()


@pytest.fixture
def asset(session):
    """An asset that two DAGs are scheduled on."""
    from airflow.models.asset import AssetActive, AssetModel, DagScheduleAssetReference
    from airflow.models.dag import DagModel

    asset = AssetModel(name="late-events", uri="late-events", group="asset", extra={})
    session.add(asset)
    session.flush()
    session.add(AssetActive.for_asset(asset))
    for dag_id in ("ship_late", "bill_late"):
        session.add(DagModel(dag_id=dag_id, is_paused=False, is_stale=False, **_bundle(session)))
        session.flush()
        session.add(DagScheduleAssetReference(asset_id=asset.id, dag_id=dag_id))
    session.flush()
    session.expire_all()
    return asset


def _bundle(session):
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel

    if session.get(DagBundleModel, "tests") is None:
        session.add(DagBundleModel(name="tests"))
        session.flush()
    return {"bundle_name": "tests"} if hasattr(DagModel, "bundle_name") else {}


def store(manager, asset, session):
    """Store an event, and return its time."""
    event = manager.register_asset_change(asset=asset, extra={}, session=session)
    session.flush()
    return event.timestamp


def rows(session):
    from airflow.models.asset import AssetDagRunQueue

    session.expire_all()
    return {row.target_dag_id: row.created_at for row in session.query(AssetDagRunQueue)}


def test_the_queue_rows_of_all_dags_of_an_asset_have_the_time_of_its_last_event(session, asset):
    manager = import_string(ASSET_MANAGER)()
    for _ in range(3):
        last = store(manager, asset, session)
        assert sorted(rows(session)) == ["bill_late", "ship_late"]
        assert all(created_at >= last for created_at in rows(session).values())


def test_a_row_of_a_clock_that_is_ahead_keeps_its_time(session, asset):
    from airflow.models.asset import AssetDagRunQueue

    later = datetime(2100, 1, 1, tzinfo=timezone.utc)
    session.add(AssetDagRunQueue(asset_id=asset.id, target_dag_id="ship_late", created_at=later))
    session.flush()
    last = store(import_string(ASSET_MANAGER)(), asset, session)
    assert rows(session)["ship_late"] == later
    assert last <= rows(session)["bill_late"] < later


def test_airflows_own_manager_leaves_the_time_of_the_first_event(session, asset):
    from airflow.assets.manager import AssetManager

    store(AssetManager(), asset, session)
    last = store(AssetManager(), asset, session)
    assert [created_at < last for created_at in rows(session).values()] == [True, True]


def test_watchers_see_that_the_manager_is_set(monkeypatch):
    assert skips_late_events()
    monkeypatch.setenv("AIRFLOW__CORE__ASSET_MANAGER_CLASS", ASSET_MANAGER)
    assert not skips_late_events()
