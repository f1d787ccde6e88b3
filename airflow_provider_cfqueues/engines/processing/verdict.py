"""From what a handler made of a message to its settlement."""

from __future__ import annotations

from typing import Any

from airflow_provider_cfqueues.arguments import parse_delay
from airflow_provider_cfqueues.delays import DelayRule
from airflow_provider_cfqueues.engines.settlement import Handled, Happened, Settlement, Situation, choose_settlement
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.outcomes import Reject, Retry


def settle_handled(handled: Handled, situation: Situation, rule: DelayRule | int | None, log: Any) -> Settlement:
    """
    Decide what the API is told of a message that had its turn.

    :param handled: what came of it.
    :param situation: what decides its fate beside that.
    :param rule: how long a failed message waits.
    :param log: where a delay goes that the API would not take.
    """
    message, outcome = handled.message, handled.outcome
    if outcome is None:
        over = "its lease ended before its turn"
        return choose_settlement(message, Happened.NOT_STARTED, situation, reason=over, is_over=True)
    if not isinstance(outcome, (Reject, Retry)):
        return choose_settlement(message, Happened.HANDLED, situation, delay_seconds=0)
    return choose_settlement(
        message,
        Happened.REJECTED if isinstance(outcome, Reject) else Happened.FAILED,
        situation,
        reason=handled.reason,
        delay_seconds=0 if situation.is_dry_run else _delay(message, outcome, rule, log),
    )


def _delay(message: Message, outcome: Reject | Retry, rule: DelayRule | int | None, log: Any) -> int | None:
    asked = outcome.delay_seconds if isinstance(outcome, Retry) else None
    try:
        if asked is None:
            asked = rule if rule is None or isinstance(rule, int) else rule.seconds(message)
        return parse_delay(asked)
    except (TypeError, ValueError) as error:
        log.warning("Message %s waits the consumer's retry_delay: %s", message.id, error)
        return None
