"""How long a retried message waits: rules that decide for each message."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

if TYPE_CHECKING:
    from airflow_provider_cfqueues.models import Lease, Message


class DelayRule(Protocol):
    """
    Decides for each message how long it waits.

    A rule must not be callable: Airflow would call it in a template field. Make it a dataclass, or give it a ``repr``
    without a memory address: Airflow makes a new version of a DAG whenever the text of its arguments changes.
    """

    def seconds(self, message: Lease | Message) -> float:
        """
        Return the seconds, 0 to 86,400, that this message should wait.

        :param message: the message, or its lease with what is known of the message.
        """


@dataclass(frozen=True, kw_only=True)
class ExponentialDelay:
    """
    A delay that grows with each delivery: ``initial_seconds * factor ** (attempts - 1)``, up to ``max_seconds``.

    :param initial_seconds: the delay after the first delivery.
    :param factor: how much it grows with each further delivery.
    :param max_seconds: the longest delay, at most 86,400.
    :param jitter: by which share, 0 to 1, a delay is shortened at random at most, so that messages do not all come
        again at once: with 0.2, a delay of 30 s is 24 to 30 s.
    """

    initial_seconds: float = 30
    factor: float = 2
    max_seconds: float = 3_600
    jitter: float = 0

    def __post_init__(self) -> None:
        limits = {
            "initial_seconds must be 0 or more": self.initial_seconds >= 0,
            "factor must be above 0": self.factor > 0,
            "max_seconds must be from 0 to 86400": 0 <= self.max_seconds <= 86_400,
            "jitter must be from 0 to 1": 0 <= self.jitter <= 1,
        }
        if broken := [limit for limit, holds in limits.items() if not holds]:
            raise ValueError(f"{self}: {' and '.join(broken)}")

    def seconds(self, message: Lease | Message) -> float:
        """
        Return the seconds that this message should wait.

        :param message: a message or lease whose ``attempts`` is known.
        :raises ValueError: ``attempts`` is not known.
        """
        if message.attempts is None:
            raise ValueError(
                "ExponentialDelay needs to know how often a message was delivered: give it messages as "
                "QueuePullOperator returns them (with 'attempts'), not bare lease IDs"
            )
        try:
            seconds = self.initial_seconds * float(self.factor) ** max(0, message.attempts - 1)
        except OverflowError:
            seconds = self.max_seconds
        return min(seconds, self.max_seconds) * (1 - self.jitter * random.random())  # noqa: S311 - spreads load


def is_rule(delay: Any) -> TypeGuard[DelayRule]:
    """
    Return whether a delay is a :class:`DelayRule` rather than a time (a ``timedelta`` has ``seconds``, too).

    :param delay: the delay.
    """
    return not isinstance(delay, type) and callable(getattr(delay, "seconds", None))
