"""What happens to messages that do not match: what the caller chose, and what that costs."""

from __future__ import annotations

from typing import Any

from airflow_provider_cfqueues.engines.settlement import Situation
from airflow_provider_cfqueues.exceptions import LossyMatchError

UNMATCHED = ("ack", "dead_letter", "retry")


def parse_unmatched(value: Any) -> str | None:
    """Return what a caller chose for messages that are not wanted; raise a ValueError if it is no choice."""
    if value is None or value in UNMATCHED:
        return value  # type: ignore[no-any-return]
    msg = f"unmatched must be {', '.join(map(repr, UNMATCHED))} or None, not {value!r}"
    raise ValueError(msg)


def check_unmatched(situation: Situation, queue_id: str) -> str:
    """
    Return, for the log, what happens to messages that ``match`` does not want.

    :raises LossyMatchError: Cloudflare would delete them, and the caller did not choose that.
    """
    consumer, chosen = situation.known, situation.unmatched
    is_kept = situation.can_dead_letter or (consumer.dead_letter_queue is not None and chosen != "dead_letter")
    if not is_kept and chosen not in ("ack", "retry"):
        why = "could not be read" if situation.consumer is None else "has no dead-letter queue"
        msg = f"With match, Cloudflare would delete messages that do not match: the queue's consumer {why}"
        raise LossyMatchError(msg, queue=queue_id)
    if chosen in ("ack", "dead_letter"):
        fate = "deleted" if chosen == "ack" else "copied to the dead-letter queue"
        return f"messages that do not match are {fate} (unmatched={chosen!r})"
    end = "it goes to a dead-letter queue" if is_kept else "Cloudflare deletes it (unmatched='retry')"
    return (
        f"a message that does not match loses one of its {consumer.deliveries} deliveries (max_retries) each "
        f"time it is pulled; after the last, {end}. Raise max_retries if other readers want it"
    )
