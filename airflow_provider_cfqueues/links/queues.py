"""The button that leads from a task to its queue in the Cloudflare dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues._compat import BaseOperatorLink

if TYPE_CHECKING:
    from airflow_provider_cfqueues._compat import BaseOperator


class CloudflareQueueLink(BaseOperatorLink):
    """Opens the queue of a task in the Cloudflare dashboard; the task keeps the address as an XCom."""

    name = "Cloudflare queue"

    @property
    def xcom_key(self) -> str:
        """The key of the XCom; Airflow 3 reads it itself."""
        return "cloudflare_queue_link"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """
        Return the address. It is empty if the task failed before it knew its queue, or if the queue is in an emulator.

        :param operator: the operator: in Airflow 3 the one that ran, in Airflow 2 what its web server knows of it.
        :param ti_key: the task instance.
        """
        from airflow_provider_cfqueues._compat import XCom

        url = getattr(operator, "queue_url", None)
        has_run = getattr(operator, "_task_instance", None) is not None
        if url is None and has_run and not getattr(operator, "deferrable", False):
            return ""  # there is no XCom, and Airflow 3 logs an error where one is missing
        return (XCom.get_value(ti_key=ti_key, key=self.xcom_key) if url is None else url) or ""
