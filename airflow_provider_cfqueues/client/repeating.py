"""Which failed calls are repeated, and after how long: ``tenacity`` does the waiting."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import tenacity

from airflow_provider_cfqueues.client.answers import NO_ROUTE, Answer
from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.client.settings import Settings
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, TransportError
from airflow_provider_cfqueues.texts import printable

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RepeatPolicy:
    """
    How long a failed call is repeated, and how long to wait in between.

    :param max_seconds: no repeat starts later than this after the first try.
    :param unreached_seconds: the same while the API was never reached: nothing listens, or its name is not known.
    :param answer_timeout: seconds after which a try ends, whether nothing arrives or too little.
    :param first_wait: seconds of the first wait; it doubles with each.
    :param max_wait: where the doubling ends.
    :param jitter: up to how many seconds are added to each wait at random.
    :param max_retry_after: a longer ``Retry-After`` is not waited for: the error carries it instead. A shorter one is
        waited for, but never less than without it.
    """

    max_seconds: float = 60
    unreached_seconds: float = 60
    answer_timeout: float = 30
    first_wait: float = 0.5
    max_wait: float = 8
    jitter: float = 1
    max_retry_after: float = 30


T = TypeVar("T")

TELL_SECONDS = 60
LOOPBACK_SECONDS = 4
"""How long to wait for an emulator that is not running: a person sits in front of it."""


class Told:
    """Decides which repeats are logged: one line a minute for failures that are alike, with a count."""

    def __init__(self) -> None:
        self.was_answered = False
        """Whether the client ever got an answer."""
        self._last: dict[Any, float] = {}
        self._since: Counter[Any] = Counter()

    def how_often(self, failure: Any, now: float) -> int | None:
        """
        Return how many failures were not logged since the last line; None if this one is not logged either.

        :param failure: what tells failures that are alike from others.
        :param now: the time.
        """
        if now < self._last.get(failure, -math.inf) + TELL_SECONDS:
            self._since[failure] += 1
            return None
        self._last[failure] = now
        return self._since.pop(failure, 0)


class Tries(Generic[T]):
    """
    The tries of one call: whether there is to be another, after how long, and what earlier ones left open.

    It sees each failure first, so what every error of a connection has in common is written into it here.

    :param policy: how long to repeat.
    :param call: the call.
    :param settings: the connection.
    :param told: which failures of this client are in the log already.
    :param clock: tells the seconds that the policy counts.
    """

    def __init__(
        self,
        policy: RepeatPolicy,
        call: Call[T],
        settings: Settings,
        told: Told,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._told = told
        self._ambiguous = False
        self._policy = policy
        self._call = call
        self._settings = settings
        self._clock = clock
        self._began = clock()
        self._first_failure: CloudflareQueuesError | None = None

    def reading(self, answer: Answer) -> Coroutine[Any, Any, T]:
        """
        Read the result that an answer holds. It pauses now and then, so that an event loop can do something else.

        :param answer: the answer.
        :raises ApiError: it holds none.
        """
        self._told.was_answered = True
        return self._call.reading(answer, repeated=self._ambiguous, secret=self._settings.credentials.secret)

    def failed(self, error: CloudflareQueuesError, sleep: Callable[[float], Awaitable[None]]) -> tenacity.AsyncRetrying:
        """
        Return what repeats after a first failure.

        A call that works never uses tenacity, which would cost more than the rest of the call.

        :param error: how the first try failed.
        :param sleep: waits before the next try.
        """
        self._first_failure = error
        backoff = tenacity.wait_exponential(self._policy.first_wait, max=self._policy.max_wait)
        jitter = tenacity.wait_random(0, self._policy.jitter)

        def wait(state: tenacity.RetryCallState) -> float:
            return max((backoff + jitter)(state), getattr(_error_of(state), "retry_after", None) or 0)

        return tenacity.AsyncRetrying(
            sleep=sleep,
            retry=tenacity.retry_if_exception(self._may_repeat),
            wait=wait,
            stop=self._is_over,
            before_sleep=self._log,
            reraise=True,
        )

    def raise_first(self) -> None:
        """Raise how the first try failed, once: tenacity's own first try."""
        error, self._first_failure = self._first_failure, None
        if error is not None:
            raise error

    def _may_repeat(self, error: BaseException) -> bool:
        if not isinstance(error, CloudflareQueuesError):
            return False
        # A refusal of this try says nothing of an earlier one whose answer was lost.
        self._ambiguous = self._ambiguous or error.maybe_applied
        error.add(conn_id=self._settings.conn_id, maybe_applied=self._ambiguous)
        error.hide(self._settings.credentials.secret)
        if NO_ROUTE in error.codes and not self._settings.base_url.endswith("/client/v4"):
            error.add(remedy="Check 'host' of the connection: it should end in /client/v4. Then check the account ID.")
        return self._call.may_repeat(error) and (error.retry_after or 0) <= self._policy.max_retry_after

    def _is_over(self, state: tenacity.RetryCallState) -> bool:
        return self._clock() - self._began + state.upcoming_sleep >= self._longest(_error_of(state))

    def _longest(self, error: BaseException | None) -> float:
        longest = self._policy.max_seconds
        if self._ambiguous or not isinstance(error, TransportError):
            return longest
        if self._settings.is_loopback:
            longest = min(longest, LOOPBACK_SECONDS)
        return longest if self._told.was_answered else min(longest, self._policy.unreached_seconds)

    def _log(self, state: tenacity.RetryCallState) -> None:
        error = _error_of(state)
        before = self._told.how_often((type(error), getattr(error, "status", None)), self._clock())
        if before is None:
            return
        log.warning(
            "Connection %r: %s%s Trying again in %.1f s (try %d), for up to %g s%s",
            self._settings.conn_id,
            said := printable(getattr(error, "message", "")),
            "" if said.endswith((".", "?")) else ".",
            state.upcoming_sleep,
            state.attempt_number + 1,
            self._longest(error),
            f"; {before} more requests failed like this since the last such line" if before else "",
        )


def _error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
