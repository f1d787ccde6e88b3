"""When a task that failed at Cloudflare Queues is worth another try, and after how long (Airflow 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues._compat import RetryDecision, RetryPolicy
from airflow_provider_cfqueues.exceptions import (
    AuthenticationError,
    CloudflareQueuesError,
    ConfigurationError,
    PermissionDeniedError,
    RateLimitedError,
    UnconfirmedLeasesError,
)

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context

HOPELESS = (AuthenticationError, PermissionDeniedError, ConfigurationError, UnconfirmedLeasesError)
"""What another try cannot mend: somebody has to mend credentials or connection, and a lease cannot be settled twice."""


class CloudflareQueuesRetryPolicy(RetryPolicy):  # type: ignore[misc, unused-ignore]
    """
    Retry a task by what failed: ``QueuePullOperator(…, retries=5, retry_policy=CloudflareQueuesRetryPolicy())``.

    - A rate limit: another try, after the time that the API asked for (``Retry-After``); without one, after the task's
      own ``retry_delay``.
    - Credentials, permissions, the connection, leases that were not confirmed: the task fails at once.
    - Anything else: as ``retries`` and ``retry_delay`` of the task say.

    It judges the errors of deferred tasks as well: they reach the task as what they are.

    :raises RuntimeError: the Airflow that runs is older than 3.3.
    """

    def __init__(self) -> None:
        if RetryDecision is None:
            raise RuntimeError(
                "CloudflareQueuesRetryPolicy needs Airflow 3.3 or later; leave out retry_policy, and choose "
                "retries and retry_delay of the task instead"
            )

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """
        Decide by what failed.

        :param exception: what ended the task.
        :param try_number: the number of this try.
        :param max_tries: how many there may be.
        :param context: the task's context.
        """
        error = next((error for error in _causes(exception) if isinstance(error, CloudflareQueuesError)), None)
        if isinstance(error, HOPELESS):
            return RetryDecision.fail(f"{type(error).__name__}: another try cannot mend this. {error.remedy}")
        if isinstance(error, RateLimitedError) and error.retry_after is not None:
            reason = f"The API asked to wait {error.retry_after:g} s"
            return RetryDecision.retry(timedelta(seconds=error.retry_after), reason)
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return what the policy is made of: nothing."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> CloudflareQueuesRetryPolicy:
        """
        Return a policy.

        :param data: what :meth:`serialize` gave.
        """
        return cls()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error, and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
