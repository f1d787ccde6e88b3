"""The hook's calls about queues and their consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_cfqueues import arguments
from airflow_provider_cfqueues.arguments import Seconds
from airflow_provider_cfqueues.client import administration, lookup, purging, queue_calls
from airflow_provider_cfqueues.client.flow import API_VISIBILITY_SECONDS, once
from airflow_provider_cfqueues.hooks.base import CloudflareBaseHook
from airflow_provider_cfqueues.models import UNKNOWN_CONSUMER

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_cfqueues.client.flow import Flow
    from airflow_provider_cfqueues.client.purging import Purge
    from airflow_provider_cfqueues.models import Consumer, EnsuredConsumer, PurgeStatus, Queue


class ConsumerSettings(TypedDict, total=False):
    """
    Settings of a pull consumer; None and a missing key mean the same.

    :param batch_size: messages per pull unless the pull says otherwise, 1 to 100.
    :param consumer_max_retries: deliveries after which a message leaves the queue, 0 to 100.
    :param consumer_retry_delay: seconds before the next delivery, if a message was retried without a delay or its lease
        ended, 0 to 86,400.
    :param visibility_timeout: seconds that a lease lasts unless the pull says otherwise, up to 43,200.
    :param dead_letter_queue: NAME of the queue for messages that were delivered too often.
    """

    batch_size: int | str | None
    consumer_max_retries: int | str | None
    consumer_retry_delay: Seconds | None
    visibility_timeout: Seconds | None
    dead_letter_queue: str | None


class QueueSettings(TypedDict, total=False):
    """
    Settings of a queue; None and a missing key mean the same.

    :param delivery_delay: seconds that a message waits unless it says otherwise, 0 to 86,400.
    :param message_retention_period: seconds, 60 to 1,209,600 (14 days), after which a message is deleted.
    """

    delivery_delay: Seconds | None
    message_retention_period: Seconds | None


class AdministrationHook(CloudflareBaseHook):
    """What :class:`~airflow_provider_cfqueues.hooks.queues.CloudflareQueuesHook` can do with queues and consumers."""

    def get_queue_id(self, name: str, *, what: str = "queue_name") -> str:
        """
        Return the ID of a queue; all pages of the list are searched, and the answer is kept for the hook's life.

        :param name: the queue's name.
        :param what: where the name comes from, for the error: an argument, or the queue's consumer.
        :raises NotFoundError: the account has no such queue.
        """
        return self.run(self.get_queue_id_flow(name, what=what))

    async def aget_queue_id(self, name: str, *, what: str = "queue_name") -> str:
        """Async twin of :meth:`get_queue_id`."""
        return await self.arun(self.get_queue_id_flow(name, what=what))

    def get_queue_id_flow(self, name: str, *, what: str = "queue_name") -> Flow[str]:
        """
        Return the calls of :meth:`get_queue_id`, as a part of another flow.

        :param name: the queue's name.
        :param what: where the name comes from, for the error.
        """
        return (yield from lookup.get_queue_id(arguments.parse_name(name, what), self._known, what))

    def find_queue_flow(self, queue_id: str | None, queue_name: str | None, *, kind: str = "queue") -> Flow[str]:
        """
        Return the ID of a queue that is given by its ID or by its name, as a part of another flow.

        :param queue_id: ID of the queue. Exactly one of it and the name is given.
        :param queue_name: name of the queue.
        :param kind: how the names of both arguments begin, for errors.
        """
        arguments.require_one(**{f"{kind}_id": queue_id, f"{kind}_name": queue_name})
        if not queue_id:
            return (yield from self.get_queue_id_flow(str(queue_name), what=f"{kind}_name"))
        self._known.arguments[queue_id] = f"{kind}_id"
        return queue_id

    def list_queues(self) -> list[Queue]:
        """Return all queues of the account, from all pages of the list."""
        return self.run(lookup.list_queues())

    async def alist_queues(self) -> list[Queue]:
        """Async twin of :meth:`list_queues`."""
        return await self.arun(lookup.list_queues())

    def get_queue(self, queue_id: str) -> Queue:
        """
        Return a queue with its settings.

        :param queue_id: ID of the queue.
        :raises NotFoundError: the account has no such queue.
        """
        return self.run(lookup.get_queue(queue_id, self._known))

    async def aget_queue(self, queue_id: str) -> Queue:
        """Async twin of :meth:`get_queue`."""
        return await self.arun(lookup.get_queue(queue_id, self._known))

    def create_queue(self, name: str, **settings: Unpack[QueueSettings]) -> Queue:
        """
        Create a queue; to let it be pulled, it needs a pull consumer.

        :param name: its name, unique in the account.
        :param settings: see :class:`QueueSettings`.
        :raises AlreadyExistsError: there was a queue of this name before. If the answer is lost, a queue no older than
            the request counts as created by it; a warning says so.
        """
        return self.run(self._create_queue(name, settings))

    async def acreate_queue(self, name: str, **settings: Unpack[QueueSettings]) -> Queue:
        """Async twin of :meth:`create_queue`."""
        return await self.arun(self._create_queue(name, settings))

    def _create_queue(self, name: str, settings: QueueSettings) -> Flow[Queue]:
        wanted = arguments.parse_queue_settings(**settings)
        return administration.create_queue(arguments.parse_name(name, "name"), wanted, self._known)

    def delete_queue(self, queue_id: str) -> None:
        """
        Delete a queue with all its messages.

        :param queue_id: ID of the queue.
        :raises NotFoundError: there is no such queue.
        """
        self.run(administration.delete_queue(queue_id, self._known))

    async def adelete_queue(self, queue_id: str) -> None:
        """Async twin of :meth:`delete_queue`."""
        await self.arun(administration.delete_queue(queue_id, self._known))

    def pause_delivery(self, queue_id: str) -> Queue:
        """
        Pause the delivery of a queue: pulls fail with a QueuePausedError until it is resumed.

        Sending goes on, and leases can still be settled.

        :param queue_id: ID of the queue.
        """
        return self.run(self._set_paused(queue_id, paused=True))

    async def apause_delivery(self, queue_id: str) -> Queue:
        """Async twin of :meth:`pause_delivery`."""
        return await self.arun(self._set_paused(queue_id, paused=True))

    def resume_delivery(self, queue_id: str) -> Queue:
        """
        Let consumers pull from a queue again.

        :param queue_id: ID of the queue.
        """
        return self.run(self._set_paused(queue_id, paused=False))

    async def aresume_delivery(self, queue_id: str) -> Queue:
        """Async twin of :meth:`resume_delivery`."""
        return await self.arun(self._set_paused(queue_id, paused=False))

    def _set_paused(self, queue_id: str, *, paused: bool) -> Flow[Queue]:
        return once(queue_calls.update_queue(queue_id, {"delivery_paused": paused}))

    def update_queue(self, queue_id: str, **settings: Unpack[QueueSettings]) -> Queue:
        """
        Change settings of a queue; those that are None stay.

        :param queue_id: ID of the queue.
        :param settings: see :class:`QueueSettings`.
        """
        return self.run(self._update_queue(queue_id, **settings))

    async def aupdate_queue(self, queue_id: str, **settings: Unpack[QueueSettings]) -> Queue:
        """Async twin of :meth:`update_queue`."""
        return await self.arun(self._update_queue(queue_id, **settings))

    def _update_queue(self, queue_id: str, **settings: Any) -> Flow[Queue]:
        return once(queue_calls.update_queue(queue_id, arguments.parse_queue_settings(**settings)))

    def purge(self, queue_id: str) -> None:
        """
        Start to delete ALL messages of a queue, delayed ones included. It goes on after this call.

        Messages that are leased meanwhile may still be processed. A purge that failed is repeated only if it cannot
        have started: a second one would delete what was sent after the first.

        :param queue_id: ID of the queue.
        :raises CloudflareQueuesError: it failed; ``maybe_applied`` says whether it may have started.
        """
        self.run(once(queue_calls.purge(queue_id)))

    async def apurge(self, queue_id: str) -> None:
        """Async twin of :meth:`purge`."""
        await self.arun(once(queue_calls.purge(queue_id)))

    def prepare_purge(self, queue_id: str) -> Purge:
        """
        Look at a queue just before :meth:`purge`, so that :meth:`finish_purge` knows that purge from earlier ones.

        :param queue_id: ID of the queue.
        """
        return self.run(purging.prepare_purge(queue_id))

    async def aprepare_purge(self, queue_id: str) -> Purge:
        """Async twin of :meth:`prepare_purge`."""
        return await self.arun(purging.prepare_purge(queue_id))

    def finish_purge(self, purge: Purge, *, poll_interval: float = 5, end: float) -> PurgeStatus:
        """
        Wait until a purge is done, or the time is up.

        A look that fails for a reason that may pass does not end the wait.

        :param purge: what :meth:`prepare_purge` returned before the purge.
        :param poll_interval: seconds between two looks, at least 1, or longer if the API asks for it.
        :param end: when to give up, in seconds since the epoch.
        :return: the last status; ``completed`` is True only if this purge is done. ``error`` says why the last look
            failed, if it did.
        """
        return self.run(self._finish_purge(purge, poll_interval, end))

    async def afinish_purge(self, purge: Purge, *, poll_interval: float = 5, end: float) -> PurgeStatus:
        """Async twin of :meth:`finish_purge`."""
        return await self.arun(self._finish_purge(purge, poll_interval, end))

    def _finish_purge(self, purge: Purge, poll_interval: Any, end: float) -> Flow[PurgeStatus]:
        interval = arguments.parse_seconds(poll_interval, "poll_interval", at_least=1)
        return purging.finish_purge(purge, self._known, poll_interval=interval, end=end)

    def get_purge_status(self, queue_id: str) -> PurgeStatus:
        """
        Return how far the last purge of a queue is.

        :param queue_id: ID of the queue.
        """
        return self.run(once(queue_calls.get_purge_status(queue_id)))

    async def aget_purge_status(self, queue_id: str) -> PurgeStatus:
        """Async twin of :meth:`get_purge_status`."""
        return await self.arun(once(queue_calls.get_purge_status(queue_id)))

    def list_consumers(self, queue_id: str) -> list[Consumer]:
        """
        Return the consumers of a queue, of all types.

        :param queue_id: ID of the queue.
        """
        return self.run(once(queue_calls.list_consumers(queue_id)))

    async def alist_consumers(self, queue_id: str) -> list[Consumer]:
        """Async twin of :meth:`list_consumers`."""
        return await self.arun(once(queue_calls.list_consumers(queue_id)))

    def create_pull_consumer(self, queue_id: str, **settings: Unpack[ConsumerSettings]) -> Consumer:
        """
        Add a pull consumer to a queue that has none; a setting that is not given is left to the API.

        :param queue_id: ID of the queue.
        :param settings: see :class:`ConsumerSettings`.
        :raises AlreadyExistsError: the queue has a consumer.
        """
        return self.run(self._create_pull_consumer(queue_id, settings))

    async def acreate_pull_consumer(self, queue_id: str, **settings: Unpack[ConsumerSettings]) -> Consumer:
        """Async twin of :meth:`create_pull_consumer`."""
        return await self.arun(self._create_pull_consumer(queue_id, settings))

    def _create_pull_consumer(self, queue_id: str, settings: ConsumerSettings) -> Flow[Consumer]:
        return administration.create_pull_consumer(queue_id, arguments.parse_consumer(**settings), self._known)

    def update_pull_consumer(self, queue_id: str, **settings: Unpack[ConsumerSettings]) -> Consumer:
        """
        Change settings of a queue's pull consumer; those that are not given stay.

        :param queue_id: ID of the queue.
        :param settings: see :class:`ConsumerSettings`.
        :raises AlreadyExistsError: the queue has a Worker consumer instead.
        :raises NotFoundError: the queue has no consumer.
        """
        return self.run(self._update_pull_consumer(queue_id, settings))

    async def aupdate_pull_consumer(self, queue_id: str, **settings: Unpack[ConsumerSettings]) -> Consumer:
        """Async twin of :meth:`update_pull_consumer`."""
        return await self.arun(self._update_pull_consumer(queue_id, settings))

    def _update_pull_consumer(self, queue_id: str, settings: ConsumerSettings) -> Flow[Consumer]:
        return administration.update_pull_consumer(queue_id, arguments.parse_consumer(**settings), self._known)

    def delete_pull_consumer(self, queue_id: str) -> None:
        """
        Remove a queue's pull consumer. The messages stay in the queue, and cannot be pulled any more.

        :param queue_id: ID of the queue.
        :raises NotFoundError: the queue has no pull consumer.
        """
        self.run(administration.delete_pull_consumer(queue_id, self._known))

    async def adelete_pull_consumer(self, queue_id: str) -> None:
        """Async twin of :meth:`delete_pull_consumer`."""
        await self.arun(administration.delete_pull_consumer(queue_id, self._known))

    def ensure_pull_consumer(self, queue_id: str, **settings: Unpack[ConsumerSettings]) -> EnsuredConsumer:
        """
        Make sure that a queue has a pull consumer with these settings, and wait until it can be pulled from.

        A setting that is not given stays as it is, or is left to the API. For some seconds after a consumer was made,
        the API still answers pulls with 405. The hook waits for up to a minute: it pulls one message with a new
        consumer and gives it back at once, which counts as a delivery of that message. If that could be the message's
        last delivery, or if the hook may not look at it, the hook waits 30 seconds instead. If delivery is paused, it
        does not wait. In each case, a warning and ``untried`` of the result say so.

        :param queue_id: ID of the queue.
        :param settings: see :class:`ConsumerSettings`.
        :raises AlreadyExistsError: the queue has a Worker consumer.
        :raises PullNotEnabledError: the queue could not be pulled after a minute.
        """
        return self.run(self._ensure_pull_consumer(queue_id, settings))

    async def aensure_pull_consumer(self, queue_id: str, **settings: Unpack[ConsumerSettings]) -> EnsuredConsumer:
        """Async twin of :meth:`ensure_pull_consumer`."""
        return await self.arun(self._ensure_pull_consumer(queue_id, settings))

    def _ensure_pull_consumer(self, queue_id: str, settings: ConsumerSettings) -> Flow[EnsuredConsumer]:
        wanted = arguments.parse_consumer(**settings)
        ensured = yield from administration.ensure_pull_consumer(queue_id, wanted, self._known)
        if ensured.untried:
            queue = self.name_of(queue_id)
            self.log.warning("The new pull consumer of queue %s was not test-pulled: %s", queue, ensured.untried)
        return ensured

    def get_pull_consumer(self, queue_id: str) -> Consumer | None:
        """
        Return the pull consumer of a queue, looked at once in the hook's life.

        If reading it fails for a reason that may pass, the hook tries again. (The look that comes with a pull is not
        repeated.)

        :param queue_id: ID of the queue.
        :return: None if there is none, or if the token may not read it.
        :raises CloudflareQueuesError: it could not be looked at.
        """
        return self.run(self.get_pull_consumer_flow(queue_id, required=True))

    async def aget_pull_consumer(self, queue_id: str) -> Consumer | None:
        """Async twin of :meth:`get_pull_consumer`."""
        return await self.arun(self.get_pull_consumer_flow(queue_id, required=True))

    def get_pull_consumer_flow(
        self, queue_id: str, *, required: bool = False, is_dead_letter_queue: bool = False
    ) -> Flow[Consumer | None]:
        """
        Return the call of :meth:`get_pull_consumer`, as a part of another flow.

        :param queue_id: ID of the queue.
        :param required: raise what the look fails with, unless it is not allowed.
        :param is_dead_letter_queue: do not warn if it has no dead-letter queue of its own, as is usual.
        """
        queue_id = arguments.parse_id(queue_id, "queue_id")
        consumer = yield from lookup.get_pull_consumer(queue_id, self._known, required=required)
        if queue_id in self.warned_of:
            return consumer
        self.warned_of.add(queue_id)
        queue = self.name_of(queue_id)
        if consumer is None:
            self.log.warning(
                "The pull consumer of queue %s could not be read (there is none, or the token lacks 'Queues Read'). "
                "The provider assumes that it has no dead-letter queue and max_retries=%d, and that a lease without "
                "visibility_timeout lasts %d s",
                queue,
                UNKNOWN_CONSUMER.deliveries,
                API_VISIBILITY_SECONDS,
            )
        elif consumer.dead_letter_queue is None and not is_dead_letter_queue:
            self.log.warning(
                "Queue %s has no dead-letter queue: Cloudflare DELETES a message after %d or %d deliveries without an "
                "ack (its documentation says both). Set a dead-letter queue on its HTTP pull consumer",
                queue,
                consumer.deliveries,
                consumer.deliveries + 1,
            )
        return consumer
