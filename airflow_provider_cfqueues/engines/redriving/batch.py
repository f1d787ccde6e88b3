"""Messages that a redrive pulled together, and the state of each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

from airflow_provider_cfqueues.engines.copies import copy
from airflow_provider_cfqueues.exceptions import InvalidRequestError
from airflow_provider_cfqueues.matching import Matcher
from airflow_provider_cfqueues.models import Message, OutgoingMessage

Verdict: TypeAlias = "OutgoingMessage | Exception | None"
"""What the target is sent of a message; why it cannot be moved; or None, where it is not wanted."""


class Batch:
    """
    Messages of one pull.

    :param now: tells the time that leases are compared with.
    """

    def __init__(self, messages: Sequence[Message], now: Callable[[], datetime]) -> None:
        self.messages = messages
        self._now = now
        self.sent: set[str] = set()
        self.refused: dict[str, InvalidRequestError] = {}
        self.verdicts: dict[str, Verdict] = {}

    def judge(self, matcher: Matcher, *, unwrap: bool, stopping: Callable[[], bool]) -> dict[str, Verdict]:
        """
        Return the verdict on each message, by lease. It may run in a thread that is left behind at a kill.

        :param matcher: says which messages are wanted.
        :param unwrap: whether what ``QueueProcessOperator`` wrote about a message is sent as that message.
        :param stopping: whether to judge no further one.
        """
        verdicts: dict[str, Verdict] = {}
        for message in self.messages:
            if stopping():
                break
            verdict: Verdict = None
            try:
                if matcher.wants(message):
                    verdict = copy(message, unwrapped=unwrap)
            except Exception as error:  # noqa: BLE001 - whatever a function in match raises
                verdict = error
            except BaseException as error:  # noqa: BLE001 - it ends the judging of this message, not the process
                verdict = RuntimeError(f"match raised {type(error).__name__}")
            verdicts[message.lease_id] = verdict
        return verdicts

    def chosen(self) -> dict[str, OutgoingMessage]:
        """Return what to send, by lease, without messages whose leases have ended."""
        verdicts = ((message, self.verdicts.get(message.lease_id)) for message in self.messages)
        return {
            message.lease_id: verdict
            for message, verdict in verdicts
            if isinstance(verdict, OutgoingMessage) and not self.has_ended(message)
        }

    def staying(self) -> dict[str, Exception | None]:
        """Return why messages are not to be moved, by lease; None where they are not wanted."""
        verdicts = {**self.verdicts, **self.refused}
        return {lease_id: verdict for lease_id, verdict in verdicts.items() if not isinstance(verdict, OutgoingMessage)}

    def has_ended(self, message: Message) -> bool:
        """Return whether the lease of a message has ended."""
        return message.lease_expires_at is not None and message.lease_expires_at <= self._now()
