"""From what a handler made of a message to its settlement."""

from __future__ import annotations

from airflow_provider_cfqueues.engines.settlement import Handled, Happened, Settlement, Situation, choose_settlement
from airflow_provider_cfqueues.outcomes import Reject, Retry


class NotStarted(Retry):
    """The handler could not start with the message, so it is settled like a message that had no turn."""


def settle_handled(handled: Handled, situation: Situation) -> Settlement:
    """
    Decide what the API is told of a message that had its turn.

    :param handled: what came of it.
    :param situation: what the settlement depends on besides.
    """
    message, outcome = handled.message, handled.outcome
    if outcome is None:
        over = "its lease ended before its turn"
        return choose_settlement(message, Happened.NOT_STARTED, situation, reason=over, is_over=True)
    if not isinstance(outcome, (Reject, Retry)):
        return choose_settlement(message, Happened.HANDLED, situation, delay_seconds=0)
    happened = Happened.NOT_STARTED if isinstance(outcome, NotStarted) else Happened.FAILED
    return choose_settlement(
        message,
        Happened.REJECTED if isinstance(outcome, Reject) else happened,
        situation,
        reason=handled.reason,
        delay_seconds=0 if situation.is_dry_run else handled.delay_seconds,
    )
