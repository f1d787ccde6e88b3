"""``@task.cloudflare_queue``: a function that handles a message becomes a task that processes a queue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues._compat import DecoratedOperator, task_decorator_factory
from airflow_provider_cfqueues.operators.process import QueueProcessOperator

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import Context, TaskDecorator


class _CloudflareQueueDecoratedOperator(DecoratedOperator, QueueProcessOperator):
    """Processes a queue with the decorated function as handler, and what it is called with in the DAG file."""

    custom_operator_name = "@task.cloudflare_queue"
    template_fields: Sequence[str] = QueueProcessOperator.template_fields
    shallow_copy_attrs: Sequence[str] = ("python_callable", "handler")

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        args, keywords = tuple(op_args or ()), dict(op_kwargs or {})
        super().__init__(
            python_callable=python_callable,
            op_args=(None, *args),  # Airflow checks here that the function can be called: the message takes its place
            op_kwargs=keywords,
            kwargs_to_upstream={"handler": python_callable, "op_args": args, "op_kwargs": keywords},
            **kwargs,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Process the queue. Airflow's decorators would look for assets in the return value; a report has none."""
        return self._process(context)

    @property
    def is_async(self) -> bool:
        """False: an async function is awaited by the engine, not by Airflow's task runner."""
        return False


def cloudflare_queue_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """
    Make a task that processes a queue with the decorated function as handler.

    :param python_callable: the function; its first parameter is the message.
    :param multiple_outputs: whether each key of the report becomes a separate XCom.
    :param kwargs: the arguments of :class:`~airflow_provider_cfqueues.operators.queues.QueueProcessOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_CloudflareQueueDecoratedOperator,
        **kwargs,
    )
