"""The only module that asks which Airflow is running."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

__all__ = [
    "AirflowOptionalProviderFeatureException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "Asset",
    "BaseHook",
    "BaseOperator",
    "BaseSensorOperator",
    "DecoratedOperator",
    "PokeReturnValue",
    "Stats",
    "TaskDecorator",
    "conf",
    "determine_kwargs",
    "import_string",
    "mask_secret",
    "task_decorator_factory",
]
