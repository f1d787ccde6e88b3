"""Send copies of messages, so that one message that the API refuses does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from airflow_provider_cfqueues.client import message_calls, messages
from airflow_provider_cfqueues.client.flow import Pause
from airflow_provider_cfqueues.exceptions import InvalidRequestError
from airflow_provider_cfqueues.models import OutgoingMessage

if TYPE_CHECKING:
    from airflow_provider_cfqueues.client.flow import Flow

MAX_REFUSED_IN_A_ROW = 10
"""After ten refusals in a row, suspect the queue, not the messages."""


class Sender:
    """
    Sends copies of messages, and finds out which of them the API objects to.

    :param wait: returns the seconds to wait before a request, 0 to send it now, None to stop.
    :param on_request: is told of each request, and how many messages it brought over.
    """

    def __init__(
        self, *, wait: Callable[[], float | None] = lambda: 0.0, on_request: Callable[[int], None] = lambda sent: None
    ) -> None:
        self._wait = wait
        self._on_request = on_request
        self._refused_in_a_row = 0

    def send(
        self,
        queue_id: str,
        copies: Mapping[str, OutgoingMessage],
        *,
        sent: set[str],
        refused: dict[str, InvalidRequestError],
    ) -> Flow[None]:
        """
        Send copies. A request that the API objects to is halved, until it is clear which message is at fault.

        What was accepted or refused is noted at once, so that it is known also if this is cancelled or fails. A copy
        that may have been accepted is sent again: a duplicate is better than a lost message.

        :param copies: the copies, by the lease of their message; each fits into a request.
        :param sent: is given the leases of those that the queue accepted.
        :param refused: is given the errors of those that it did not, by lease.
        :raises CloudflareQueuesError: a request failed for another reason, or too many messages were refused in a row.
        """
        leases = iter(copies)
        waiting = [list(islice(leases, len(batch))) for batch in messages.batches(list(copies.values()))]
        while waiting:
            while pause := self._wait():
                yield Pause(seconds=pause)
            if pause is None:
                return
            batch = waiting.pop(0)
            before = len(sent)
            try:
                yield message_calls.send(queue_id, [copies[lease_id] for lease_id in batch], repeat_ambiguous=True)
            except InvalidRequestError as error:
                half = len(batch) // 2
                if half:
                    waiting[:0] = [batch[:half], batch[half:]]
                    continue
                refused[batch[0]] = error
                self._refused_in_a_row += 1
                if self._refused_in_a_row == MAX_REFUSED_IN_A_ROW:
                    raise
            else:
                self._refused_in_a_row = 0
                sent.update(batch)
            finally:
                self._on_request(len(sent) - before)
