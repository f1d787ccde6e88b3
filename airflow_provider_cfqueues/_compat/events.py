"""What a watcher must know of the running Airflow: which events it waits for, and which of them start runs."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow_provider_cfqueues._compat import HAS_LATE_EVENT_GAP, HAS_SHARED_STREAMS, conf

ANSWER_SECONDS = 10
"""How long the supervisor of a triggerer may take to answer."""
ASSET_MANAGER = "airflow_provider_cfqueues.assets.manager.PromptAssetManager"


def count_awaited_events() -> int | None:
    """
    Return how many events of this watcher Airflow still has to store, or None if that cannot be found out.

    A filter of a shared stream calls it before and after it yields an event. When a triggerer stops, Airflow takes
    events and counts them as stored without waiting: ``SharedStreamManager.stop_all`` forgets the streams before it
    stops them, and gives such events no number to confirm. This is only visible in Airflow's internal records.
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


def skips_late_events() -> bool:
    """Return whether events are skipped that come between an event and its run; this package's asset manager helps."""
    return HAS_LATE_EVENT_GAP and conf.get("core", "asset_manager_class", fallback="") != ASSET_MANAGER


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
        raise TimeoutError(f"no answer within {ANSWER_SECONDS} s")
    if asking.cancelled():
        raise ConnectionError("the triggerer's supervisor is gone")
    answer: Any = asking.result()
    return int(answer.count)
