"""The only module that asks which Airflow is running."""

from __future__ import annotations

from importlib import import_module
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
        Context,
        PokeReturnValue,
        RetryDecision,
        RetryPolicy,
    )
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
    from airflow.sdk.execution_time.xcom import XCom
    from airflow.sdk.log import mask_secret
    from airflow.sdk.module_loading import import_string  # type: ignore[attr-defined]
    from airflow.sdk.observability.stats import Stats
    from airflow.triggers.base import BaseEventTrigger, TriggerEvent
    from airflow.triggers.shared_stream import AdvanceOutcome, SharedStreamProducer

_VERSION = tuple(int(part) for part in AIRFLOW_VERSION.split(".")[:2])
HAS_ASSET_WATCHERS = _VERSION >= (3, 0)
HAS_SHARED_STREAMS = _VERSION >= (3, 3)
HAS_LATE_EVENT_GAP = _VERSION < (3, 4)
"""Whether the scheduler skips events that come between an event and its run."""

_EXCEPTIONS = ("airflow.sdk.exceptions", "airflow.exceptions")  # before 3.2
_DECORATORS = ("airflow.sdk.bases.decorator", "airflow.decorators.base")  # Airflow 2
_PLACES: dict[str, tuple[str, ...]] = {
    "AirflowException": _EXCEPTIONS,
    "AirflowFailException": _EXCEPTIONS,
    "AirflowNotFoundException": _EXCEPTIONS,
    "AirflowOptionalProviderFeatureException": _EXCEPTIONS,
    "AirflowSensorTimeout": _EXCEPTIONS,
    "AirflowSkipException": _EXCEPTIONS,
    "Asset": ("airflow.sdk", "airflow.datasets:Dataset"),  # Airflow 2
    "BaseEventTrigger": ("airflow.triggers.base", "airflow.triggers.base:BaseTrigger"),  # Airflow 2
    "BaseHook": ("airflow.sdk", "airflow.hooks.base"),  # Airflow 2.11 and 3.0
    "BaseNotifier": ("airflow.sdk", "airflow.notifications.basenotifier"),  # Airflow 2
    "BaseOperator": ("airflow.sdk", "airflow.models"),  # Airflow 2
    "BaseOperatorLink": ("airflow.sdk", "airflow.models.baseoperatorlink"),  # Airflow 2
    "BaseSensorOperator": ("airflow.sdk", "airflow.sensors.base"),  # Airflow 2
    "DecoratedOperator": _DECORATORS,
    "PokeReturnValue": ("airflow.sdk", "airflow.sensors.base"),  # Airflow 2
    "RetryDecision": ("airflow.sdk", "builtins:None"),  # before 3.3
    "RetryPolicy": ("airflow.sdk", "builtins:object"),  # before 3.3
    "SharedStreamProducer": ("airflow.triggers.shared_stream", "builtins:object"),  # before 3.3
    "Stats": ("airflow.sdk.observability.stats", "airflow.stats"),  # before 3.2
    "TaskDecorator": _DECORATORS,
    "TriggerEvent": ("airflow.triggers.base",),
    "XCom": ("airflow.sdk.execution_time.xcom", "airflow.models"),  # Airflow 2
    "conf": ("airflow.sdk.configuration", "airflow.configuration"),  # before 3.2
    "determine_kwargs": ("airflow.sdk.bases.decorator", "airflow.utils.operator_helpers"),  # Airflow 2.11 and 3.0
    "import_string": ("airflow.sdk.module_loading", "airflow.utils.module_loading"),  # before 3.2
    "mask_secret": ("airflow.sdk.log", "airflow.utils.log.secrets_masker"),  # Airflow 2
    "task_decorator_factory": _DECORATORS,
}
"""
Where Airflow has each name: in the newest version, then in the older one that the comment names. A name is looked up
when it is imported, because each import costs time: an operator needs neither triggers nor the task decorator.
"""


if not TYPE_CHECKING:  # a type checker reads the imports above

    def __getattr__(name: str) -> Any:
        places = _PLACES.get(name, ())
        for place in places:
            module, _, attribute = place.partition(":")
            try:
                value = globals()[name] = getattr(import_module(module), attribute or name)
            except (ImportError, AttributeError):
                if place is places[-1]:
                    raise
            else:
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
