"""The hook's calls about the consumers of queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cfqueues import arguments
from airflow_provider_cfqueues.arguments import Seconds
from airflow_provider_cfqueues.client import administration, lookup, queue_calls
from airflow_provider_cfqueues.client.flow import API_VISIBILITY_SECONDS, once
from airflow_provider_cfqueues.hooks.base import CloudflareBaseHook

if TYPE_CHECKING:
    from airflow_provider_cfqueues.client.flow import Flow
    from airflow_provider_cfqueues.models import Consumer, EnsuredConsumer


class ConsumersHook(CloudflareBaseHook):
    """What :class:`~airflow_provider_cfqueues.hooks.queues.CloudflareQueuesHook` can do with consumers."""

    def list_consumers(self, queue_id: str) -> list[Consumer]:
        """
        Return the consumers of a queue, of all types.

        :param queue_id: ID of the queue.
        """
        return self.run(once(queue_calls.list_consumers(arguments.parse_id(queue_id, "queue_id"))))

    async def alist_consumers(self, queue_id: str) -> list[Consumer]:
        """Async twin of :meth:`list_consumers`."""
        return await self.arun(once(queue_calls.list_consumers(arguments.parse_id(queue_id, "queue_id"))))

    def create_pull_consumer(
        self,
        queue_id: str,
        *,
        batch_size: int | str | None = None,
        max_retries: int | str | None = None,
        retry_delay: Seconds | None = None,
        visibility_timeout: Seconds | None = None,
        dead_letter_queue: str | None = None,
    ) -> Consumer:
        """
        Add a pull consumer to a queue that has none; what is None is left to the API.

        :param queue_id: ID of the queue.
        :param batch_size: messages per pull unless the pull says otherwise, 1 to 100.
        :param max_retries: deliveries after which a message leaves the queue, 0 to 100.
        :param retry_delay: seconds that a retry waits unless it says otherwise, 0 to 86,400.
        :param visibility_timeout: seconds that a lease lasts unless the pull says otherwise, up to 43,200.
        :param dead_letter_queue: NAME of the queue for messages that were delivered too often.
        :raises AlreadyExistsError: the queue has a consumer.
        """
        wanted = arguments.parse_consumer(
            batch_size=batch_size,
            max_retries=max_retries,
            retry_delay=retry_delay,
            visibility_timeout=visibility_timeout,
            dead_letter_queue=dead_letter_queue,
        )
        return self.run(self._create_pull_consumer(queue_id, wanted))

    async def acreate_pull_consumer(
        self,
        queue_id: str,
        *,
        batch_size: int | str | None = None,
        max_retries: int | str | None = None,
        retry_delay: Seconds | None = None,
        visibility_timeout: Seconds | None = None,
        dead_letter_queue: str | None = None,
    ) -> Consumer:
        """Async twin of :meth:`create_pull_consumer`."""
        wanted = arguments.parse_consumer(
            batch_size=batch_size,
            max_retries=max_retries,
            retry_delay=retry_delay,
            visibility_timeout=visibility_timeout,
            dead_letter_queue=dead_letter_queue,
        )
        return await self.arun(self._create_pull_consumer(queue_id, wanted))

    def _create_pull_consumer(self, queue_id: str, wanted: Consumer) -> Flow[Consumer]:
        return administration.create_pull_consumer(arguments.parse_id(queue_id, "queue_id"), wanted, self._known)

    def update_pull_consumer(
        self,
        queue_id: str,
        *,
        batch_size: int | str | None = None,
        max_retries: int | str | None = None,
        retry_delay: Seconds | None = None,
        visibility_timeout: Seconds | None = None,
        dead_letter_queue: str | None = None,
    ) -> Consumer:
        """
        Change settings of a queue's pull consumer; what is None stays.

        :param queue_id: ID of the queue.
        :param batch_size: messages per pull unless the pull says otherwise, 1 to 100.
        :param max_retries: deliveries after which a message leaves the queue, 0 to 100.
        :param retry_delay: seconds that a retry waits unless it says otherwise, 0 to 86,400.
        :param visibility_timeout: seconds that a lease lasts unless the pull says otherwise, up to 43,200.
        :param dead_letter_queue: NAME of the queue for messages that were delivered too often.
        :raises AlreadyExistsError: the queue has a Worker consumer instead.
        :raises NotFoundError: the queue has no consumer.
        """
        wanted = arguments.parse_consumer(
            batch_size=batch_size,
            max_retries=max_retries,
            retry_delay=retry_delay,
            visibility_timeout=visibility_timeout,
            dead_letter_queue=dead_letter_queue,
        )
        return self.run(self._update_pull_consumer(queue_id, wanted))

    async def aupdate_pull_consumer(
        self,
        queue_id: str,
        *,
        batch_size: int | str | None = None,
        max_retries: int | str | None = None,
        retry_delay: Seconds | None = None,
        visibility_timeout: Seconds | None = None,
        dead_letter_queue: str | None = None,
    ) -> Consumer:
        """Async twin of :meth:`update_pull_consumer`."""
        wanted = arguments.parse_consumer(
            batch_size=batch_size,
            max_retries=max_retries,
            retry_delay=retry_delay,
            visibility_timeout=visibility_timeout,
            dead_letter_queue=dead_letter_queue,
        )
        return await self.arun(self._update_pull_consumer(queue_id, wanted))

    def _update_pull_consumer(self, queue_id: str, wanted: Consumer) -> Flow[Consumer]:
        return administration.update_pull_consumer(arguments.parse_id(queue_id, "queue_id"), wanted, self._known)

    def ensure_pull_consumer(
        self,
        queue_id: str,
        *,
        batch_size: int | str | None = None,
        max_retries: int | str | None = None,
        retry_delay: Seconds | None = None,
        visibility_timeout: Seconds | None = None,
        dead_letter_queue: str | None = None,
    ) -> EnsuredConsumer:
        """
        See to it that a queue has a pull consumer with these settings, and wait until it really lets itself be pulled.

        What is None stays as it is, or is left to the API. For some seconds after a consumer was made, the API still
        answers pulls with 405. That is waited out for up to a minute, by pulling one message with a new consumer. What
        comes is given back at once, which counts as a delivery of that message. Where that could be its last, the
        consumer is given 30 seconds instead; where delivery is paused, nothing is waited for. In both cases ``untried``
        of the result says so, and a warning.

        :param queue_id: ID of the queue.
        :param batch_size: messages per pull unless the pull says otherwise, 1 to 100.
        :param max_retries: deliveries after which a message leaves the queue, 0 to 100.
        :param retry_delay: seconds that a retry waits unless it says otherwise, 0 to 86,400.
        :param visibility_timeout: seconds that a lease lasts unless the pull says otherwise, up to 43,200.
        :param dead_letter_queue: NAME of the queue for messages that were delivered too often.
        :raises AlreadyExistsError: the queue has a Worker consumer.
        :raises PullNotEnabledError: the queue could not be pulled after a minute.
        """
        wanted = arguments.parse_consumer(
            batch_size=batch_size,
            max_retries=max_retries,
            retry_delay=retry_delay,
            visibility_timeout=visibility_timeout,
            dead_letter_queue=dead_letter_queue,
        )
        return self.run(self._ensure_pull_consumer(queue_id, wanted))

    async def aensure_pull_consumer(
        self,
        queue_id: str,
        *,
        batch_size: int | str | None = None,
        max_retries: int | str | None = None,
        retry_delay: Seconds | None = None,
        visibility_timeout: Seconds | None = None,
        dead_letter_queue: str | None = None,
    ) -> EnsuredConsumer:
        """Async twin of :meth:`ensure_pull_consumer`."""
        wanted = arguments.parse_consumer(
            batch_size=batch_size,
            max_retries=max_retries,
            retry_delay=retry_delay,
            visibility_timeout=visibility_timeout,
            dead_letter_queue=dead_letter_queue,
        )
        return await self.arun(self._ensure_pull_consumer(queue_id, wanted))

    def _ensure_pull_consumer(self, queue_id: str, wanted: Consumer) -> Flow[EnsuredConsumer]:
        queue_id = arguments.parse_id(queue_id, "queue_id")
        ensured = yield from administration.ensure_pull_consumer(queue_id, wanted, self._known)
        if ensured.untried:
            self.log.warning("The new pull consumer of queue %s was not tried out: %s", queue_id, ensured.untried)
        return ensured

    def get_pull_consumer(self, queue_id: str) -> Consumer | None:
        """
        Return the pull consumer of a queue, looked at once in the hook's life.

        A look that failed for a reason that may pass is repeated, unlike the one that comes with a pull.

        :param queue_id: ID of the queue.
        :return: None where there is none, or where the token may not look at it.
        :raises CloudflareQueuesError: it could not be looked at.
        """
        return self.run(self._get_pull_consumer(arguments.parse_id(queue_id, "queue_id"), required=True))

    async def aget_pull_consumer(self, queue_id: str) -> Consumer | None:
        """Async twin of :meth:`get_pull_consumer`."""
        return await self.arun(self._get_pull_consumer(arguments.parse_id(queue_id, "queue_id"), required=True))

    def _get_pull_consumer(self, queue_id: str, *, required: bool = False) -> Flow[Consumer | None]:
        consumer = yield from lookup.get_pull_consumer(queue_id, self._known, required=required)
        if queue_id in self.warned_of:
            return consumer
        self.warned_of.add(queue_id)
        queue = self._known.name_of(queue_id) or queue_id
        if consumer is None:
            self.log.warning(
                "No pull consumer of queue %s could be looked at (there is none, or the token may not read it): "
                "whether it has a dead-letter queue is not known, and without a visibility_timeout its leases are "
                "taken to last %d s",
                queue,
                API_VISIBILITY_SECONDS,
            )
        elif consumer.dead_letter_queue is None:
            self.log.warning(
                "Queue %s has no dead-letter queue: Cloudflare DELETES a message that was delivered %s times without "
                "an ack (max_retries). Set a dead-letter queue on its HTTP pull consumer",
                queue,
                "max_retries" if consumer.max_retries is None else consumer.max_retries,
            )
        return consumer
