"""
Copies of messages: what a dead-letter queue gets of a message, the way back, and how copies are sent.

One message that the API refuses does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.bodies import decode_body
from airflow_provider_cfqueues.client import message_calls, messages
from airflow_provider_cfqueues.client.flow import Pause
from airflow_provider_cfqueues.exceptions import InvalidRequestError
from airflow_provider_cfqueues.models import Message, OutgoingMessage

if TYPE_CHECKING:
    from airflow_provider_cfqueues.client.flow import Flow

MARK = {"rejected_by": "airflow-provider-cfqueues"}
"""The mark of a copy: a message of the user may have the same keys."""
MAX_REFUSED_IN_A_ROW = 10
"""After ten refusals in a row, suspect the queue, not the messages."""


def wrap(message: Message, queue_id: str, reason: str) -> OutgoingMessage:
    """Return what a dead-letter queue gets of a message of a queue: the message, with what is known of it."""
    undecoded = message.body_error is not None or isinstance(message.body, bytes)
    return OutgoingMessage(
        body={
            **MARK,
            "id": message.id,
            "queue_id": queue_id,
            "body": message.raw_body if undecoded else _delivered(message),
            "content_type": message.content_type,
            "metadata": dict(message.metadata),
            "attempts": message.attempts,
            "reason": reason,
        },
        content_type="json",
    )


def is_wrapped(body: Any) -> bool:
    """
    Return whether :func:`wrap` made a body.

    :param body: the decoded body of a message.
    """
    return isinstance(body, dict) and MARK.items() <= body.items()


def copy(message: Message, *, unwrapped: bool) -> OutgoingMessage:
    """
    Return a message as it can be sent again: same body, same content type.

    :param unwrapped: send what :func:`wrap` made as the message that it was.
    :raises ValueError: the API could not carry it unaltered.
    """
    if message.body_error is not None:
        raise ValueError(f"its body could not be decoded: {message.body_error}")
    body, content_type = _delivered(message), message.content_type
    if unwrapped and content_type == "json" and is_wrapped(body):
        body, content_type = body["body"], body["content_type"]
    expected: Any = {"text": str, "json": (dict, list)}.get(str(content_type))
    if expected is None:
        raise ValueError(f"a body of content type {content_type!r} cannot be sent over HTTP, only json and text can")
    if not isinstance(body, expected):
        msg = f"a {content_type} body that is a {type(body).__name__} cannot be sent over HTTP"
        raise ValueError(msg)  # noqa: TRY004 - the message is at fault, not the code
    outgoing = OutgoingMessage(body=body, content_type=content_type)
    if not messages.fits(outgoing):
        raise ValueError("the message is larger than 128 KB, or has a value that JSON cannot hold (NaN)")
    return outgoing


def _delivered(message: Message) -> Any:
    """Return the body as it was delivered: a handler or a function in ``match`` may have changed the decoded one."""
    if message.raw_body is None:  # it was not pulled
        return message.body
    return decode_body(message.raw_body, message.content_type)


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
