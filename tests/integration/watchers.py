"""Watchers of a queue inside Airflow's own shared streams, with a stand-in for the triggerer around them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from airflow.triggers.shared_stream import SharedStreamManager

from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger


class Triggerer:
    """
    Runs watchers as Airflow's triggerer does, and stores their events.

    :param ack_timeout: as ``[triggerer] shared_stream_ack_timeout``.
    """

    def __init__(self, *, ack_timeout=300.0):
        self.manager = SharedStreamManager(ack_timeout=ack_timeout, _now=asyncio.get_running_loop().time)
        self.stores = True
        self.takes = asyncio.Event()
        self.takes.set()
        self.events = {}
        self.errors = []
        self._unconfirmed = []
        self._tasks = {}

    def watch(self, **arguments):
        """Begin a watcher; return its ID."""
        trigger = QueueMessageTrigger(**arguments)
        classpath, kwargs = trigger.serialize()
        assert classpath == "airflow_provider_cfqueues.triggers.queues.QueueMessageTrigger"
        number = len(self._tasks) + 1
        self.events[number] = []
        self._tasks[number] = asyncio.create_task(self._run(number, QueueMessageTrigger(**kwargs)))
        return number

    async def _run(self, number, trigger):
        key = trigger.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                await self.takes.wait()  # here Airflow awaits a line of its log
                seq = self.manager.bind_pending_event(trigger_id=number, key=key)
                self._unconfirmed.append((number, event, seq))
                asyncio.get_running_loop().call_soon(self._store)
        except Exception as error:  # noqa: BLE001 - as the triggerer does
            self.errors.append(error)
        finally:
            await self.manager.unsubscribe(number, key)
            await trigger.cleanup()

    def _store(self):
        if not self.stores:
            return
        for number, event, _ in self._unconfirmed:
            self.events[number].append(event.payload)
        self.manager.confirm_persisted([seq for _, _, seq in self._unconfirmed if seq is not None])
        self._unconfirmed.clear()

    def bodies(self, number):
        """Return the bodies of the messages in a watcher's stored events."""
        return [message["body"] for payload in self.events[number] for message in payload["messages"]]

    async def cancel(self, number):
        """End one watcher."""
        self._tasks[number].cancel()
        with suppress(asyncio.CancelledError):
            await self._tasks[number]

    async def stop(self):
        """End all watchers, as a triggerer that is told to end."""
        await self.manager.stop_all()
        for number in self._tasks:
            await self.cancel(number)
