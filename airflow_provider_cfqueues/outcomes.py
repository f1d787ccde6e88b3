"""
What a handler can say of a message: done, again, or never.

A handler that returns says :class:`Ack`, one that raises says :class:`Retry`. To say something else, raise or return
:class:`Retry` or :class:`Reject`; a handler of batches returns one outcome per message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Ack:
    """The message is done and leaves the queue."""


class Retry(Exception):
    """
    The message is to be delivered again.

    :param delay_seconds: seconds until then, 0 to 86,400; None = the operator's delay rule.
    :param reason: why, for the log; None = that is worth no line in it.
    """

    def __init__(self, delay_seconds: float | None = None, reason: str | None = "") -> None:
        super().__init__(delay_seconds, reason)
        self.delay_seconds = delay_seconds
        self.reason = reason


class Reject(Exception):
    """
    The message can never be processed: copy it to the dead-letter queue, then ack it.

    :param reason: why; it goes into the copy, the log and the task's error.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


Outcome: TypeAlias = "Ack | Retry | Reject"
