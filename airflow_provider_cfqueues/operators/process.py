"""Process a queue inside one task: pull ahead, handle, settle by outcome."""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow_provider_cfqueues.delays import DelayRule, ExponentialDelay, is_rule
from airflow_provider_cfqueues.operators.base import QueueOperator

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds
    from airflow_provider_cfqueues.engines.processing.engine import Engine
    from airflow_provider_cfqueues.engines.processing.journal import Store
    from airflow_provider_cfqueues.engines.processing.options import Options
    from airflow_provider_cfqueues.engines.processing.report import Report
    from airflow_provider_cfqueues.engines.queue import MessageQueue
    from airflow_provider_cfqueues.models import Consumer

DEFAULT_DELAY = ExponentialDelay(jitter=0.2)


class QueueProcessOperator(QueueOperator):
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
    :param max_attempts: reject a message unseen after handlers saw it so many times. Keep it below the consumer's
        ``max_retries``, at which Cloudflare takes the message away.
    :param dead_letter_queue: name of the queue that gets copies of rejected messages, and of messages that Cloudflare
        would delete if they were given back; None = the consumer's own. Without any, rejected messages are given back.
    :param fail_on: when the task fails: ``all`` messages failed (the default), ``any`` did, ``none`` (never), or the
        share between 0 and 1 that may fail.
    :param grace: seconds that running handlers get when the task is killed; Airflow 3 ends the process after 5.
    :param dry_run: handle and report, then give every message back. Each such run uses up a delivery of each message;
        one that Cloudflare could delete now stays leased.
    :param keep_results: how many results of handlers the report keeps.
    :param journal: write down, about once a second, which messages are handled and not acked yet. If the task dies, its
        next try acks them instead of handling them again. For handlers that are slow or costly to repeat. Needs Airflow
        3.3 (``context["task_state_store"]``).
    """

    template_fields: Sequence[str] = (
        *QueueOperator.template_fields,
        "op_args",
        "op_kwargs",
        "max_messages",
        "max_duration",
        "visibility_timeout",
        "delay_seconds",
        "dead_letter_queue",
        "fail_on",
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
        fail_on: str | float = "all",
        grace: float = 3,
        dry_run: bool = False,
        keep_results: int = 0,
        journal: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.handler = handler if isinstance(handler, str) else _check_handler(handler)
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
        self.fail_on = fail_on
        self.grace = grace
        self.is_dry_run = dry_run  # BaseOperator has a method dry_run
        self.keep_results = keep_results
        self.journal = journal
        self._engine: Engine | None = None
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Process the queue."""
        return self._process(context)

    def _process(self, context: Context) -> dict[str, Any]:
        """Process the queue. It is not in ``execute`` because Airflow 2 warns if a subclass calls its parent's."""
        from airflow_provider_cfqueues._compat.supervisor import share_supervisor
        from airflow_provider_cfqueues.engines.processing.engine import Engine
        from airflow_provider_cfqueues.engines.processing.journal import Journal
        from airflow_provider_cfqueues.engines.processing.metrics import Metrics
        from airflow_provider_cfqueues.engines.processing.progress import log_report
        from airflow_provider_cfqueues.engines.processing.running import run_in_thread
        from airflow_provider_cfqueues.engines.waiting import utc_now
        from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, ProcessingFailedError

        share_supervisor()  # handlers have threads of their own
        options = self._options()
        share = parse_fail_on(self.fail_on)
        handler = self._bind_handler(context, options)
        store = self._find_store(context)
        queue_id = self.find_queue()
        consumer = self.hook.get_pull_consumer(queue_id)
        options = replace(options, consumer=consumer)
        metrics = Metrics(queue_id)
        queue = self._open_queue(
            self.hook,
            queue_id,
            visibility_timeout=options.visibility_timeout,
            dead_letter_queue_id=self._find_dead_letter_queue(consumer, queue_id),
        )
        journal = Journal(store, queue_id, now=utc_now, log=self.log) if store is not None else None
        self._engine = Engine(queue, handler, options, log=self.log, journal=journal)
        if self._killed:  # while the queue was looked up
            self._engine.stop(killed=True)
        report = self._engine.report
        kept = journal.kept(queue, report) if journal is not None else None
        try:
            run_in_thread(self._engine, self.hook, metrics, self.log, during=kept)
            self._judge(report, share)
        except BaseException as error:  # a time-out, too
            self._push_report(context, report)
            if isinstance(error, CloudflareQueuesError) and report.unconfirmed.count:
                more = "" if isinstance(error, ProcessingFailedError) else report.summary()
                error.add(more, details=report.unconfirmed.named)
            raise
        finally:
            log_report(self.log, report, options)
        if journal is not None:
            journal.delete()
        return report.to_xcom()

    def _push_report(self, context: Context, report: Report) -> None:
        """Push the report of a task that fails. A killed task has no time for it."""
        ti = context.get("ti")
        if ti is not None and not self._killed:
            with suppress(Exception):  # the failure matters more
                ti.xcom_push(key="report", value=report.to_xcom())

    def on_kill(self) -> None:
        """Start nothing more; ``execute`` settles what is done, gives the rest back and raises."""
        self._killed = True
        if self._engine is not None:
            self._engine.stop(killed=True)

    def _options(self) -> Options:
        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues._compat import AirflowFailException, AirflowSkipException
        from airflow_provider_cfqueues.engines.processing.options import Options, choose_visibility_timeout

        if self.until not in ("empty", "forever"):
            msg = f"until must be 'empty' or 'forever', not {self.until!r}"
            raise ValueError(msg)
        batch_size = min(100, arguments.parse_count(self.batch_size, "batch_size")) if self.batch else None
        timeout = arguments.parse_visibility_timeout(self.visibility_timeout)
        expected = arguments.parse_optional(
            arguments.parse_seconds, self.expected_seconds_per_message, "expected_seconds_per_message"
        )
        if timeout is None and expected is not None:
            timeout = choose_visibility_timeout(expected, batch_size)
        given: dict[str, Any] = {} if timeout is None else {"visibility_timeout": timeout}
        delay: Any = self.delay_seconds
        return Options(
            max_messages=arguments.parse_optional(arguments.parse_count, self.max_messages, "max_messages"),
            max_duration=arguments.parse_optional(arguments.parse_seconds, self.max_duration, "max_duration"),
            idle_timeout=None
            if self.until == "forever"
            else arguments.parse_seconds(self.idle_timeout, "idle_timeout"),
            concurrency=arguments.parse_count(self.concurrency, "concurrency"),
            batch_size=batch_size,
            expected_seconds_per_message=expected,
            settle_interval=arguments.parse_seconds(self.settle_interval, "settle_interval"),
            delay=delay if is_rule(delay) else arguments.parse_delay(delay),
            max_attempts=arguments.parse_optional(arguments.parse_count, self.max_attempts, "max_attempts"),
            grace=arguments.parse_seconds(self.grace, "grace"),
            dry_run=self.is_dry_run,
            keep_results=self.keep_results,
            ends_task=(AirflowSkipException, AirflowFailException),
            **given,
        )

    def _open_queue(self, *args: Any, **kwargs: Any) -> MessageQueue:
        """Return the queue to process; a subclass may override it."""

        from airflow_provider_cfqueues.engines.queue import HookQueue

        return HookQueue(*args, **kwargs)

    def _bind_handler(self, context: Context, options: Options) -> Callable[[Any], Any]:
        """Return the handler as a function of the message alone; a subclass may override it."""

        from airflow_provider_cfqueues._compat import determine_kwargs, import_string
        from airflow_provider_cfqueues.engines.processing.results import is_async

        handler = _check_handler(import_string(self.handler) if isinstance(self.handler, str) else self.handler)
        # A view, not a copy: Airflow 2 warns of each deprecated key that is looked at.
        known: Mapping[str, Any] = ChainMap(dict(self.op_kwargs), cast("dict[str, Any]", context))
        args = tuple(self.op_args)
        kwargs = determine_kwargs(handler, (None, *args), known) if _has_signature(handler) else dict(self.op_kwargs)
        if is_async(handler):

            async def handle_async(message: Any) -> Any:
                return await handler(message, *args, **kwargs)

            return handle_async
        return lambda message: handler(message, *args, **kwargs)

    def _find_store(self, context: Context) -> Store | None:
        """Return the store of the journal; None without a journal, or in a dry run, which acks nothing."""

        from airflow_provider_cfqueues._compat import AIRFLOW_VERSION

        if not self.journal or self.is_dry_run:
            return None
        store = context.get("task_state_store")
        if store is None:
            msg = (
                "journal=True needs context['task_state_store'], which Airflow gives to tasks from 3.3 on (this is "
                f"{AIRFLOW_VERSION}). Leave journal out, make the handler safe to repeat, and choose a small "
                "settle_interval: then fewer messages are handled twice if a task dies"
            )
            raise ValueError(msg)
        return cast("Store", store)

    def _find_dead_letter_queue(self, consumer: Consumer | None, queue_id: str) -> str | None:
        name = self.dead_letter_queue or (consumer and consumer.dead_letter_queue)
        if self.max_attempts is not None and consumer is not None and consumer.is_last_delivery(self.max_attempts):
            self.log.warning(
                "max_attempts=%s is not below the consumer's max_retries=%s: Cloudflare may take messages away before "
                "they can be rejected here",
                self.max_attempts,
                consumer.max_retries,
            )
        what = "dead_letter_queue" if self.dead_letter_queue else "the dead-letter queue of the queue's consumer"
        found = self.hook.get_queue_id(name, what=what) if name else None
        if found == queue_id:
            raise ValueError(f"{what} is {name!r}, the queue itself: rejected messages would come back again and again")
        return found

    def _judge(self, report: Report, share: float | None) -> None:
        from airflow_provider_cfqueues.exceptions import ProcessingFailedError

        queue = self.queue_id or self.queue_name
        if self._killed:
            msg = f"The task was killed: {report.summary()}"
        elif are_too_many(report.failed + report.in_doubt, report.handled, share):
            allowed = f"{share:.0%}".replace("%", " %") if share else "none"
            msg = report.verdict("" if share == 1 else f" (fail_on allows {allowed})")
        else:
            return
        raise ProcessingFailedError(msg, failures=report.failures, conn_id=self.cloudflare_conn_id, queue=queue)


def _has_signature(handler: Callable[..., Any]) -> bool:
    """Return whether Python knows the parameters of a handler: for some builtins and objects it does not."""
    try:
        inspect.signature(handler)
    except ValueError:
        return False
    return True


def _check_handler(handler: Any) -> Callable[..., Any]:
    """Return the handler, or raise: then the DAG has an import error."""

    from airflow_provider_cfqueues.engines.processing.results import why_refused

    if (why := why_refused(handler)) is not None:
        msg = f"handler must be a function of a message: {why}"
        raise TypeError(msg)
    return cast("Callable[..., Any]", handler)


def parse_fail_on(value: Any) -> float | None:
    """
    Return the share of messages that may fail: 0 for ``any``, 1 for ``all`` (fewer than all may), None for ``none``.

    :param value: ``any``, ``all``, ``none`` or a number from 0 to 1.
    :raises ValueError: it is something else.
    """

    from airflow_provider_cfqueues import arguments

    named = {"any": 0.0, "all": 1.0, "none": None}
    if value in named:
        return named[value]
    msg = f"fail_on must be 'all', 'any', 'none' or a share from 0 to 1, not {value!r}"
    try:
        share = arguments.parse_number(value, "fail_on")
    except (TypeError, ValueError):
        raise ValueError(msg) from None
    if not 0 <= share <= 1:
        raise ValueError(msg)
    return share


def are_too_many(bad: int, total: int, share: float | None) -> bool:
    """
    Return whether the task fails because too many messages failed.

    :param bad: how many failed.
    :param total: of how many.
    :param share: what :func:`parse_fail_on` returned.
    """
    return share is not None and bad > 0 and (bad >= total if share == 1 else bad > share * total)
