"""What handlers do: succeed, fail, ask, dawdle and misbehave, as the seed says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.outcomes import Ack, Reject, Retry
from simulation.loop import Crashed, Thread

if TYPE_CHECKING:
    from simulation.process import Process

TROUBLES = ("raise", "retry", "ask", "dawdle", "cancel", "exit")


def make_handler(process: Process, shape: str, is_batch: bool) -> Callable[[Any], Any]:
    """
    Return the handler of a run.

    :param process: whose handler it is.
    :param shape: ``async``, ``sync`` or ``lambda``.
    :param is_batch: whether it gets lists.
    """
    script = Script(process)
    work = script.batch if is_batch else script.single

    async def handle(given: Any) -> Any:
        seconds = script.begin(given)
        if seconds:
            await asyncio.sleep(seconds)
        return work(given)

    def handle_in_thread(given: Any) -> Any:
        seconds = script.begin(given)
        if seconds:
            Thread.sleep(seconds)
        return work(given)

    return {"async": handle, "sync": handle_in_thread, "lambda": lambda given: handle(given)}[shape]


class Script:
    """
    Decides what a handler does with a message, and tells the world before it does.

    :param process: whose handler it is.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._random = process.world.random

    def begin(self, given: Message | list[Message]) -> float:
        """Note what is given to the handler; return how long it takes."""
        messages = [given] if isinstance(given, Message) else given
        if self._process.is_dead:  # a thread that goes on while its process is unwound
            raise Crashed
        for message in messages:
            self._tell(self._process.begins, message)
        if any(self._is_trouble(message) for message in messages) and self._random.random() < 0.2:
            return self._process.options.visibility_timeout * 2 * self._random.random()
        return self._world.scenario.pace * self._random.random()

    def single(self, message: Message) -> Any:
        """Return or raise the verdict on one message."""
        verdict = self._verdict(message)
        self._tell(self._process.ends, message, verdict)
        if isinstance(verdict, Ack):
            return self._random.choice((None, 1, verdict))
        if isinstance(verdict, (Retry, Reject)) and self._random.random() < 0.5:
            return verdict
        raise verdict

    def batch(self, messages: list[Message]) -> Any:
        """Return or raise the verdict on a batch."""
        verdicts = [self._verdict(message) for message in messages]
        plain = [verdict for verdict in verdicts if isinstance(verdict, (Ack, Retry, Reject))]
        raised = next((verdict for verdict in verdicts if not isinstance(verdict, (Ack, Retry, Reject))), None)
        if raised is None and self._random.random() < 0.02 and not self._world.is_healed:
            raised = ValueError("wrong list")
            plain = plain[1:]
        if raised is not None:
            for message in messages:
                self._tell(self._process.ends, message, raised)
            if str(raised) == "wrong list":
                return plain
            raise raised
        for message, verdict in zip(messages, verdicts, strict=True):
            self._tell(self._process.ends, message, verdict)
        if not all(isinstance(verdict, Ack) for verdict in verdicts):
            return verdicts
        if self._random.random() < 0.1:
            messages.clear()  # as "while messages: messages.pop()" does
        return self._random.choice((None, verdicts))

    def _tell(self, tell: Callable[..., None], *args: Any) -> None:
        try:
            tell(*args)
        except Exception as error:  # the engine would take it for the handler's verdict
            self._world.truth.blame(f"the simulation itself failed: {error!r}")
            raise

    def _is_trouble(self, message: Message) -> bool:
        return self._world.is_trouble(message)

    def _verdict(self, message: Message) -> Any:
        random = self._random
        if self._world.is_rejected(message):
            return Reject("no good")
        if not self._is_trouble(message):
            return Ack()
        match random.choices(TROUBLES, (40, 20, 20, 20, 2, 2))[0]:
            case "raise":
                return ValueError("no luck")
            case "retry":
                return Retry()
            case "ask":
                return Retry(random.choice((0, 0.5, 3, 20)))
            case "cancel":
                return asyncio.CancelledError("a task of the handler's own was cancelled")
            case "exit":
                return SystemExit("sys.exit()")
            case _:
                return Ack()
