"""Where probes work: queues of their own, with a prefix that nobody else uses, deleted at the end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

from airflow_provider_cfqueues.emulator.conformance.api import Answer, Api, NoOccasion

T = TypeVar("T")
Wait = Generator[float, None, T]

PREFIX = "cfq-conformance-"
LONG = 600
"""Seconds of a lease that must not end by itself."""
SHORT = 5
"""Seconds of a lease that has to end."""
PATIENCE = 20
"""Seconds that a message, a consumer or a number may take to appear: the real API is not one machine."""
NAMES_A_CALL = 20


class Queue:
    """A queue of the lab."""

    def __init__(self, api: Api, now: Callable[[], float], queue_id: str, name: str) -> None:
        self.api = api
        self._now = now
        self.id = queue_id
        self.name = name
        self.path = f"/queues/{queue_id}"
        self.consumer_id = ""

    def call(self, method: str, action: str = "", body: Any = None) -> Answer:
        """Make a call about this queue."""
        return self.api.call(method, f"{self.path}{action}", body)

    def consume(self, dead_letter_queue: str = "", **settings: Any) -> Answer:
        """Give it an http_pull consumer, or change the one it has."""
        body: dict[str, Any] = {"type": "http_pull", "settings": settings}
        if dead_letter_queue:
            body["dead_letter_queue"] = dead_letter_queue
        if self.consumer_id:
            return self.call("PUT", f"/consumers/{self.consumer_id}", body)
        answer = self.call("POST", "/consumers", body)
        self.consumer_id = answer.result.get("consumer_id", "")
        return answer

    def send(self, *texts: str, **options: Any) -> Answer:
        """Send texts, in one batch if there are more than one."""
        messages = [{"body": text, "content_type": "text", **options} for text in texts]
        if len(messages) == 1:
            return self.push(messages[0], len(texts[0]))
        return self.push({"messages": messages}, *map(len, texts), action="/messages/batch")

    def push(self, body: Any, *sizes: int, action: str = "/messages") -> Answer:
        """Send what may be refused; it is charged where it was not."""
        answer = self.call("POST", action, body)
        if answer.ok:
            self.api.charge(*sizes)
        return answer

    def pull_once(self, count: int | None = 1, seconds: float | None = LONG, **options: Any) -> Answer:
        """Pull once, whether or not there is anything."""
        body = dict(options)
        if count is not None:
            body["batch_size"] = count
        if seconds is not None:
            body["visibility_timeout_ms"] = round(seconds * 1000)
        answer = self.call("POST", "/messages/pull", body)
        if answer.ok:
            sizes = [len(str(message.get("body"))) for message in answer.messages]
            self.api.charge(*(sizes or [0]))
        return answer

    def answered(self, count: int | None = 1, seconds: float | None = LONG, **options: Any) -> Wait[Answer]:
        """Pull until an answer has messages."""
        for _ in range(PATIENCE):
            answer = self.pull_once(count, seconds, **options)
            if answer.messages:
                return answer
            yield 1
        raise NoOccasion("a message was sent, and could not be pulled")

    def pull(self, count: int = 1, seconds: float = LONG) -> Wait[list[dict[str, Any]]]:
        """Pull until there are so many."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            answer = yield from self.answered(count - len(found), seconds)
            found += answer.messages
        return found

    def one(self, seconds: float = LONG) -> Wait[dict[str, Any]]:
        """Pull one message."""
        [message] = yield from self.pull(1, seconds)
        return message

    def arrives(self, within: float, seconds: float = LONG) -> Wait[tuple[float, dict[str, Any]]]:
        """Wait for a message; return after how many seconds it came, and an empty one if none did."""
        start = self._now()
        while True:
            waited = self._now() - start
            messages = self.pull_once(1, seconds).messages
            if messages or waited >= within:
                return waited, messages[0] if messages else {}
            yield 2

    def retry(self, lease: str, **delay: float) -> Answer:
        """Give back."""
        return self.settle(retries=[{"lease_id": lease, **delay}])

    def settle(self, acks: Iterable[str] = (), retries: Sequence[dict[str, Any]] = ()) -> Answer:
        """Acknowledge and give back."""
        answer = self.call("POST", "/messages/ack", {"acks": leases(acks), "retries": list(retries)})
        self.api.charge(*[0] * int(answer.result.get("ackCount") or 0))
        return answer


def leases(of: Iterable[str]) -> list[dict[str, Any]]:
    """Return leases as a call takes them."""
    return [{"lease_id": lease} for lease in of]


class Lab:
    """The queues of one run."""

    def __init__(self, api: Api, now: Callable[[], float]) -> None:
        self.api = api
        self._now = now
        self.prefix = f"{PREFIX}{secrets.token_hex(4)}"
        self._names: list[str] = []
        self._ids: dict[str, str] = {}

    def name(self) -> str:
        """Return a name for a queue; a queue of that name is deleted at the end."""
        self._names.append(f"{self.prefix}-{len(self._names)}")
        return self._names[-1]

    def create(self) -> Queue:
        """Create a queue without a consumer."""
        name = self.name()
        answer = self.api.call("POST", "/queues", {"queue_name": name})
        queue_id = answer.result.get("queue_id")
        if not queue_id:
            raise NoOccasion(f"no queue could be created ({answer})")
        self._ids[name] = queue_id
        return Queue(self.api, self._now, queue_id, name)

    def queue(self, dead_letter_queue: str = "", **settings: Any) -> Wait[Queue]:
        """Create a queue that can be pulled."""
        queue = self.create()
        answer = queue.consume(dead_letter_queue, **settings)
        if not answer.ok:
            raise NoOccasion(f"no consumer could be added ({answer})")
        yield from self.until_pulled(queue)
        return queue

    def until_pulled(self, queue: Queue) -> Wait[float]:
        """Wait until pulls of a queue are answered, and return for how long."""
        for waited in range(0, PATIENCE, 2):
            if queue.pull_once().ok:
                return waited
            yield 2
        raise NoOccasion(f"the queue could not be pulled {PATIENCE} s after its consumer was added")

    def find(self, names: Sequence[str]) -> dict[str, str]:
        """Return the ids of those of these queues that exist."""
        found: dict[str, str] = {}
        for start in range(0, len(names), NAMES_A_CALL):
            query = "&".join(f"name={name}" for name in names[start : start + NAMES_A_CALL])
            answer = self.api.call("GET", f"/queues?{query}")
            if not answer.ok:
                raise NoOccasion(f"the queues could not be listed ({answer})")
            found |= {item["queue_name"]: item["queue_id"] for item in answer.result if item["queue_name"] in names}
        return found

    def clean_up(self) -> list[str]:
        """
        Delete every queue of the run, and return the names of those that may still be there.

        The later ones first, since a queue is created after its dead-letter queue. Those whose answer was lost, or
        that the API made itself, are found by their names.
        """
        for name in [name for name in reversed(self._names) if name in self._ids]:
            self._delete(name, self._ids[name])
        try:
            for name, queue_id in self.find(self._names).items():
                self._delete(name, queue_id)
            self._names = [name for name in self._names if name in self._ids]
        except NoOccasion:
            pass
        return self._names

    def _delete(self, name: str, queue_id: str) -> None:
        answer = self.api.call("DELETE", f"/queues/{queue_id}")
        if answer.ok or answer.status == 404:
            self._ids.pop(name, None)
            self._names.remove(name)
        else:
            self._ids[name] = queue_id
