"""When a task fails because too many messages did."""

from __future__ import annotations

from typing import Any


def parse_fail_on(value: Any) -> float | None:
    """
    Return the share of messages that may fail: 0 for ``any``, 1 for ``all`` (fewer than all may), None for ``none``.

    :param value: ``any``, ``all``, ``none`` or a number from 0 to 1.
    :raises ValueError: it is something else.
    """

    from airflow_provider_cfqueues import arguments

    named = {"any": 0.0, "all": 1.0, "none": None}
    if value in named:
        return named[value]
    arguments.refuse_none(value, "fail_on")
    msg = f"fail_on must be 'all', 'any', 'none' or a share from 0 to 1, not {value!r}"
    try:
        share = arguments.parse_number(value, "fail_on")
    except (TypeError, ValueError):
        raise ValueError(msg) from None
    if not 0 <= share <= 1:
        raise ValueError(msg)
    return share


def are_too_many(bad: int, total: int, share: float | None) -> bool:
    """Return whether more messages failed than the share that may, as :func:`parse_fail_on` returned it."""
    return share is not None and bad > 0 and (bad >= total if share == 1 else bad > share * total)
