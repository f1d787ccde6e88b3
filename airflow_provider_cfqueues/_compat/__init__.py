"""The only module that asks which Airflow is running."""

from __future__ import annotations

import asyncio
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

ANSWER_SECONDS = 10
"""How long the supervisor of a triggerer may take to answer."""
ASSET_MANAGER = "airflow_provider_cfqueues.assets.manager.PromptAssetManager"


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


def count_awaited_events() -> int | None:
    """
    Return how many events of this watcher's Airflow waits for to be stored before it is through with a raw event.

    To be called by a filter of a shared stream before and after it yields an event: while a triggerer ends, Airflow
    takes events and does not wait. ``SharedStreamManager.stop_all`` forgets the streams before it ends them, gives
    such events no number to confirm, and counts them as stored. It tells nobody; this looks at what it wrote down.
    None where that cannot be found, as in an Airflow that keeps its books otherwise.
    """
    if not HAS_SHARED_STREAMS:
        return None
    from airflow.triggers import shared_stream

    try:
        context = shared_stream._reject_context.get()
        if context is None:
            return None
        entry = context.group._outstanding.get(context.event_id)
        binding = entry and entry.bindings.get(context.trigger_id)
        return len(binding.unconfirmed_seqs) if binding else 0
    except AttributeError:
        return None


def has_late_event_gap() -> bool:
    """Return whether the running Airflow's scheduler skips events that come between an event and its run."""
    return tuple(int(part) for part in AIRFLOW_VERSION.split(".")[:2]) < (3, 4)


def skips_late_events() -> bool:
    """Return whether events are skipped that come between an event and its run; this package's asset manager helps."""
    return has_late_event_gap() and conf.get("core", "asset_manager_class", fallback="") != ASSET_MANAGER


async def count_dag_runs(dag_id: str, states: list[str] | None = None) -> int:
    """
    Return how many runs a DAG has; for triggers, which ask the supervisor of their triggerer.

    :param dag_id: the DAG.
    :param states: only runs in one of these states; None = all.
    :raises Exception: there is no supervisor, it does not answer, or Airflow's API refuses.
    """
    from airflow.sdk.execution_time import comms, task_runner

    question = comms.GetDRCount(dag_id=dag_id, states=states)
    # It is never cancelled: before Airflow 3.2, its answer would be taken for that of the next question.
    asking = asyncio.ensure_future(task_runner.SUPERVISOR_COMMS.asend(question))
    asking.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait({asking}, timeout=ANSWER_SECONDS)
    if not asking.done():
        msg = f"no answer within {ANSWER_SECONDS} s"
        raise TimeoutError(msg)
    if asking.cancelled():
        msg = "the triggerer's supervisor is gone"
        raise ConnectionError(msg)
    answer: Any = asking.result()
    return int(answer.count)


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
    "count_awaited_events",
    "count_dag_runs",
    "determine_kwargs",
    "get_hook_lineage_collector",
    "get_xcom",
    "has_late_event_gap",
    "import_string",
    "mask_secret",
    "skips_late_events",
    "task_decorator_factory",
    "triggerer_setting",
]
