"""Move messages from a dead-letter queue to the queue that can process them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.exceptions import ProcessingFailedError
from airflow_provider_cfqueues.operators.base import EngineOperator, are_too_many, parse_fail_on

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds
    from airflow_provider_cfqueues.engines.redriving.options import RedriveOptions, RedriveReport
    from airflow_provider_cfqueues.matching import Match


class QueueRedriveOperator(EngineOperator):
    """
    Move messages from a queue, commonly a dead-letter queue, to another: pull, send, and only then ack.

    It is at least once: if an answer is lost, or if the task dies between send and ack, a message may be sent twice. It
    moves up to a hundred messages at a time. If Airflow stops the task, or if the target refuses, it acks what was sent
    and gives the rest back; the next try goes on from there.

    Body and content type are kept. ID, time of sending, attempts and other metadata are those of a new message.
    Messages stay in their queue, and are reported, if HTTP cannot send them (``bytes``, ``v8``, a JSON body that is
    neither object nor array, a body that cannot be decoded) or if the target refuses them.

    A message that is pulled and not moved has used up a delivery: keep ``max_retries`` of the dead-letter queue's
    consumer high (100). If Cloudflare might delete it, it is not given back but sent to its own queue again.

    Returns ``{"pulled", "moved", "renewed", "returned", "expired", "unconfirmed", "unconfirmed_ids",
    "unconfirmed_more", "unmatched", "unmovable", "seconds", "rate", "not_moved"}``: ``pulled`` is the sum of the five
    counts after it, ``unconfirmed_ids`` are the first hundred of these, ``unmatched`` and ``unmovable`` are why
    messages were not moved, and ``not_moved`` has the first hundred unmovable ones as ``{"message_id", "reason"}``.

    :param target_queue_id: ID of the queue that gets the messages; exactly one of it and its name is given.
    :param target_queue_name: name of that queue.
    :param match: which messages to move; a condition as text, ``literal:…``, ``jsonpath:…`` or ``function:…`` (see
        :mod:`~airflow_provider_cfqueues.matching`), or a list of them. It sees a message as it lies in the queue. A
        template may not render to ``function:…``: whoever triggers the DAG could choose code to run.
    :param unwrap: send what :class:`~airflow_provider_cfqueues.operators.queues.QueueProcessOperator` wrote about a
        rejected message as the message that it was.
    :param messages_per_second: move no more than that; None = about 300, which the API's limit on calls allows.
    :param max_messages: end after so many messages were pulled; None = no limit.
    :param max_duration: pull nothing more after so many seconds, and move what was pulled; None = no limit.
    :param idle_timeout: end when the queue gave nothing for so many seconds.
    :param unmatched_delay_seconds: seconds until a message that was not moved can be delivered again. A run that takes
        longer meets it again.
    :param visibility_timeout: seconds that the leases last, up to 43,200; None = 600. It must cover what ``match``
        takes for a hundred messages.
    :param fail_on: when the task fails: ``all`` messages to move stay behind, unmovable or not confirmed (the default),
        ``any`` does, ``none`` (never), or a share between 0 and 1 that may stay at the most. Messages that ``match``
        does not want do not count.
    :param grace: seconds that a send, or a function in ``match``, gets when the task is killed; Airflow 3 ends the
        process after 5.
    """

    template_fields: Sequence[str] = (
        *EngineOperator.template_fields,
        "target_queue_id",
        "target_queue_name",
        "match",
        "messages_per_second",
        "max_messages",
        "max_duration",
        "idle_timeout",
        "unmatched_delay_seconds",
        "visibility_timeout",
    )

    def __init__(
        self,
        *,
        target_queue_id: str | None = None,
        target_queue_name: str | None = None,
        match: Match = None,
        unwrap: bool = True,
        messages_per_second: float | str | None = None,
        max_messages: int | str | None = None,
        max_duration: Seconds | None = None,
        idle_timeout: Seconds = 5,
        unmatched_delay_seconds: Seconds = 300,
        visibility_timeout: Seconds | None = None,
        **kwargs: Any,
    ) -> None:
        from airflow_provider_cfqueues.matching import check_match

        super().__init__(**kwargs)
        if not _is_template(match):
            check_match(match)  # what is wrong in it is wrong now
        self.target_queue_id = target_queue_id
        self.target_queue_name = target_queue_name
        self.match = match
        self._written_match = match
        self.unwrap = unwrap
        self.messages_per_second = messages_per_second
        self.max_messages = max_messages
        self.max_duration = max_duration
        self.idle_timeout = idle_timeout
        self.unmatched_delay_seconds = unmatched_delay_seconds
        self.visibility_timeout = visibility_timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Move the messages."""
        from airflow_provider_cfqueues.engines.redriving.redrive import Redrive

        options = self._options()
        share = parse_fail_on(self.fail_on)
        target = self.hook.find_queue_flow(self.target_queue_id, self.target_queue_name, kind="target_queue")
        target_id = self.hook.run(target)
        redrive = Redrive(self.hook, self.find_queue(), target_id, options, log=self.log)
        self._note_engine(redrive)
        try:
            redrive.run()
        finally:
            self.log.info("What became of the messages: %s", redrive.report.to_xcom())
        self._judge(redrive.report, share)
        return redrive.report.to_xcom()

    def _options(self) -> RedriveOptions:
        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues.engines.redriving.options import RedriveOptions
        from airflow_provider_cfqueues.matching import refuse_functions

        if self.match != self._written_match:
            refuse_functions(self.match)
        rate = arguments.parse_optional(arguments.parse_number, self.messages_per_second, "messages_per_second")
        return RedriveOptions(
            match=self.match,
            unwrap=self.unwrap,
            messages_per_second=rate,
            unmatched_delay_seconds=arguments.parse_delay(self.unmatched_delay_seconds, "unmatched_delay_seconds") or 0,
            max_messages=arguments.parse_optional(arguments.parse_count, self.max_messages, "max_messages"),
            max_duration=arguments.parse_optional(arguments.parse_seconds, self.max_duration, "max_duration"),
            idle_timeout=arguments.parse_seconds(self.idle_timeout, "idle_timeout"),
            visibility_timeout=arguments.parse_visibility_timeout(self.visibility_timeout),
            grace=arguments.parse_seconds(self.grace, "grace"),
        )

    def _judge(self, report: RedriveReport, share: float | None) -> None:
        from airflow_provider_cfqueues.engines.settlement import Kind
        from airflow_provider_cfqueues.texts import counted

        queue = self.queue_id or self.queue_name
        bad = report.failed
        if self._killed:
            counts = {"given back": report.fates[Kind.RETRIED], "not confirmed": report.fates[Kind.UNCONFIRMED]}
            others = "".join(f", {count} {word}" for word, count in counts.items() if count)
            msg = f"The task was killed: moved {counted(report.moved, 'message')}{others}"
        elif are_too_many(bad, report.moved + bad, share):
            msg = f"{bad} of {report.moved + bad} messages to move cannot be moved or are not confirmed"
        else:
            return
        if report.sent_not_acked:
            msg += (
                f". {report.sent_not_acked} of them were sent to the target, but not acked here: another redrive sends "
                "them again"
            )
        reasons = [f"{item['message_id']}: {item['reason']}" for item in report.listed]
        details = " ".join(filter(None, ["; ".join(reasons), report.unconfirmed.named]))
        error = ProcessingFailedError(msg, details=details, conn_id=self.cloudflare_conn_id, queue=queue)
        error.add(
            remedy="Fix the cause, then run the task again: messages that are not moved are delivered again after "
            "unmatched_delay_seconds, messages that are not confirmed when their leases end."
        )
        raise error


def _is_template(match: Any) -> bool:
    """Whether it is known only when the task runs: text with Jinja in it, or another task's XCom."""
    texts = match if isinstance(match, (list, tuple)) else [match]
    return any(("{{" in text or "{%" in text) if isinstance(text, str) else hasattr(text, "resolve") for text in texts)
