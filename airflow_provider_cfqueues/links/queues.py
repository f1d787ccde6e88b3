"""The button that leads from a task to its queue in the Cloudflare dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues._compat import BaseOperatorLink, get_xcom

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
        Return the address, empty where the task did not come as far as its queue, or that is in an emulator.

        :param operator: the operator.
        :param ti_key: the task instance.
        """
        return get_xcom(ti_key, self.xcom_key) or ""
