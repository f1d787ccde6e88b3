"""
What a handler can say about a message: it is done, it should be delivered again, or it can never be processed.

A handler that returns says :class:`Ack`, one that raises says :class:`Retry`. To say something else, raise or return
:class:`Retry` or :class:`Reject`; a handler of batches returns one outcome per message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from airflow_provider_cfqueues.texts import to_reason


@dataclass(frozen=True)
class Ack:
    """The message is done and leaves the queue."""


class Retry(Exception):
    """
    The message is to be delivered again.

    :param delay_seconds: seconds until then, 0 to 86,400; None = the operator's delay rule.
    :param reason: why, for the log, as in :class:`Reject`; None = do not log it.
    """

    # For subclasses whose own __init__ does not call this one.
    delay_seconds: float | None = None
    reason: str | None = ""

    def __init__(self, delay_seconds: float | None = None, reason: Any = "") -> None:
        self.delay_seconds = delay_seconds
        self.reason = None if reason is None else to_reason(reason)
        super().__init__(delay_seconds, self.reason)


class Reject(Exception):
    """
    The message can never be processed: copy it to the dead-letter queue, then ack it.

    :param reason: why: text, an exception or anything else. Its text goes into the copy, the log and the task's error,
        cut to 500 characters, with control characters and lone surrogates escaped.
    """

    reason: str = ""

    def __init__(self, reason: Any = "") -> None:
        self.reason = "" if reason is None else to_reason(reason)
        super().__init__(self.reason)


Outcome: TypeAlias = "Ack | Retry | Reject"
