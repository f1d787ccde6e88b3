"""What becomes of a message: what the API is told of it, and what it counts as."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_cfqueues.arguments import parse_delay
from airflow_provider_cfqueues.delays import DelayRule
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.outcomes import Outcome, Reject, Retry


@dataclass(frozen=True, kw_only=True, slots=True)
class Handled:
    """
    What came of a message.

    :param message: the message.
    :param outcome: what to do with it; None where its lease had ended before its turn.
    :param finished_at: when its handler was done.
    :param failed: whether it counts as a failure of the task.
    :param reason: why it is not acked.
    :param result: what the handler returned.
    :param error: what the handler raised, where that is a failure.
    """

    message: Message
    outcome: Outcome | None
    finished_at: datetime
    failed: bool = False
    reason: str = ""
    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settlement:
    """
    A message whose fate is decided.

    :param message: the message.
    :param kind: ``acked``, ``retried``, ``rejected`` or ``acked_from_journal``: what it counts as once it is confirmed.
    :param delay_seconds: for a retry.
    :param reason: for a reject.
    """

    message: Message
    kind: str
    delay_seconds: int | None = None
    reason: str = ""


def choose_settlement(handled: Handled, rule: DelayRule | int | None, can_dead_letter: bool, log: Any) -> Settlement:
    """
    Decide what the API is told of a message.

    :param handled: what came of it.
    :param rule: how long a failed message waits.
    :param can_dead_letter: whether there is a dead-letter queue; without one, a rejected message is retried.
    :param log: where a delay goes that is none of the API's.
    """
    message, outcome = handled.message, handled.outcome
    if isinstance(outcome, Reject) and can_dead_letter:
        return Settlement(message=message, kind="rejected", reason=handled.reason)
    if isinstance(outcome, (Reject, Retry)):
        asked = outcome.delay_seconds if isinstance(outcome, Retry) else None
        try:
            if asked is None:
                asked = rule if rule is None or isinstance(rule, int) else rule.seconds(message)
            delay_seconds = parse_delay(asked)
        except (TypeError, ValueError) as error:
            log.warning("Message %s waits the consumer's retry_delay: %s", message.id, error)
            delay_seconds = None
        return Settlement(message=message, kind="retried", delay_seconds=delay_seconds)
    return Settlement(message=message, kind="acked")
