"""The hook's calls about queues and their consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cfqueues import arguments, flows
from airflow_provider_cfqueues.hooks.base import CloudflareBaseHook

if TYPE_CHECKING:
    from airflow_provider_cfqueues.flows import Flow
    from airflow_provider_cfqueues.models import Consumer, Queue


class AdministrationHook(CloudflareBaseHook):
    """What :class:`~airflow_provider_cfqueues.hooks.queues.CloudflareQueuesHook` can do beside handling messages."""

    def get_queue_id(self, name: str) -> str:
        """
        Return the ID of a queue; all pages of the list are searched, and the answer is kept for the hook's life.

        :param name: the queue's name.
        :raises NotFoundError: the account has no such queue.
        """
        return self._run(flows.get_queue_id(arguments.parse_name(name), self._known))

    async def aget_queue_id(self, name: str) -> str:
        """Async twin of :meth:`get_queue_id`."""
        return await self._arun(flows.get_queue_id(arguments.parse_name(name), self._known))

    def list_queues(self) -> list[Queue]:
        """Return all queues of the account, over all pages of the list."""
        return self._run(flows.list_queues())

    async def alist_queues(self) -> list[Queue]:
        """Async twin of :meth:`list_queues`."""
        return await self._arun(flows.list_queues())

    def get_pull_consumer(self, queue_id: str) -> Consumer | None:
        """
        Return the pull consumer of a queue, looked at once in the hook's life.

        A look that failed for a reason that may pass is repeated, unlike the one that comes with a pull.

        :param queue_id: ID of the queue.
        :return: None where there is none, or where the token may not look at it.
        :raises CloudflareQueuesError: it could not be looked at.
        """
        return self._run(self._get_pull_consumer(arguments.parse_id(queue_id, "queue_id"), required=True))

    async def aget_pull_consumer(self, queue_id: str) -> Consumer | None:
        """Async twin of :meth:`get_pull_consumer`."""
        return await self._arun(self._get_pull_consumer(arguments.parse_id(queue_id, "queue_id"), required=True))

    def _get_pull_consumer(self, queue_id: str, *, required: bool = False) -> Flow[Consumer | None]:
        first_look = queue_id not in self._known.consumers
        consumer = yield from flows.get_pull_consumer(queue_id, self._known, required=required)
        names = {known_id: name for name, known_id in self._known.queue_ids.items()}
        queue = names.get(queue_id, queue_id)
        if first_look and consumer is None:
            self.log.warning(
                "No pull consumer of queue %s could be looked at (there is none, or the token may not read it): "
                "whether it has a dead-letter queue is not known, and without a visibility_timeout its leases are "
                "taken to last %d s",
                queue,
                flows.DEFAULT_VISIBILITY_SECONDS,
            )
        elif first_look and consumer and consumer.dead_letter_queue is None:
            self.log.warning(
                "Queue %s has no dead-letter queue: Cloudflare DELETES a message that was delivered %s times without "
                "an ack (max_retries). Set a dead-letter queue on its HTTP pull consumer",
                queue,
                "max_retries" if consumer.max_retries is None else consumer.max_retries,
            )
        return consumer
