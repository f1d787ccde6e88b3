"""What ``MessageQueueTrigger(scheme="cloudflare+queues")`` of ``apache-airflow-providers-common-messaging`` needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues._compat import AirflowOptionalProviderFeatureException

try:
    from airflow.providers.common.messaging.providers.base_provider import BaseMessageQueueProvider
except ImportError as error:
    msg = "scheme 'cloudflare+queues' needs Airflow 3 and: pip install 'airflow-provider-cfqueues[common-messaging]'"
    raise AirflowOptionalProviderFeatureException(msg) from error

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger


class CloudflareQueuesMessageQueueProvider(BaseMessageQueueProvider):
    """
    Makes :class:`~airflow_provider_cfqueues.triggers.queues.QueueMessageTrigger` the trigger of a scheme.

    ``MessageQueueTrigger(scheme="cloudflare+queues", queue_name="orders")`` takes the arguments of that trigger. The
    deprecated ``queue=`` of ``MessageQueueTrigger`` is an address, which could name another account than the
    connection does. It is an error that says what to write instead.
    """

    scheme = "cloudflare+queues"

    def queue_matches(self, queue: str) -> bool:
        """
        Return whether the deprecated address of a queue is one of ours.

        :param queue: the address.
        """
        return queue.startswith(("cloudflare-queues:", "cloudflare+queues:"))

    def trigger_class(self) -> type[BaseEventTrigger]:
        """Return the trigger."""
        from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger

        return QueueMessageTrigger

    def trigger_kwargs(self, queue: str, **kwargs: Any) -> dict[str, Any]:
        """
        Refuse the deprecated address of a queue.

        :param queue: the address.
        :raises ValueError: always; it says what to write instead.
        """
        name = queue.rstrip("/").rpartition("/")[2]
        msg = (
            f"MessageQueueTrigger(queue={queue!r}) is not supported: the account comes from the connection. Write "
            f"MessageQueueTrigger(scheme={self.scheme!r}, queue_name={name!r}, cloudflare_conn_id=…)"
        )
        raise ValueError(msg)
