"""Watchers of a queue inside Airflow's own shared streams, with a stand-in for the triggerer around them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace

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
        self.held = {}
        self.events = {}
        self.errors = []
        self.removed = set()
        self.when_stored = lambda number, payload: None
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
        if key is None:
            events = trigger.run()
        else:
            stream = self.manager.subscribe(trigger_id=number, trigger=trigger, key=key)
            events = trigger.filter_shared_stream(stream)
        try:
            async for event in events:
                await self.takes.wait()  # here Airflow awaits a line of its log
                if number in self.held:
                    await self.held[number].wait()
                seq = self.manager.bind_pending_event(trigger_id=number, key=key)
                self._unconfirmed.append((number, event, seq))
                asyncio.get_running_loop().call_soon(self._store)
        except asyncio.CancelledError:
            if number in self.removed:
                await trigger.on_kill()
            raise
        except Exception as error:  # noqa: BLE001 - as the triggerer does
            self.errors.append(error)
        finally:
            await self.manager.unsubscribe(number, key)
            await trigger.cleanup()

    def _store(self):
        if not self.stores:
            return
        for number, event, _ in self._unconfirmed:
            if number not in self.removed:
                self.events[number].append(event.payload)
                self.when_stored(number, event.payload)
        self.manager.confirm_persisted([seq for _, _, seq in self._unconfirmed if seq is not None])
        for number in self.removed & {number for number, _, _ in self._unconfirmed}:
            asyncio.get_running_loop().call_later(0.5, self._tasks[number].cancel)
        self._unconfirmed.clear()

    def bodies(self, number):
        """Return the bodies of the messages in a watcher's stored events."""
        return [message["body"] for payload in self.events[number] for message in payload["messages"]]

    def remove(self, number):
        """Delete the row of a watcher: Airflow confirms its next event, but does not store it, and ends the watcher."""
        self.removed.add(number)

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


class Runs:
    """
    A scheduler as Airflow 3.0 to 3.3 has it, and the supervisor that triggers ask how many runs there are.

    :param triggerer: whose stored events make runs.
    :param dags: the watchers of each DAG's assets.
    """

    def __init__(self, triggerer, dags):
        self.of = {dag: [] for dag in dags}
        self.is_away = False
        self.active = {}
        self.error = None
        self.pass_seconds = 2
        self.deleted = 0
        self._dags = dags
        self._rows = {}
        self._stored = []
        self.follow(triggerer)

    def follow(self, triggerer):
        """Make runs of the events of another triggerer from now on, whose watchers have the same numbers."""
        triggerer.when_stored = self._queue

    def watch_too(self, watcher):
        """Schedule all DAGs on the asset of another watcher as well."""
        for watchers in self._dags.values():
            watchers.append(watcher)

    def _queue(self, number, payload):
        self._stored.append((number, payload))
        for dag, watchers in self._dags.items():
            if number in watchers:
                self._rows.setdefault(dag, len(self._stored))
        asyncio.get_running_loop().call_later(self.pass_seconds, self.pass_once)

    def pass_once(self):
        """Make runs, unless the scheduler is away."""
        if not self.is_away:
            self.make()

    def make(self):
        """Make a run of each DAG that is queued, of the events up to the one that queued it."""
        for dag, last in self._rows.items():
            before = sum(len(run) for run in self.of[dag])
            events = [payload for number, payload in self._stored[:last] if number in self._dags[dag]]
            self.of[dag].append(events[before:])
        self._rows.clear()

    def messages(self, dag):
        """Return the bodies of each run's messages."""
        return [[message["body"] for payload in run for message in payload["messages"]] for run in self.of[dag]]

    async def asend(self, question):
        """Answer as a triggerer's supervisor does."""
        if self.error is not None:
            raise self.error
        if question.states:
            return SimpleNamespace(count=int(self.active.get(question.dag_id) in question.states))
        return SimpleNamespace(count=len(self.of[question.dag_id]) - self.deleted)
