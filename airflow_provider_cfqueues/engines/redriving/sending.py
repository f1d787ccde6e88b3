"""Send copies of messages in single requests, so that one message which is refused does not stand in for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from airflow_provider_cfqueues.client import messages
from airflow_provider_cfqueues.engines.redriving.pace import Pace
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, InvalidRequestError
from airflow_provider_cfqueues.models import OutgoingMessage

if TYPE_CHECKING:
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

MAX_REFUSED_IN_A_ROW = 10
"""So many messages, one after the other, are not each at fault themselves."""


class Sender:
    """
    Sends copies of messages, and finds out which of them the API objects to.

    :param hook: the hook.
    :param pace: is told of each request.
    """

    def __init__(self, hook: CloudflareQueuesHook, pace: Pace) -> None:
        self._hook = hook
        self._pace = pace
        self._refused_in_a_row = 0

    async def send(
        self,
        queue_id: str,
        copies: Mapping[str, OutgoingMessage],
        *,
        sent: set[str],
        refused: dict[str, InvalidRequestError],
        may_begin: Callable[[], Awaitable[bool]],
    ) -> None:
        """
        Send copies. A request that the API objects to is halved, until it is clear which message is at fault.

        What was accepted or refused is noted at once, so that it is known also where this is cancelled or fails.

        :param queue_id: ID of the queue that gets them.
        :param copies: the copies, by the lease of their message.
        :param sent: is given the leases of those that the queue accepted.
        :param refused: is given the errors of those that it did not, by lease.
        :param may_begin: is waited for before each request; False ends it.
        :raises CloudflareQueuesError: a request failed for another reason, or too many messages were refused in a row.
        """
        leases = iter(copies)
        waiting = [list(islice(leases, len(batch))) for batch in messages.batches(list(copies.values()))]
        while waiting and await may_begin():
            batch = waiting.pop(0)
            before = len(sent)
            try:
                # Not to repeat would not spare a duplicate: what may have been accepted is given back, and sent again.
                await self._hook.asend(queue_id, [copies[lease_id] for lease_id in batch], repeat_ambiguous=True)
            except InvalidRequestError as error:
                half = len(batch) // 2
                if half:
                    waiting[:0] = [batch[:half], batch[half:]]
                    continue
                error.progress = None
                refused[batch[0]] = error
                self._refused_in_a_row += 1
                if self._refused_in_a_row == MAX_REFUSED_IN_A_ROW:
                    raise
            except CloudflareQueuesError as error:
                error.progress = None  # positions in a list that nobody has
                raise
            else:
                self._refused_in_a_row = 0
                sent.update(batch)
            finally:
                self._pace.sent(len(sent) - before, asyncio.get_running_loop().time())
