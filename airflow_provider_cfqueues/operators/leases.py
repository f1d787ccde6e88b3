"""Whether leases last as long as the tasks downstream may need."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import BaseOperator

USUAL_TIME_TO_SETTLE = timedelta(minutes=5)
"""How long tasks downstream commonly need until they settle: to be scheduled and started, and for the first to run."""


def warn_of_short_leases(task: BaseOperator, ends: Iterable[datetime | None]) -> None:
    """
    Compare the first lease to end with what the tasks downstream may take by their own settings.

    :param task: the task that leased messages.
    :param ends: when each lease ends, where that is known.
    """
    known = [end for end in ends if end]
    if not known:
        return
    downstream = task.get_flat_relatives(upstream=False) if task.has_dag() else ()
    limits = [relative.execution_timeout for relative in downstream if relative.execution_timeout]
    needed = max([USUAL_TIME_TO_SETTLE, *limits])
    left = min(known) - datetime.now(timezone.utc)
    if left < needed - timedelta(seconds=30):  # what the pull itself may have taken
        task.log.warning(
            "The leases end in %.0f s, but the tasks downstream may need %.0f s to settle them (five minutes, or "
            "their longest execution_timeout). Messages that are not settled when the leases end are delivered again. "
            "Set visibility_timeout (up to 43200 s) higher on this operator",
            left.total_seconds(),
            needed.total_seconds(),
        )
