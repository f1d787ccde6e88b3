"""What all operators share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues import DEFAULT_CONNECTION
from airflow_provider_cfqueues._compat import AirflowSkipException, BaseOperator
from airflow_provider_cfqueues.exceptions import NotFoundError
from airflow_provider_cfqueues.links.queues import CloudflareQueueLink

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_cfqueues._compat import Context
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook


class QueueOperator(BaseOperator):
    """
    An operator on one queue, which is given by ID or by name.

    :param queue_id: ID of the queue. Exactly one of ``queue_id`` and ``queue_name`` is given.
    :param queue_name: name of the queue; its ID is looked up when the task runs.
    :param cloudflare_conn_id: the Airflow connection, of type ``cloudflare``.
    """

    template_fields: Sequence[str] = ("queue_id", "queue_name", "cloudflare_conn_id")
    operator_extra_links = (CloudflareQueueLink(),)
    ui_color = "#fbad41"
    ui_fgcolor = "#1d1d1d"
    _task_instance: Any = None
    _shown_queue: str | None = None
    queue_url: str | None = None
    """Where the dashboard shows the queue; empty for an emulator's, None before the task has found it."""

    def __init__(
        self,
        *,
        queue_id: str | None = None,
        queue_name: str | None = None,
        cloudflare_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        if queue_id is None and queue_name is None and (worker_queue := kwargs.get("queue")):
            # At parse: when the task runs, Airflow would look for workers of that name, and find none.
            raise ValueError(
                f"queue={worker_queue!r} is Airflow's worker queue. Did you mean queue_name={worker_queue!r}?"
            )
        super().__init__(**kwargs)
        self.queue_id = queue_id
        self.queue_name = queue_name
        self.cloudflare_conn_id = cloudflare_conn_id

    def pre_execute(self, context: Context) -> None:
        """Note the task instance, which Airflow's runner gives before it executes the task."""
        super().pre_execute(context)
        self._task_instance = context["ti"]

    @cached_property
    def hook(self) -> CloudflareQueuesHook:
        """The hook of this task."""
        from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

        return CloudflareQueuesHook(self.cloudflare_conn_id)

    def find_queue(self) -> str:
        """Return the ID of the queue, looked up where it was given by name."""
        queue_id = self.hook.run(self.hook.find_queue_flow(self.queue_id, self.queue_name))
        self.show_queue(queue_id)
        return queue_id

    def show_queue(self, queue_id: str) -> None:
        """
        Show a button to the queue on the task's page. Outside a task runner there is no page.

        :param queue_id: ID of the queue.
        """
        if self._task_instance is not None and queue_id != self._shown_queue:
            self._shown_queue = queue_id
            self.queue_url = self.hook.get_queue_url(queue_id) or ""
            for link in self.operator_extra_links:
                self._task_instance.xcom_push(key=link.xcom_key, value=self.queue_url)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """
        Return which queues this task read and wrote, and how much. OpenLineage asks after success and failure.

        :param task_instance: the task instance, which is not looked at.
        """
        return self.hook.traffic.to_openlineage()


class DeletingOperator(QueueOperator):
    """
    An operator that deletes a queue, or something of it.

    :param if_missing: what to do if it is not there: ``ignore``, ``fail`` or ``skip`` (the task is skipped).
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "if_missing")

    def __init__(self, *, if_missing: str = "ignore", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.if_missing = if_missing

    @abstractmethod
    def _delete(self, queue_id: str) -> None:
        """Delete it, and log that."""

    @abstractmethod
    def _explain_missing(self, error: NotFoundError) -> str:
        """Return what is not there; empty if the error is about something else."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete it."""

        from airflow_provider_cfqueues import arguments

        arguments.parse_choice(self.if_missing, "if_missing", ("ignore", "fail", "skip"))
        queue_id = self.queue_id
        try:
            queue_id = self.find_queue()
            self._delete(queue_id)
        except NotFoundError as error:
            missing = self._explain_missing(error)
            if self.if_missing == "fail" or not missing:
                raise
            if self.if_missing == "skip":
                raise AirflowSkipException(missing) from error
            self.log.info("%s: nothing to delete", missing)
            return {"queue_id": queue_id, "deleted": False}
        return {"queue_id": queue_id, "deleted": True}


class EngineOperator(QueueOperator):
    """
    An operator whose task runs an engine on many messages, and may be killed meanwhile.

    :param fail_on: when the task fails: ``all`` messages failed, ``any`` did, ``none`` (never), or the share between 0
        and 1 that may fail.
    :param grace: seconds that the engine gets when the task is killed; Airflow 3 ends the process after 5.
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "fail_on")
    _engine: Any = None
    _killed = False

    def __init__(self, *, fail_on: str | float = "all", grace: float = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fail_on = fail_on
        self.grace = grace

    def on_kill(self) -> None:
        """Start nothing more; ``execute`` settles what is done, gives the rest back and raises."""
        self._killed = True
        if self._engine is not None:
            self._engine.stop(killed=True)

    def _note_engine(self, engine: Any) -> None:
        """Let ``on_kill`` stop the engine, which it may have wanted to while the queues were looked up."""
        self._engine = engine
        if self._killed:
            engine.stop(killed=True)


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
    arguments.refuse_none(value, "fail_on")
    with suppress(TypeError, ValueError):
        if 0 <= (share := arguments.parse_number(value, "fail_on")) <= 1:
            return share
    raise ValueError(f"fail_on must be 'all', 'any', 'none' or a share from 0 to 1, not {value!r}")


def are_too_many(bad: int, total: int, share: float | None) -> bool:
    """Return whether more messages failed than the share that may, as :func:`parse_fail_on` returned it."""
    return share is not None and bad > 0 and (bad >= total if share == 1 else bad > share * total)
