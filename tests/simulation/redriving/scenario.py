"""What a seed stands for: the messages to move, how they are moved, and what goes wrong when."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from airflow_provider_cfqueues.engines.redriving.options import RedriveOptions
from airflow_provider_cfqueues.models import Consumer, Message
from simulation.scenario import Run, draw_run

TARGET_ID = "3" * 32
LEASE_SECONDS = 600.0


def is_wanted(message: Message) -> bool:
    """Say which messages are moved, where a seed has a ``match``."""
    return bool(message.body["n"] % 4)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """
    All that a seed decides before the start; the rest is drawn as it happens.

    :param count: how many messages there are.
    :param unsendable: those that HTTP cannot send.
    :param runs: the runs, in order.
    :param consumer: of the source.
    :param knows_consumer: whether it can be read.
    :param fault_rate: how likely it is that a request fails.
    :param latency: seconds that a good request takes at the most, each way.
    :param outage: from when to when every request fails.
    """

    count: int
    unsendable: frozenset[int]
    runs: tuple[Run, ...]
    consumer: Consumer
    knows_consumer: bool
    fault_rate: float
    latency: float
    outage: tuple[float, float] | None


def draw(random: Random) -> Scenario:
    """
    Return the scenario of a seed.

    :param random: decides.
    """
    count = random.choice((1, 2, 5, 13, 120, 250))
    options = RedriveOptions(
        match=random.choice((None, None, f"function:{__name__}.is_wanted")),
        messages_per_second=random.choice((None, None, None, 5.0, 40.0)),
        unmatched_delay_seconds=random.choice((5, 300)),
        max_messages=random.choice((None, None, None, 1, 20)),
        max_duration=random.choice((600.0, 600.0, 600.0, 0.5, 10.0)),  # what is not wanted comes again in a long run
        idle_timeout=random.choice((0, 1, 3)),
        visibility_timeout=random.choice((2.0, 10.0, LEASE_SECONDS, LEASE_SECONDS)),
        grace=random.choice((0.0, 0.5, 3.0)),
    )
    has_dead_letter_queue = random.random() < 0.2
    begin = 20 * random.random()
    return Scenario(
        count=count,
        unsendable=frozenset(number for number in range(count) if random.random() < 0.01),
        runs=tuple(draw_run(random, options, count / 20, is_first=n == 0) for n in range(random.choice((1, 2, 3)))),
        consumer=Consumer(
            type="http_pull",
            max_retries=random.choice((1, 2, 3, 4, 100)),
            dead_letter_queue="dead" if has_dead_letter_queue else None,
        ),
        knows_consumer=random.random() < 0.9,
        fault_rate=random.choice((0, 0.02, 0.1, 0.3)),
        latency=random.choice((0.0, 0.02, 0.1, 1.0)),
        outage=(begin, begin + 100 * random.random()) if random.random() < 0.2 else None,
    )
