"""The only module that asks which Airflow is running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow import __version__ as AIRFLOW_VERSION

if TYPE_CHECKING:
    from airflow.sdk import Asset, BaseHook, BaseOperator, BaseSensorOperator, PokeReturnValue
    from airflow.sdk import Context as Context
    from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, determine_kwargs, task_decorator_factory
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowOptionalProviderFeatureException,
        AirflowSensorTimeout,
        AirflowSkipException,
    )
    from airflow.sdk.log import mask_secret
    from airflow.sdk.module_loading import import_string  # type: ignore[attr-defined]
    from airflow.sdk.observability.stats import Stats
    from airflow.triggers.base import BaseEventTrigger, TriggerEvent
    from airflow.triggers.shared_stream import SharedStreamProducer, reject_shared_stream_event

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
        from airflow.triggers.shared_stream import SharedStreamProducer, reject_shared_stream_event

        HAS_SHARED_STREAMS = True
    except ImportError:  # before 3.3
        SharedStreamProducer = object
        HAS_SHARED_STREAMS = False

        def reject_shared_stream_event():
            """Do nothing: there is nobody to tell."""

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
            AirflowOptionalProviderFeatureException,
            AirflowSensorTimeout,
            AirflowSkipException,
        )
    except ImportError:  # before 3.2
        from airflow.exceptions import (
            AirflowOptionalProviderFeatureException,
            AirflowSensorTimeout,
            AirflowSkipException,
        )


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
    "AirflowOptionalProviderFeatureException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "Asset",
    "BaseEventTrigger",
    "BaseHook",
    "BaseOperator",
    "BaseSensorOperator",
    "DecoratedOperator",
    "PokeReturnValue",
    "SharedStreamProducer",
    "Stats",
    "TaskDecorator",
    "TriggerEvent",
    "conf",
    "determine_kwargs",
    "import_string",
    "mask_secret",
    "reject_shared_stream_event",
    "task_decorator_factory",
    "triggerer_setting",
]
