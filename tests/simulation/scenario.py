"""What a seed stands for: the queue, how it is processed, what its messages are like, and what goes wrong when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from airflow_provider_cfqueues.delays import ExponentialDelay
from airflow_provider_cfqueues.engines.processing.options import Options

FOREVER = 10**9
QUEUE_ID, DEAD_LETTER_QUEUE_ID = "1" * 32, "2" * 32


@dataclass(frozen=True, kw_only=True)
class Doom:
    """
    How a run ends, where it does not end by itself.

    :param kind: ``crash``, ``kill``, ``stop``, or nothing.
    :param after_steps: callbacks of its loop until then, so that it may be between any two awaits.
    :param after_seconds: or virtual seconds.
    :param crash_after_kill: seconds from a kill to ``kill -9``, as Airflow does it.
    """

    kind: str = ""
    after_steps: int | None = None
    after_seconds: float | None = None
    crash_after_kill: float | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """
    One run of the engine.

    :param options: how the queue is processed.
    :param shape: what the handler is: ``async``, ``sync`` or ``lambda`` (a sync function that returns a coroutine).
    :param doom: how it ends.
    :param skew: by how many seconds the machine's clock is wrong.
    :param jump: the moment and the seconds by which that clock jumps.
    :param starts_after: seconds after the run before it ended, or began where both run at once.
    :param beside: whether it runs beside the one before it.
    """

    options: Options
    shape: str = "async"
    doom: Doom = Doom()
    skew: float = 0.0
    jump: tuple[float, float] | None = None
    starts_after: float = 0.0
    beside: bool = False


@dataclass(frozen=True, kw_only=True)
class Item:
    """
    A message.

    :param sent_at: when it is sent.
    :param trouble: at so many deliveries its handler does not succeed.
    :param is_rejected: its handler rejects it.
    :param is_undecodable: its body cannot be decoded.
    """

    sent_at: float = 0.0
    trouble: int = 0
    is_rejected: bool = False
    is_undecodable: bool = False


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """
    All that a seed decides before the start; the rest is drawn as it happens.

    :param items: the messages.
    :param runs: the runs, in order.
    :param has_dead_letter_queue: whether rejected messages are copied to one.
    :param max_retries: of the consumer; with a small number, the broker takes messages away itself.
    :param moves: whether the broker moves them to the dead-letter queue, instead of deleting them.
    :param knows_consumer: whether the consumer can be read.
    :param retry_delay: of the consumer.
    :param fault_rate: how likely it is that a request fails.
    :param latency: seconds that a good request takes at the most, each way.
    :param pace: seconds that a handler takes at the most.
    :param outage: from when to when every request fails.
    :param broker_jumps: the moments and seconds by which the broker's clock jumps forward.
    """

    items: tuple[Item, ...]
    runs: tuple[Run, ...]
    has_dead_letter_queue: bool
    max_retries: int
    moves: bool
    knows_consumer: bool
    retry_delay: float
    fault_rate: float
    latency: float
    pace: float
    outage: tuple[float, float] | None
    broker_jumps: tuple[tuple[float, float], ...]


def draw(random: Random) -> Scenario:
    """
    Return the scenario of a seed.

    :param random: decides.
    """
    has_dead_letter_queue = random.random() < 0.5
    count = random.choice((1, 2, 3, 5, 8, 13, 21)) if random.random() < 0.98 else random.choice((0, 50, 101, 210))
    base = _draw_options(random, has_dead_letter_queue)
    can_be_poison = has_dead_letter_queue and base.max_attempts is not None
    pace = random.choice((0.0, 0.01, 0.3, base.visibility_timeout / 4))
    runs = [draw_run(random, base, pace * count, is_first=n == 0) for n in range(random.choice((1, 1, 1, 2, 2, 3)))]
    scenario = Scenario(
        items=tuple(_draw_item(random, has_dead_letter_queue, can_be_poison) for _ in range(count)),
        runs=tuple(runs),
        has_dead_letter_queue=has_dead_letter_queue,
        max_retries=random.randint(2, 6) if has_dead_letter_queue and random.random() < 0.2 else 100,
        moves=True,
        knows_consumer=True,
        retry_delay=random.choice((0, 0, 5)),
        fault_rate=random.choice((0, 0.02, 0.1, 0.3)),
        latency=random.choice((0.0, 0.02, 0.1, base.visibility_timeout / 20)),
        pace=pace,
        outage=(begin := 20 * random.random(), begin + 100 * random.random()) if random.random() < 0.1 else None,
        broker_jumps=tuple(draw_jump(random) for _ in range(2) if random.random() < 0.1),
    )
    if random.random() < 0.25:  # deliveries that may be the last ones, on a queue that deletes
        moves = has_dead_letter_queue and random.random() < 0.3
        knows = random.random() < 0.9
        return replace(scenario, max_retries=random.randint(1, 4), moves=moves, knows_consumer=knows)
    return scenario


def _draw_options(random: Random, has_dead_letter_queue: bool) -> Options:
    growing = ExponentialDelay(initial_seconds=1, max_seconds=20, jitter=0.5)
    delay = random.choice((0, 1, 7, None, growing))
    # With nowhere to put them, messages above max_attempts come again and again until Cloudflare deletes them.
    limits = (None, 1, 3, 5) if has_dead_letter_queue else (None, None, 4) if delay is growing else (None,)
    return Options(
        max_messages=random.choice((None, None, None, 1, 5, 20)),
        max_duration=random.choice((None, None, None, 0.5, 10.0)),
        idle_timeout=random.choice((0, 1, 3)),
        poll_interval=random.choice((0.2, 1)),
        concurrency=random.choice((1, 1, 2, 3, 5)),
        batch_size=random.choice((None, None, 1, 3, 10)),
        visibility_timeout=random.choice((2.0, 10.0, 60.0)),
        expected_seconds_per_message=random.choice((None, None, None, None, 0.05, 1.0))
        if random.random() < 0.97
        else 0.0,
        settle_interval=random.choice((0.0, 0.1, 1.0, 5.0)),
        delay=delay,
        max_attempts=random.choice(limits),
        grace=random.choice((0.0, 0.5, 3.0)),
        dry_run=random.random() < 0.03,
        keep_results=random.choice((0, 2)),
    )


def draw_run(random: Random, base: Options, seconds: float, *, is_first: bool) -> Run:
    doom = Doom()
    if random.random() < 0.6:
        at_step = random.random() < 0.5
        kind = random.choice(("crash", "crash", "kill", "stop"))
        doom = Doom(
            kind=kind,
            after_steps=int(10 ** (1 + 2 * random.random())) if at_step else None,
            after_seconds=None if at_step else (2 + seconds) * random.random(),
            crash_after_kill=5.0 if kind == "kill" and random.random() < 0.5 else None,
        )
    options = base
    if doom.kind == "stop" and random.random() < 0.5:
        doom = replace(doom, after_steps=None, after_seconds=(10 + seconds) * random.random())
        options = replace(base, idle_timeout=None, max_messages=None)
    return Run(
        options=options,
        shape=random.choices(("async", "sync", "lambda"), (85, 12, 3))[0],
        doom=doom,
        skew=random.choice((0.0, -3600.0, 0.7, 86_400.0)),
        jump=draw_jump(random, random.choice((-1, 1))) if random.random() < 0.1 else None,
        starts_after=random.choice((0.0, 1.0, 30 * random.random())),
        beside=not is_first and random.random() < 0.3,
    )


def draw_jump(random: Random, direction: int = 1, before: float = 30) -> tuple[float, float]:
    """Return when a clock jumps, and how far."""
    return before * random.random(), direction * random.choice((0.5, 3.0, 20.0, 100.0))


def _draw_item(random: Random, has_dead_letter_queue: bool, can_be_poison: bool) -> Item:
    trouble = random.choices((0, 1, 2, 3, FOREVER if can_be_poison else 3), (80, 10, 4, 3, 3))[0]
    return Item(
        sent_at=0.0 if random.random() < 0.8 else 20 * random.random(),
        trouble=trouble,
        is_rejected=random.random() < 0.03,
        is_undecodable=has_dead_letter_queue and random.random() < 0.02,
    )
