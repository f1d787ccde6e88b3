"""
Move messages from one queue, commonly a dead-letter queue, to another: pull, send, and only then ack.

The engine pulls, settles and survives; its handler sends. Whatever ends the run, a message is acked only once the
other queue accepted its copy. A copy whose answer was lost, or whose ack was, may be sent again: at least once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, MatchFailedError
from airflow_provider_cfqueues.matching import Match, Matcher
from airflow_provider_cfqueues.models import Message, OutgoingMessage
from airflow_provider_cfqueues.outcomes import Ack, Outcome, Retry
from airflow_provider_cfqueues.processing.copies import copy
from airflow_provider_cfqueues.processing.engine import Engine
from airflow_provider_cfqueues.processing.metrics import Metrics
from airflow_provider_cfqueues.processing.options import DEFAULT_VISIBILITY_SECONDS, Options, choose_visibility_timeout
from airflow_provider_cfqueues.processing.pace import Pace
from airflow_provider_cfqueues.processing.port import HookPort
from airflow_provider_cfqueues.processing.running import run_in_thread

if TYPE_CHECKING:
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
    from airflow_provider_cfqueues.models import Consumer

CONCURRENCY = 4
"""Sends count against Cloudflare's 1,200 calls in five minutes: more at once would meet that sooner, not be faster."""
MAX_BATCH_SIZE = 100
DEFAULT_MAX_RETRIES = 3
MAX_LISTED = 100


@dataclass(frozen=True, kw_only=True)
class RedriveOptions:
    """
    What is moved, and how.

    :param match: which messages, as :mod:`~airflow_provider_cfqueues.matching` reads it; None = all.
    :param unwrap: send what ``QueueProcessOperator`` wrote about a rejected message as the message that it was.
    :param messages_per_second: move no more than that; None = as fast as it goes.
    :param unmatched_delay_seconds: seconds until a message that is not moved can be delivered again.
    :param max_messages: end after so many messages were pulled; None = no limit.
    :param max_duration: pull nothing more after so many seconds; None = no limit.
    :param idle_timeout: end when the queue gave nothing for so many seconds.
    :param grace: seconds that sends under way get when the run is killed.
    """

    match: Match = None
    unwrap: bool = True
    messages_per_second: float | None = None
    unmatched_delay_seconds: int = 300
    max_messages: int | None = None
    max_duration: float | None = None
    idle_timeout: float = 5
    grace: float = 3


@dataclass(kw_only=True)
class Refusals:
    """
    The messages that were not moved, by why.

    :param unmatched: how many ``match`` did not want.
    :param unmovable: how many could not be moved unaltered.
    :param renewed: how many were sent anew to their own queue and acked there, as this delivery may have been the last
        before Cloudflare deletes them.
    :param listed: the first hundred that could not be moved, each with ``message_id`` and ``reason``.
    """

    unmatched: int = 0
    unmovable: int = 0
    renewed: int = 0
    listed: list[dict[str, str]] = field(default_factory=list)


class Redrive:
    """
    Moves messages once; it can be stopped, and a further run goes on where it ended.

    :param hook: the hook.
    :param source_id: ID of the queue to empty.
    :param target_id: ID of the queue that gets the messages.
    :param options: what is moved, and how.
    :param log: where progress and messages that are not moved go.
    :raises ValueError: source and target are the same, or ``match`` cannot be read.
    """

    def __init__(
        self,
        hook: CloudflareQueuesHook,
        source_id: str,
        target_id: str,
        options: RedriveOptions | None = None,
        *,
        log: Any = None,
    ) -> None:
        if source_id == target_id:
            raise ValueError(f"The messages of queue {source_id} cannot be moved to the same queue")
        self.refusals = Refusals()
        self._hook = hook
        self._source_id = source_id
        self._target_id = target_id
        self._options = options or RedriveOptions()
        self._log = log or logging.getLogger(__name__)
        self._matcher = Matcher(self._options.match)
        self._consumer: Consumer | None = None
        self._pace = Pace(self._options.messages_per_second)
        self._error: CloudflareQueuesError | None = None
        engine_options = self._engine_options()
        port = HookPort(
            hook, source_id, visibility_timeout=engine_options.visibility_timeout, dead_letter_queue_id=None
        )
        self._engine = Engine(port, self._move, engine_options, log=self._log)
        self.report = self._engine.report

    @property
    def killed(self) -> bool:
        """Whether the run was killed."""
        return self._engine.killed

    def run(self) -> dict[str, Any]:
        """
        Move messages until the queue is idle, a limit is reached, something fails for good, or ``stop`` is called.

        :return: ``pulled``, ``moved``, ``unmatched``, ``unmovable`` (with the first hundred as ``not_moved``),
            ``renewed``, ``returned``, ``unconfirmed`` (moved or returned, but the API did not confirm it), ``seconds``
            and ``rate``. A message that was delivered again during the run is counted again.
        :raises CloudflareQueuesError: a request failed for good; what was moved until then is acked.
        """
        self._consumer = self._hook.get_pull_consumer(self._source_id)
        run_in_thread(self._engine, self._hook, Metrics(self._source_id), self._log)
        if self._error is not None:
            raise self._error
        return self.to_xcom()

    def stop(self, *, killed: bool = False) -> None:
        """
        Pull and send nothing more; what was sent is acked, the rest given back. Safe from a signal handler.

        :param killed: sends under way get ``grace`` seconds, not as long as they need.
        """
        self._engine.stop(killed=killed)

    def to_xcom(self) -> dict[str, Any]:
        """Return what became of the messages so far, as plain JSON values; it has no body and no lease."""
        report, refusals = self.report, self.refusals
        return {
            "pulled": report.pulled,
            "moved": report.acked - refusals.renewed,
            "unmatched": refusals.unmatched,
            "unmovable": refusals.unmovable,
            "renewed": refusals.renewed,
            "returned": report.retried,
            "unconfirmed": report.unconfirmed,
            "seconds": round(report.seconds, 3),
            "rate": round(report.acked / report.seconds, 1) if report.seconds else 0.0,
            "not_moved": refusals.listed,
        }

    def _engine_options(self) -> Options:
        rate = self._options.messages_per_second
        batch_size = MAX_BATCH_SIZE if rate is None else max(1, min(MAX_BATCH_SIZE, int(rate)))
        timeout = DEFAULT_VISIBILITY_SECONDS if rate is None else choose_visibility_timeout(1 / rate, batch_size)
        return Options(
            max_messages=self._options.max_messages,
            max_duration=self._options.max_duration,
            idle_timeout=self._options.idle_timeout,
            concurrency=CONCURRENCY if rate is None else 1,
            batch_size=batch_size,
            visibility_timeout=max(timeout, DEFAULT_VISIBILITY_SECONDS),
            expected_seconds_per_message=None if rate is None else 1 / rate,
            delay=self._options.unmatched_delay_seconds,
            grace=self._options.grace,
            handles_undecoded=True,
        )

    async def _move(self, messages: Sequence[Message]) -> list[Outcome]:
        chosen = {position: copied for position, message in enumerate(messages) if (copied := self._choose(message))}
        done: set[int] = set()
        if await self._pace.wait(len(chosen), lambda: self._engine.stopping):
            done = await self._send(self._target_id, chosen)
        left = [position for position in range(len(messages)) if position not in done]
        renewed = await self._send(self._source_id, self._renew({position: messages[position] for position in left}))
        self.refusals.renewed += len(renewed)
        done |= renewed
        delay = 0 if self._engine.stopping else self._options.unmatched_delay_seconds
        return [Ack() if position in done else Retry(delay, reason=None) for position in range(len(messages))]

    def _choose(self, message: Message) -> OutgoingMessage | None:
        """Return what the target is sent of a message; None where the message stays."""
        try:
            if self._matcher.wants(message):
                return copy(message, unwrapped=self._options.unwrap)
            self.refusals.unmatched += 1
        except (MatchFailedError, ValueError) as error:
            self._refuse(message, error)
        return None

    def _renew(self, messages: Mapping[int, Message]) -> dict[int, OutgoingMessage]:
        """Return copies of those messages that Cloudflare may delete once they are given back."""
        renewed = {}
        for position, message in messages.items():
            if self._is_last_delivery(message):
                with suppress(ValueError):  # it was told of as a message that cannot be moved
                    copied = copy(message, unwrapped=False)
                    renewed[position] = replace(copied, delay_seconds=self._options.unmatched_delay_seconds)
        return renewed

    async def _send(self, queue_id: str, copies: Mapping[int, OutgoingMessage]) -> set[int]:
        """Send copies; return the positions of those that were accepted. A failure ends the run."""
        if not copies:
            return set()
        positions = list(copies)
        try:
            # Not to repeat would not spare a duplicate: what may have been accepted is given back, and sent again.
            await self._hook.asend(queue_id, list(copies.values()), repeat_ambiguous=True)
        except CloudflareQueuesError as error:
            self._error = self._error or error
            self._engine.stop()
            return {positions[index] for index in error.progress.done} if error.progress else set()
        return set(positions)

    def _is_last_delivery(self, message: Message) -> bool:
        """Whether giving the message back may let Cloudflare delete it; how it counts exactly is not documented."""
        if self._consumer is not None and self._consumer.dead_letter_queue is not None:
            return False
        return (message.attempts or 0) >= self._max_retries()

    def _max_retries(self) -> int:
        known = self._consumer.max_retries if self._consumer else None
        return DEFAULT_MAX_RETRIES if known is None else known

    def _refuse(self, message: Message, error: Exception) -> None:
        self.refusals.unmovable += 1
        reason = getattr(error, "message", str(error))
        if len(self.refusals.listed) < MAX_LISTED:
            self.refusals.listed.append({"message_id": message.id, "reason": reason})
        hint = (
            f". It was delivered {message.attempts} times: Cloudflare DELETES it soon. Raise max_retries of the "
            "queue's consumer, or set a dead-letter queue there"
        )
        self._log.warning(
            "Message %s stays in queue %s: %s%s",
            message.id,
            self._source_id,
            reason,
            hint if self._is_last_delivery(message) else "",
        )
