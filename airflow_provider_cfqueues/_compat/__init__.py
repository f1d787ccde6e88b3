"""The only module that asks which Airflow is running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import __version__ as AIRFLOW_VERSION

if TYPE_CHECKING:
    from airflow.sdk import (
        Asset,
        BaseHook,
        BaseNotifier,
        BaseOperator,
        BaseOperatorLink,
        BaseSensorOperator,
        PokeReturnValue,
        RetryDecision,
        RetryPolicy,
    )
    from airflow.sdk import Context as Context
    from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, determine_kwargs, task_decorator_factory
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowOptionalProviderFeatureException,
        AirflowSensorTimeout,
        AirflowSkipException,
    )
    from airflow.sdk.log import mask_secret
    from airflow.sdk.module_loading import import_string  # type: ignore[attr-defined]
    from airflow.sdk.observability.stats import Stats
    from airflow.triggers.base import BaseEventTrigger, TriggerEvent
    from airflow.triggers.shared_stream import SharedStreamProducer

    HAS_ASSET_WATCHERS = HAS_SHARED_STREAMS = True
else:
    try:
        from airflow.sdk import BaseOperator
    except ImportError:  # Airflow 2
        from airflow.models import BaseOperator
    try:
        from airflow.sdk import BaseHook
    except ImportError:  # Airflow 2.11 and 3.0
        from airflow.hooks.base import BaseHook
    try:
        from airflow.sdk.log import mask_secret
    except ImportError:  # Airflow 2
        from airflow.utils.log.secrets_masker import mask_secret
    try:
        from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
    except ImportError:  # Airflow 2
        from airflow.decorators.base import DecoratedOperator, TaskDecorator, task_decorator_factory
    try:
        from airflow.sdk.bases.decorator import determine_kwargs
    except ImportError:  # Airflow 2.11 and 3.0
        from airflow.utils.operator_helpers import determine_kwargs
    try:
        from airflow.sdk.observability.stats import Stats
    except ImportError:  # before 3.2
        from airflow.stats import Stats
    try:
        from airflow.sdk.module_loading import import_string
    except ImportError:  # before 3.2
        from airflow.utils.module_loading import import_string
    from airflow.triggers.base import TriggerEvent

    try:
        from airflow.triggers.base import BaseEventTrigger

        HAS_ASSET_WATCHERS = True
    except ImportError:  # Airflow 2
        from airflow.triggers.base import BaseTrigger as BaseEventTrigger

        HAS_ASSET_WATCHERS = False
    try:
        from airflow.triggers.shared_stream import SharedStreamProducer

        HAS_SHARED_STREAMS = True
    except ImportError:  # before 3.3
        SharedStreamProducer = object
        HAS_SHARED_STREAMS = False

    try:
        from airflow.sdk import Asset, BaseSensorOperator, PokeReturnValue
    except ImportError:  # Airflow 2
        from airflow.datasets import Dataset as Asset
        from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
    try:
        from airflow.sdk.configuration import conf
    except ImportError:  # before 3.2
        from airflow.configuration import conf
    try:
        from airflow.sdk.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowOptionalProviderFeatureException,
            AirflowSensorTimeout,
            AirflowSkipException,
        )
    except ImportError:  # before 3.2
        from airflow.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowOptionalProviderFeatureException,
            AirflowSensorTimeout,
            AirflowSkipException,
        )
    try:
        from airflow.sdk import BaseNotifier, BaseOperatorLink
    except ImportError:  # Airflow 2
        from airflow.models.baseoperatorlink import BaseOperatorLink
        from airflow.notifications.basenotifier import BaseNotifier
    try:
        from airflow.sdk import RetryDecision, RetryPolicy
    except ImportError:  # before 3.3
        RetryDecision, RetryPolicy = None, object


def get_xcom(ti_key: Any, key: str) -> Any:
    """
    Return an XCom of a task instance: in Airflow 2 for its web server, in Airflow 3 for the task itself.

    :param ti_key: the task instance.
    :param key: the key of the XCom.
    """
    try:
        from airflow.sdk.execution_time.xcom import XCom
    except ImportError:  # Airflow 2
        from airflow.models import XCom
    return XCom.get_value(ti_key=ti_key, key=key)


def get_hook_lineage_collector() -> Any:
    """Return Airflow's collector of hook lineage. The first call of a process loads Airflow's plugins."""
    try:
        from airflow.sdk.lineage import get_hook_lineage_collector
    except ImportError:  # before 3.2
        from airflow.lineage.hook import get_hook_lineage_collector  # type: ignore[no-redef, import-not-found]
    return get_hook_lineage_collector()


def add_hook_lineage(direction: str, *, context: BaseHook, uri: str) -> None:
    """Tell the collector of hook lineage of an ``input`` or ``output``."""
    collector = get_hook_lineage_collector()
    add = getattr(collector, f"add_{direction}_asset", None) or getattr(collector, f"add_{direction}_dataset")
    add(context=context, uri=uri)  # a dataset is what Airflow 2 calls an asset


def triggerer_setting(name: str, default: float) -> float:
    """
    Return a number from Airflow's ``[triggerer]`` settings.

    :param name: the setting.
    :param default: what it is where the running Airflow does not know it.
    """
    return float(conf.getfloat("triggerer", name, fallback=default))


__all__ = [
    "AIRFLOW_VERSION",
    "HAS_ASSET_WATCHERS",
    "HAS_SHARED_STREAMS",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowOptionalProviderFeatureException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "Asset",
    "BaseEventTrigger",
    "BaseHook",
    "BaseNotifier",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "DecoratedOperator",
    "PokeReturnValue",
    "RetryDecision",
    "RetryPolicy",
    "SharedStreamProducer",
    "Stats",
    "TaskDecorator",
    "TriggerEvent",
    "add_hook_lineage",
    "conf",
    "determine_kwargs",
    "get_hook_lineage_collector",
    "get_xcom",
    "import_string",
    "mask_secret",
    "task_decorator_factory",
    "triggerer_setting",
]
