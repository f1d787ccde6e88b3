"""Start one run of a DAG for each message of a queue."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_cfqueues.operators.process import QueueProcessOperator

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.arguments import Seconds
    from airflow_provider_cfqueues.engines.processing.options import Options
    from airflow_provider_cfqueues.engines.queue import HookQueue
    from airflow_provider_cfqueues.engines.triggering import RunStarter
    from airflow_provider_cfqueues.models import Message

LEASE_KEYS = ("lease_id", "lease_expires_at")
RUNS_AWAITED = 16
"""How many runs are awaited at once unless the operator says otherwise: Airflow's own limit of active runs of a DAG."""
MIN_POLL_INTERVAL = 0.1
REFUSED = ("handler", "op_args", "op_kwargs", "batch", "batch_size", "dry_run", "journal")
"""Arguments of :class:`QueueProcessOperator` that make no sense here."""


class QueueTriggerDagRunsOperator(QueueProcessOperator):
    """
    Start one run of a DAG for each message of a queue.

    The run's ID is ``cloudflare_queues__QUEUE__MESSAGE_ID``. A message that is delivered again finds its run and starts
    no second one. By default a message is acked once its run exists. With ``wait_for_completion``, it is acked once its
    run has succeeded.

    Returns the report of :class:`QueueProcessOperator`, with ``runs_started`` and ``runs_existing``.

    :param trigger_dag_id: the DAG.
    :param conf: the run's configuration: a function of the :class:`~airflow_provider_cfqueues.models.Message` that
        returns a dict, a dict with templates in it, or a template of a JSON object. Templates know ``message`` and the
        context of this task. None = ``{"id", "body", "attempts", "timestamp", "content_type", "metadata"}``. A function
        also chooses: if it raises :class:`~airflow_provider_cfqueues.outcomes.Retry`, the message is given back and
        starts no run, which uses up a delivery. If it raises :class:`~airflow_provider_cfqueues.outcomes.Reject`, the
        message goes to the dead-letter queue.
    :param conf_schema: JSON Schema of the configuration. A message whose configuration does not fit is rejected.
    :param wait_for_completion: keep the message leased until its run has ended, and let the run decide.
    :param on_failed_run: with ``wait_for_completion``, what happens to the message of a run that failed: ``reject`` (it
        goes to the dead-letter queue, with the run's ID) or ``clear`` (it is delivered again, which clears the run).
    :param max_active: start no run while so many runs of the DAG are active, no matter who started them. The other
        messages stay in the queue. None = no limit.
    :param poll_interval: with ``wait_for_completion``, seconds between two looks at a run.
    :param concurrency: how many messages are handled at once. None = 1, or with ``wait_for_completion`` as many as
        ``max_active``, or 16.
    :param visibility_timeout: seconds that the leases last, up to 43,200. None = 300, or with ``wait_for_completion``
        43,200. A run that takes longer than the lease is an error.
    :param kwargs: the arguments of :class:`QueueProcessOperator`, except those about its handler, ``batch``,
        ``dry_run`` and ``journal``.
    """

    template_fields: Sequence[str] = (*QueueProcessOperator.template_fields, "trigger_dag_id", "max_active")
    shallow_copy_attrs: Sequence[str] = (*QueueProcessOperator.shallow_copy_attrs, "conf")

    def __init__(
        self,
        *,
        trigger_dag_id: str,
        conf: Callable[[Message], Mapping[str, Any]] | Mapping[str, Any] | str | None = None,
        conf_schema: Mapping[str, Any] | None = None,
        wait_for_completion: bool = False,
        on_failed_run: str = "reject",
        max_active: int | str | None = None,
        poll_interval: Seconds = 10,
        concurrency: int | None = None,
        visibility_timeout: Seconds | None = None,
        **kwargs: Any,
    ) -> None:
        if refused := [name for name in REFUSED if name in kwargs]:
            raise TypeError(
                f"QueueTriggerDagRunsOperator has no argument {refused[0]!r}: remove it. To process messages with a "
                "function, use QueueProcessOperator"
            )
        super().__init__(
            handler="airflow_provider_cfqueues.engines.triggering.RunStarter",  # made when the task runs
            concurrency=concurrency,  # type: ignore[arg-type] # chosen when the task runs
            visibility_timeout=visibility_timeout,
            **kwargs,
        )
        self.trigger_dag_id = trigger_dag_id
        self.conf = conf
        self.conf_schema = conf_schema
        self.wait_for_completion = wait_for_completion
        self.on_failed_run = on_failed_run
        self.max_active = max_active
        self.poll_interval = poll_interval
        self._starter: RunStarter | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the runs."""
        counts = {"runs_started": 0, "runs_existing": 0}
        try:
            report = self._process(context)
        finally:
            if self._starter is not None:
                counts = {"runs_started": self._starter.started, "runs_existing": self._starter.existing}
                self.log.info("Runs of DAG %s: %d started, %d existed already", self.trigger_dag_id, *counts.values())
        return report | counts

    def _options(self) -> Options:
        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues.arguments import MAX_VISIBILITY_SECONDS

        arguments.parse_choice(self.on_failed_run, "on_failed_run", ("reject", "clear"))
        self.max_active = arguments.parse_optional(arguments.parse_count, self.max_active, "max_active")
        if self.concurrency is None:
            self.concurrency = (self.max_active or RUNS_AWAITED) if self.wait_for_completion else 1
        knows_lease = (self.visibility_timeout, self.expected_seconds_per_message) != (None, None)
        if self.wait_for_completion and not knows_lease:
            self.visibility_timeout = MAX_VISIBILITY_SECONDS
        return super()._options()

    def _bind_handler(self, context: Context, options: Options) -> RunStarter:
        """Return what starts the run of a message."""
        from airflow_provider_cfqueues import arguments
        from airflow_provider_cfqueues._compat.runs import find_dag_runs
        from airflow_provider_cfqueues.engines.triggering import RunStarter

        runs = find_dag_runs(self.trigger_dag_id)
        if runs.is_paused():
            self.log.warning("DAG %s is paused: its runs stay queued until somebody unpauses it", self.trigger_dag_id)
        self._starter = RunStarter(
            runs=runs,
            queue_name=self.queue_name or self.hook.get_queue(self.find_queue()).queue_name,
            make_conf=self._bind_conf(context),
            max_active=cast("int | None", self.max_active),
            most_awaited=options.concurrency if self.wait_for_completion else None,
            clears=self.on_failed_run == "clear",
            poll_interval=arguments.parse_seconds(self.poll_interval, "poll_interval", at_least=MIN_POLL_INTERVAL),
            lease_seconds=options.visibility_timeout,
            is_stopping=lambda: self._engine is not None and self._engine.state.is_stopping,
        )
        return self._starter

    def _open_queue(self, *args: Any, **kwargs: Any) -> HookQueue:
        from airflow_provider_cfqueues.engines.triggering import PacedQueue

        if self._starter is None or not self._starter.is_limited:
            return super()._open_queue(*args, **kwargs)
        return PacedQueue(*args, starter=self._starter, count_unhandled=self._count_unhandled, **kwargs)

    def _count_unhandled(self) -> int:
        return 0 if self._engine is None else self._engine.count_unhandled()

    def _bind_conf(self, context: Context) -> Callable[[Message], dict[str, Any]]:
        """Return what makes the configuration of a run, checked."""
        make = self.conf if callable(self.conf) else partial(self._render_conf, context, self.get_template_env())
        check = _bind_schema(self.conf_schema)

        def make_conf(message: Message) -> dict[str, Any]:
            conf = make(message)
            if not isinstance(conf, Mapping):
                raise TypeError(f"conf must give a dict for each message, but it gave a {type(conf).__name__}")
            check(conf)
            return dict(conf)

        return make_conf

    def _render_conf(self, context: Context, environment: Any, message: Message) -> Any:
        if self.conf is None:
            return {key: value for key, value in message.to_xcom().items() if key not in LEASE_KEYS}
        known = copy.copy(context)  # Airflow 2 has its own class for it, which warns of deprecated keys
        cast("dict[str, Any]", known)["message"] = message
        rendered = self.render_template(self.conf, known, environment)
        return json.loads(rendered) if isinstance(rendered, str) else rendered


def _bind_schema(schema: Mapping[str, Any] | None) -> Callable[[Mapping[str, Any]], None]:
    """
    Return what checks a configuration; it raises Reject.

    :param schema: the JSON Schema; None = all fit.
    :raises ValueError: it is not a JSON Schema.
    """
    if schema is None:
        return lambda conf: None
    from jsonschema import Draft202012Validator, FormatChecker, SchemaError
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for

    from airflow_provider_cfqueues.outcomes import Reject

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"conf_schema is not a JSON Schema: {error.message} (at {error.json_path})") from error
    validator = kind(schema, format_checker=FormatChecker())

    def check(conf: Mapping[str, Any]) -> None:
        if error := best_match(validator.iter_errors(conf)):
            raise Reject(f"its conf does not fit conf_schema: {error.message} (at {error.json_path})")

    return check
