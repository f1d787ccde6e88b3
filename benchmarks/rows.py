"""The rows of the table: each runs a child beside its peer or floor, and compares the two."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import emulator as emulator_speed
from benchmarks import imports as import_times
from benchmarks import memory, peers
from benchmarks.stage import Row, delay, emulator, fill, medians, run
from harness.cloudflare import Queue


@dataclass(frozen=True)
class Effort:
    """
    How thoroughly is measured.

    :param runs: of which the medians are taken.
    :param scale: what part of the messages is used.
    """

    runs: int = 5
    scale: float = 1

    def count(self, messages: int) -> int:
        """
        Return how many messages a benchmark uses.

        :param messages: how many in a whole run.
        """
        return max(200, int(messages * self.scale) // 100 * 100)


FEW = 16
"""Connections of the floor: enough at 50 ms that latency does not count."""
MANY = 100
"""As many requests at once as the largest window of a task allows."""

Benchmark = Callable[[Effort], Iterator[Row]]


@contextlib.contextmanager
def queue_of(count: int, milliseconds: int, **options: Any) -> Iterator[Queue]:
    """
    Run an emulator with a full queue, its requests delayed.

    :param count: how many messages.
    :param milliseconds: the latency of each request.
    :param options: of :func:`~benchmarks.stage.fill`.
    """
    with emulator() as queue:
        fill(queue, count, **options)
        delay(queue, milliseconds)
        yield queue


def _timed(child: str, count: int, milliseconds: int, *arguments: Any) -> dict[str, float]:
    with queue_of(count, milliseconds) as queue:
        return run(queue, child, queue.queue_id, count, *arguments)


def cpu(effort: Effort) -> Iterator[Row]:
    """Compare the CPU time of processing with that of the floor."""
    count = effort.count(30_000)
    samples = [(_timed("process", count, 50), _timed("floor", count, 50, FEW)) for _ in range(effort.runs)]
    ours, floor = (medians([pair[side] for pair in samples])["cpu"] / count * 1000 for side in (0, 1))
    ratio = ours / floor
    yield Row(
        "process: client CPU s per 1,000 messages, 50 ms", ours, "<= 3.3 x floor", ratio <= 3.3, {"floor": floor}, ratio
    )


def rate(effort: Effort) -> Iterator[Row]:
    """Measure messages a second, from the start of the task on, at long latencies."""
    count = effort.count(30_000)
    for milliseconds, target in ((50, 0), (200, 8_000), (500, 4_500)):
        figures = medians([_timed("process", count, milliseconds) for _ in range(effort.runs)])
        floor = medians([_timed("floor", count, milliseconds, MANY) for _ in range((effort.runs + 1) // 2)])
        rate, most = count / figures["seconds"], count / floor["seconds"]
        wanted, met = (f">= {target:,}", rate >= target) if target else ("", None)
        yield Row(f"process: messages/s, {milliseconds} ms", rate, wanted, met, {"floor": most}, rate / most)
        if milliseconds == 200 and floor["first"]:
            first, least = figures["first"], floor["first"]
            what = "process: s until the 1,000th message, 200 ms"
            yield Row(what, first, "<= 1.0", first <= 1, {"floor": least}, first / least)


def large(effort: Effort) -> Iterator[Row]:
    """Process large messages, and look at what is held at once."""
    count, size = effort.count(4_000), 100_000
    with queue_of(count, 50, body={"text": "x" * size}) as queue:
        figures = run(queue, "process", queue.queue_id, count)
        most = most_open(queue.cloudflare.control("GET", "requests")) * size / 1e6
    yield Row("process, 4,000 x 100 KB: most MB asked for and not settled", most, "<= 64, one overshoot")
    yield Row("process, 4,000 x 100 KB: RSS in MB", figures["rss_mb"], "<= 400", figures["rss_mb"] <= 400)


def most_open(log: list[dict[str, Any]]) -> int:
    """
    Return how many messages were asked for and not settled, at the most.

    :param log: the emulator's requests, in order.
    """
    count = most = 0
    for request in log:
        if request["path"].endswith("/pull"):
            count += request["body"].get("batch_size", 5)
        elif request["path"].endswith("/ack"):
            count -= len(request["body"]["acks"]) + len(request["body"]["retries"])
        most = max(most, count)
    return most


def hook(effort: Effort) -> Iterator[Row]:
    """Compare the CPU time of calls of the hook with that of ``requests``."""
    rounds = max(20, int(200 * effort.scale))
    with queue_of(400, 0) as queue:
        figures = medians([run(queue, "hook", queue.queue_id, rounds) for _ in range(effort.runs)])
    for name, target in (("pull", 1.25), ("ack", 1.1), ("send", 1.15)):
        ours, bare = figures[name], figures[f"bare {name}"]
        what = f"hook.{name}(100): CPU ms"
        yield Row(what, ours, f"<= {target} x requests", ours / bare <= target, {"requests": bare}, ours / bare)


def commands(effort: Effort) -> Iterator[Row]:
    """Drain a queue, start of the command included, and redrive another, 200 ms a request, beside serial loops."""
    for child, messages, target in (("drain", 8_000, 2_000), ("redrive", 4_000, 240)):
        count, few = effort.count(messages), effort.count(1_000)
        ours, peer = [], []
        for _ in range(max(1, effort.runs // 2)):
            with emulator("target") as queue:
                fill(queue, count + few)
                delay(queue, 200)
                queues = [queue] if child == "drain" else [queue, queue.cloudflare.queue("target")]
                peer.append(run(queue, f"bare_{child}", *(each.queue_id for each in queues), few))
                ours.append(run(queue, child, *(each.name for each in queues), count))
        rate, bare = count / medians(ours)["seconds"], few / medians(peer)["seconds"]
        what = f"{child}: messages/s, 200 ms"
        yield Row(what, rate, f">= {target:,}", rate >= target, {"requests, one at a time": bare}, rate / bare)


def lookup(effort: Effort) -> Iterator[Row]:
    """Look for a queue that does not exist among 10,000, without added latency, beside reading the whole list."""
    count = effort.count(10_000)
    with emulator() as queue:
        for number in range(count):
            queue.cloudflare.call("POST", "", {"queue_name": f"queue-{number}"})
        ours = medians([run(queue, "lookup", "queue-none") for _ in range(effort.runs)])["seconds"]
        bare = medians([run(queue, "bare_list") for _ in range(effort.runs)])["seconds"]
    what = "get_queue_id: s for a name that 10,000 queues do not have"
    yield Row(what, ours, "<= 2", ours <= 2, {"all pages by requests": bare}, ours / bare)


def loop(effort: Effort) -> Iterator[Row]:
    """Measure for how long an event loop stands still."""
    with queue_of(201 * effort.runs + 1, 0, body={"text": "x" * 100_000}) as queue:
        figures = medians([run(queue, "loop", queue.queue_id) for _ in range(effort.runs)])
    gap, floor = figures["gap_ms"], figures["floor_ms"]
    what = "apull of 100 x 100 KB: ms that the event loop stands still"
    yield Row(what, gap, "<= 20", gap <= 20, {"json.loads in one go": floor}, gap / floor)
    with emulator() as queue:
        gap = medians([run(queue, "watchers", queue.queue_id, 200) for _ in range(effort.runs)])["gap_ms"]
    yield Row("200 watchers that start: ms that the event loop stands still", gap, "<= 50", gap <= 50)


def imports(effort: Effort) -> Iterator[Row]:
    """Measure what an import costs a process that parses DAG files, beside Airflow's own providers for queues."""
    yield from import_times.rows(effort.runs)


def server(effort: Effort) -> Iterator[Row]:
    """Measure the emulator at a backlog of 100,000 messages, beside a bare Starlette application."""
    times = emulator_speed.measure(max(20, int(100 * effort.scale)), effort.count(100_000))
    for name, target in (("pull", 1.1), ("ack", 0.9)):
        ours, peer = times[name], times[f"peer, {name}"]
        yield Row(
            f"emulator: {name}(100), ms", ours, f"<= {target}", ours <= target, {"bare server": peer}, ours / peer
        )


def requests(effort: Effort) -> Iterator[Row]:
    """Count requests and billed operations of consumers, each beside ours."""
    yield from peers.rows(effort)


def resident(effort: Effort) -> Iterator[Row]:
    """Watch the memory of one task over many messages."""
    yield from memory.rows(effort.count(1_000_000))


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.__name__: benchmark
    for benchmark in (cpu, rate, large, hook, commands, lookup, loop, imports, server, requests, resident)
}
