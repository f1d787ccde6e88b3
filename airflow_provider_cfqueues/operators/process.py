"""Process a queue inside one task: pull ahead, handle, settle by outcome."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow_provider_cfqueues.delays import DelayRule, ExponentialDelay, is_rule
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, ProcessingFailedError
from airflow_provider_cfqueues.operators.base import EngineOperator, are_too_many, parse_fail_on

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds
    from airflow_provider_cfqueues.engines.processing.options import Options
    from airflow_provider_cfqueues.engines.processing.report import Report
    from airflow_provider_cfqueues.engines.queue import HookQueue
    from airflow_provider_cfqueues.engines.settlement import Situation

DEFAULT_DELAY = ExponentialDelay(jitter=0.2)


class QueueProcessOperator(EngineOperator):
    """
    Process the messages of a queue with a handler, and settle each by its outcome.

    The handler gets a :class:`~airflow_provider_cfqueues.models.Message`:

    - If it returns, the message is acked.

    - If it raises, the message is delivered again after ``delay_seconds``.

    - If it raises :class:`~airflow_provider_cfqueues.outcomes.Reject`, a copy goes to the dead-letter queue, then the
      message is acked.

    Messages are pulled ahead, handled ``concurrency`` at once and settled meanwhile. If the task dies, what was not
    settled is delivered again.

    Returns a report: ``pulled``, ``handled``, ``failed``, ``acked``, ``acked_from_journal``, ``retried``, ``rejected``,
    ``renewed``, ``expired``, ``unconfirmed``, ``unconfirmed_ids`` (the first hundred), ``unconfirmed_more``,
    ``exhausted``, ``late``, ``seconds``, ``rate``, ``attempts`` and ``results``. If the task fails, it pushes the
    report as the XCom ``report``.

    :param handler: a callable, sync or async, or the dotted path of one. Its first argument is the message (or, with
        ``batch``, a list of messages); further ones are taken from ``op_kwargs`` and the context, as in ``@task``.
    :param op_args: further positional arguments of the handler.
    :param op_kwargs: further keyword arguments of the handler.
    :param batch: the handler gets a list of up to ``batch_size`` messages; it returns None (all are done) or a list of
        one ``Ack()``, ``Retry()`` or ``Reject()`` per message, in order.
    :param batch_size: messages per batch, up to 100.
    :param max_messages: end after so many messages; None = no limit.
    :param max_duration: pull nothing more after so many seconds. What was pulled before is still handled, which takes
        at most a quarter of ``visibility_timeout``. None = no limit.
    :param idle_timeout: end when the queue gave nothing for so many seconds.
    :param until: ``empty`` (end at ``idle_timeout``) or ``forever``.
    :param concurrency: how many handlers run at once: threads for sync handlers, tasks for async ones.
    :param visibility_timeout: seconds that the leases last, up to 43,200; None = chosen from
        ``expected_seconds_per_message``, or 300.
    :param expected_seconds_per_message: how long the handler takes, if that is known.
    :param settle_interval: how many seconds an outcome waits at most until it is sent.
    :param delay_seconds: how long a failed message waits until it is delivered again: seconds, or a rule such as
        :class:`~airflow_provider_cfqueues.delays.ExponentialDelay`.
    :param max_attempts: after so many deliveries, reject a message at its next one, without calling the handler. Keep
        it below the consumer's ``max_retries``, after which Cloudflare takes the message away.
    :param dead_letter_queue: name of the queue that gets copies of rejected messages, and of messages that Cloudflare
        would delete if they were given back; None = the consumer's own. With no dead-letter queue at all, rejected
        messages are given back.
    :param fail_on: when the task fails: ``all`` messages failed (the default), ``any`` did, ``none`` (never), or the
        share between 0 and 1 that may fail.
    :param grace: seconds that running handlers get when the task is killed; Airflow 3 ends the process after 5.
    :param dry_run: handle and report, then give every message back. Each dry run uses up a delivery of each message.
        If this may be a message's last delivery, the message stays leased.
    :param keep_results: how many results of handlers the report keeps.
    :param journal: write down, about once a second, which messages are handled and not acked yet. If the task dies, its
        next try acks them instead of handling them again. For handlers that are slow or costly to repeat. Needs Airflow
        3.3 (``context["task_state_store"]``).
    """

    template_fields: Sequence[str] = (
        *EngineOperator.template_fields,
        "op_args",
        "op_kwargs",
        "max_messages",
        "max_duration",
        "visibility_timeout",
        "delay_seconds",
        "dead_letter_queue",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"op_args": "py", "op_kwargs": "py"}
    shallow_copy_attrs: Sequence[str] = ("handler",)

    def __init__(
        self,
        *,
        handler: Callable[..., Any] | str,
        op_args: Collection[Any] = (),
        op_kwargs: Mapping[str, Any] | None = None,
        batch: bool = False,
        batch_size: int = 100,
        max_messages: int | str | None = None,
        max_duration: Seconds | None = None,
        idle_timeout: float = 5,
        until: str = "empty",
        concurrency: int = 1,
        visibility_timeout: Seconds | None = None,
        expected_seconds_per_message: float | None = None,
        settle_interval: float = 1,
        delay_seconds: Seconds | DelayRule | None = DEFAULT_DELAY,
        max_attempts: int | None = None,
        dead_letter_queue: str | None = None,
        dry_run: bool = False,
        keep_results: int = 0,
        journal: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(handler, str):  # of one that is wrong, the DAG has an import error
            from airflow_provider_cfqueues.engines.processing.handlers import check_handler

            check_handler(handler)
        self.handler = handler
        self.op_args = op_args
        self.op_kwargs = op_kwargs or {}
        self.batch = batch
        self.batch_size = batch_size
        self.max_messages = max_messages
        self.max_duration = max_duration
        self.idle_timeout = idle_timeout
        self.until = until
        self.concurrency = concurrency
        self.visibility_timeout = visibility_timeout
        self.expected_seconds_per_message = expected_seconds_per_message
        self.settle_interval = settle_interval
        self.delay_seconds = delay_seconds
        self.max_attempts = max_attempts
        self.dead_letter_queue = dead_letter_queue
        self.is_dry_run = dry_run  # BaseOperator has a method dry_run
        self.keep_results = keep_results
        self.journal = journal

    def execute(self, context: Context) -> dict[str, Any]:
        """Process the queue."""
        return self._process(context)

    def _process(self, context: Context) -> dict[str, Any]:
        """Process the queue. It is not in ``execute`` because Airflow 2 warns if a subclass calls its parent's."""
        from airflow_provider_cfqueues._compat.supervisor import share_supervisor
        from airflow_provider_cfqueues.engines.processing.engine import Engine
        from airflow_provider_cfqueues.engines.processing.journal import Journal, find_store
        from airflow_provider_cfqueues.engines.processing.report import log_report
        from airflow_provider_cfqueues.engines.processing.running import run_in_thread
        from airflow_provider_cfqueues.engines.waiting import utc_now

        share_supervisor()  # handlers have threads of their own
        options = self._options()
        share = parse_fail_on(self.fail_on)
        handler = self._bind_handler(context, options)
        needs_store = self.journal and not options.dry_run  # a dry run acks nothing
        store = find_store(cast("Mapping[str, Any]", context)) if needs_store else None
        queue_id = self.find_queue()
        queue = self._open_queue(
            self.hook,
            queue_id,
            visibility_timeout=options.visibility_timeout,
            situation=self._find_situation(queue_id),
        )
        journal = None if store is None else Journal(store, queue_id, now=utc_now, log=self.log)
        engine = Engine(queue, handler, options, log=self.log, journal=journal)
        self._note_engine(engine)
        report = engine.report
        try:
            run_in_thread(engine)
            self._judge(report, share)
        except BaseException as error:  # a time-out, too
            self._report_failure(context, report, error)
            raise
        finally:
            log_report(self.log, report, options)
        if journal is not None:
            journal.delete()
        return report.to_xcom()

    def _report_failure(self, context: Context, report: Report, error: BaseException) -> None:
        """Push the report of a task that fails, and let the error name what is not confirmed."""
        ti = context.get("ti")
        if ti is not None and not self._killed:  # a killed task has no time for it
            with suppress(Exception):  # the failure matters more
                ti.xcom_push(key="report", value=report.to_xcom())
        if isinstance(error, CloudflareQueuesError) and report.unconfirmed.count:
            summary = "" if isinstance(error, ProcessingFailedError) else report.conclusion()
            error.add(". ".join(filter(None, [summary, report.unconfirmed.when])), details=report.unconfirmed.named)

    def _options(self) -> Options:
        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues._compat import AirflowFailException, AirflowSkipException
        from airflow_provider_cfqueues.engines.processing.options import Options, choose_visibility_timeout

        arguments.parse_choice(self.until, "until", ("empty", "forever"))
        batch_size = min(100, arguments.parse_count(self.batch_size, "batch_size")) if self.batch else None
        expected = arguments.parse_optional(
            arguments.parse_seconds, self.expected_seconds_per_message, "expected_seconds_per_message"
        )
        timeout = arguments.parse_visibility_timeout(self.visibility_timeout)
        delay: Any = self.delay_seconds
        return Options(
            max_messages=arguments.parse_optional(arguments.parse_count, self.max_messages, "max_messages"),
            max_duration=arguments.parse_optional(arguments.parse_seconds, self.max_duration, "max_duration"),
            idle_timeout=None
            if self.until == "forever"
            else arguments.parse_seconds(self.idle_timeout, "idle_timeout"),
            concurrency=arguments.parse_count(self.concurrency, "concurrency"),
            batch_size=batch_size,
            visibility_timeout=choose_visibility_timeout(expected, batch_size) if timeout is None else timeout,
            expected_seconds_per_message=expected,
            settle_interval=arguments.parse_seconds(self.settle_interval, "settle_interval"),
            delay=delay if is_rule(delay) else arguments.parse_delay(delay),
            max_attempts=arguments.parse_optional(arguments.parse_count, self.max_attempts, "max_attempts"),
            grace=arguments.parse_seconds(self.grace, "grace"),
            dry_run=self.is_dry_run,
            keep_results=self.keep_results,
            ends_task=(AirflowSkipException, AirflowFailException),
        )

    def _open_queue(self, *args: Any, **kwargs: Any) -> HookQueue:
        """Return the queue to process; a subclass may override it."""
        from airflow_provider_cfqueues.engines.queue import HookQueue

        return HookQueue(*args, **kwargs)

    def _bind_handler(self, context: Context, options: Options) -> Callable[[Any], Any]:
        """Return the handler as a function of the message alone; a subclass may override it."""
        from airflow_provider_cfqueues.engines.processing.handlers import bind_handler

        return bind_handler(self.handler, self.op_args, self.op_kwargs, cast("Mapping[str, Any]", context))

    def _find_situation(self, queue_id: str) -> Situation:
        from airflow_provider_cfqueues.engines.queue import find_dead_letter_queue
        from airflow_provider_cfqueues.engines.settlement import Situation

        consumer = self.hook.get_pull_consumer(queue_id)
        if self.max_attempts is not None and consumer is not None and consumer.is_last_delivery(self.max_attempts):
            self.log.warning(
                "max_attempts=%s is not below the consumer's max_retries=%s: Cloudflare may take messages away before "
                "the task can reject them. Lower max_attempts",
                self.max_attempts,
                consumer.max_retries,
            )
        found = self.hook.run(find_dead_letter_queue(self.hook, queue_id, consumer, self.dead_letter_queue))
        return Situation(consumer=consumer, dead_letter_queue_id=found)

    def _judge(self, report: Report, share: float | None) -> None:
        queue = self.queue_id or self.queue_name
        if self._killed:
            msg = f"The task was killed. {report.conclusion()}"
        elif are_too_many(report.failed + report.in_doubt, report.handled, share):
            allowed = f"{share:.0%}".replace("%", " %") if share else "none"
            msg = report.verdict("" if share == 1 else f" (fail_on allows {allowed})")
        else:
            return
        error = ProcessingFailedError(msg, failures=report.failures, conn_id=self.cloudflare_conn_id, queue=queue)
        error.add(remedy=report.remedy())
        raise error
