"""When a task that failed at Cloudflare Queues is worth another try, and after how long (Airflow 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues._compat import AirflowNotFoundException, RetryDecision, RetryPolicy
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context

LONGEST_WAIT = timedelta(days=1)
"""The longest wait, even if the API asks for a longer one."""


class CloudflareQueuesRetryPolicy(RetryPolicy):  # type: ignore[misc, unused-ignore]
    """
    Retry a task by what failed: ``QueuePullOperator(…, retries=5, retry_policy=CloudflareQueuesRetryPolicy())``.

    - What another try cannot fix (``worth_another_try`` of the error is False: credentials, permissions, a connection
      that is missing or wrong, a request that the API objects to, a quota that is used up, leases that were not
      confirmed): the task fails at once.
    - If the API asked to wait (``Retry-After`` of a rate limit or of a server's failure): another try after that time.
    - Anything else: as ``retries`` and ``retry_delay`` of the task say.

    It also judges the errors of deferred tasks: these are raised in the task unchanged.

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
        for error in _causes(exception):
            if isinstance(error, AirflowNotFoundException):
                return RetryDecision.fail(f"Another try cannot fix this: {error}")
            if isinstance(error, CloudflareQueuesError):
                return _decide(error)
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


def _decide(error: CloudflareQueuesError) -> RetryDecision:
    if not error.worth_another_try:
        return RetryDecision.fail(f"{type(error).__name__}: another try cannot fix this. {error.remedy}")
    if error.retry_after is not None:
        wait = timedelta(seconds=min(error.retry_after, LONGEST_WAIT.total_seconds()))
        return RetryDecision.retry(wait, f"The API asked to wait {error.retry_after:g} s")
    return RetryDecision.default()
