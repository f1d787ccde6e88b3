"""What callers may pass as leases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import asdict, replace

from airflow_provider_cfqueues.arguments.values import describe, parse_delay, parse_rendered, read_date, short
from airflow_provider_cfqueues.delays import is_rule
from airflow_provider_cfqueues.models import Lease, Message


def parse_leases(value: Any, what: str = "lease_ids") -> list[Lease]:
    """
    Return the leases, in any form in which XCom, a template or a caller holds them.

    A lease is a string, a ``Lease``, a ``Message``, a mapping with ``lease_id`` (a message as ``QueuePullOperator``
    returns it), or a tuple of lease ID and delay. They come alone or in lists of any depth, a mapped task's lazy
    sequence, or a string that holds such a list as JSON or as a Python literal. None and an empty list are no leases.

    :param value: the leases.
    :param what: the name of the argument, for the error.
    :raises TypeError: something in it is not a lease.
    :raises ValueError: a lease ID is empty or not one, or a delay is out of range.
    """
    if value is None or (isinstance(value, str) and parse_rendered(value, what) is None):
        return []
    found: list[Lease] = []
    try:
        _add_leases(value, what, found)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    return found


def _add_leases(value: Any, what: str, found: list[Lease]) -> None:
    if isinstance(value, (Lease, Message)):
        found.append(_read_lease(asdict(value), what))
    elif isinstance(value, str):
        parsed = parse_rendered(value, what)
        if isinstance(parsed, str):
            found.append(_read_lease({"lease_id": parsed}, what))
        else:
            _add_leases(parsed, what, found)
    elif isinstance(value, Mapping):
        found.append(_read_lease(value, what))
    elif _is_pair(value):
        found.append(_read_lease({"lease_id": value[0], "delay_seconds": value[1]}, what))
    elif isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        for item in value:
            _add_leases(item, what, found)
    else:
        raise TypeError(f"{what} must hold lease IDs or messages with a 'lease_id'; found {describe(value)}")


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and (isinstance(value[1], (int, float)) or (isinstance(value[1], str) and value[1].isdecimal()))
    )


def _read_lease(fields: Mapping[Any, Any], what: str) -> Lease:
    if "lease_id" not in fields:
        keys = short(sorted(map(str, fields)))
        raise ValueError(f"{what}: a mapping must be a message with a 'lease_id'; found one with the keys {keys}")
    lease_id, attempts = fields["lease_id"], fields.get("attempts")
    if not isinstance(lease_id, str):
        raise TypeError(f"{what}: a lease ID must be a string; found {describe(lease_id)}")
    if lease_id.split() != [lease_id] or "," in lease_id:
        raise ValueError(
            f"{what}: a lease ID is never empty and has no white space or comma; found {short(lease_id)}. Give a list "
            "with one ID per item"
        )
    return Lease(
        lease_id=lease_id,
        delay_seconds=parse_delay(fields.get("delay_seconds")),
        attempts=attempts if isinstance(attempts, int) else None,
        lease_expires_at=read_date(fields.get("lease_expires_at")),  # None does no harm: only a warning needs it
    )


def delay_leases(leases: list[Lease], delay: Any) -> list[Lease]:
    """
    Return the leases, each with its own delay or else this one.

    :param leases: leases to retry.
    :param delay: seconds, text that holds them, a :class:`~airflow_provider_cfqueues.delays.DelayRule`, or None.
    :raises TypeError: it is none of these.
    :raises ValueError: a delay is out of range, or the rule needs what a bare lease ID does not tell.
    """
    rule = delay if is_rule(delay) else None
    common = parse_delay(delay) if rule is None else None

    def delay_of(lease: Lease) -> float | None:
        if lease.delay_seconds is not None:
            return lease.delay_seconds
        return common if rule is None else parse_delay(rule.seconds(lease))

    return [replace(lease, delay_seconds=delay_of(lease)) for lease in leases]
