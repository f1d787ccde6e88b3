"""The asset of a queue, made by Airflow's own class, which finds our handler through the provider's entry point."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

import airflow_provider_cfqueues._compat  # noqa: F401 - on Airflow 2 its first import warns of Airflow's own
from airflow_provider_cfqueues.assets.queues import create_asset, sanitize_uri

try:
    from airflow.sdk import Asset

    IS_AIRFLOW_2 = False
except ImportError:  # Airflow 2
    from airflow.datasets import Dataset as Asset

    IS_AIRFLOW_2 = True

ACCOUNT = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "uri",
    [
        f"cloudflare-queues://{ACCOUNT}/orders",
        f"cloudflare-queues://{ACCOUNT.upper()}/orders",
        f"cloudflare-queues://{ACCOUNT}/orders/",
        f"CLOUDFLARE-QUEUES://{ACCOUNT}//orders//",
    ],
)
def test_one_queue_is_one_asset_however_its_uri_is_written(uri):
    assert Asset(uri=uri).uri == f"cloudflare-queues://{ACCOUNT}/orders"


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("cloudflare-queues:///orders", "the account ID is missing"),
        (f"cloudflare-queues://{ACCOUNT}", "the queue name is missing"),
        (f"cloudflare-queues://{ACCOUNT}/", "the queue name is missing"),
        (f"cloudflare-queues://{ACCOUNT}/orders/1", "more than a queue name"),
        (f"cloudflare-queues://{ACCOUNT}/orders?max=1", "there is a query"),
        (f"cloudflare-queues://{ACCOUNT}:443/orders", "without user or port"),
        (f"cloudflare-queues://{ACCOUNT}0/orders", "1 to 32 letters"),
    ],
)
def test_a_uri_that_names_no_queue_is_an_error(uri, problem, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__STRICT_DATASET_URI_VALIDATION", "True")
    with pytest.raises(ValueError, match=rf"must be cloudflare-queues://ACCOUNT_ID/QUEUE_NAME.*{problem}"):
        Asset(uri=uri)


def test_a_user_in_a_uri_is_an_error_that_does_not_show_it():
    with pytest.raises(ValueError, match="without user or port") as raised:  # where Airflow did not drop it before
        sanitize_uri(urlsplit(f"cloudflare-queues://token@{ACCOUNT}/orders"))
    assert "token" not in str(raised.value)


def test_the_factory_makes_the_same_asset():
    asset = create_asset(account_id=ACCOUNT.upper(), queue_name="orders", extra={"team": "shop"})
    assert asset == Asset(uri=f"cloudflare-queues://{ACCOUNT}/orders", extra={"team": "shop"})
    assert asset.extra["team"] == "shop"


def test_the_factory_names_the_argument_that_is_wrong():
    with pytest.raises(ValueError, match="account_id must be"):
        create_asset(account_id="a/b", queue_name="orders")
    with pytest.raises(ValueError, match="queue_name must be"):
        create_asset(account_id=ACCOUNT, queue_name="")


def test_airflow_knows_handler_and_factory():
    try:
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime as Manager
    except ImportError:  # before 3.2
        from airflow.providers_manager import ProvidersManager as Manager
    manager, kind = Manager(), "dataset" if IS_AIRFLOW_2 else "asset"
    handler = getattr(manager, f"{kind}_uri_handlers")["cloudflare-queues"]
    assert handler.__module__ == "airflow_provider_cfqueues.assets.queues"
    assert getattr(manager, f"{kind}_factories")["cloudflare-queues"] is create_asset
