"""What a seed stands for: the queue, its watchers, the triggerers that run them, and what goes wrong when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from airflow_provider_cfqueues.engines.watching.options import DOUBT
from airflow_provider_cfqueues.models import Consumer
from simulation.scenario import draw_jump
from simulation.watching.matches import KINDS, LARGEST_EVENT, MATCHES

ACK_TIMEOUT = 20.0
"""``[triggerer] shared_stream_ack_timeout``: with the default of 300 s, seeds would take far longer."""
GUESSED_SECONDS = 6.0
"""What watchers that do not know their DAGs wait for a run."""


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """
    A watcher, as a DAG has it.

    :param match: which of ``MATCHES`` it wants.
    :param conn_id: watchers with the same one share a stream.
    :param is_small: events of its stream may not be large.
    :param appears_at: when its DAG appears.
    :param vanishes_at: when it is paused: its trigger row is deleted.
    :param asset: whose watcher it is.
    :param dag_ids: the DAGs on its asset, where it was told.
    """

    match: str
    asset: str = "asset"
    dag_ids: tuple[str, ...] | None = None
    conn_id: str = "sim"
    settle: str = "event"
    unmatched: str = "retry"
    delay_seconds: int | None = 5
    include_body: bool = True
    is_small: bool = False
    batch_size: int = 100
    visibility_timeout: float = 225.0
    poll_interval: float = 1.0
    max_poll_interval: float = 10.0
    max_in_flight: int | None = None
    appears_at: float = 0.0
    vanishes_at: float | None = None

    def kwargs(self) -> dict[str, Any]:
        """Return the arguments of its trigger."""
        return {
            "queue_name": "orders",
            "cloudflare_conn_id": self.conn_id,
            "match": MATCHES[self.match],
            "max_event_bytes": LARGEST_EVENT if self.is_small else 100_000,
            "settle": self.settle,
            "unmatched": self.unmatched,
            "delay_seconds": self.delay_seconds,
            "include_body": self.include_body,
            "batch_size": self.batch_size,
            "visibility_timeout": self.visibility_timeout,
            "poll_interval": self.poll_interval,
            "max_poll_interval": self.max_poll_interval,
            "max_in_flight": self.max_in_flight,
            "dag_ids": self.dag_ids and list(self.dag_ids),
            "run_seconds": GUESSED_SECONDS,
        }


@dataclass(frozen=True, kw_only=True)
class Life:
    """
    The life of one triggerer.

    :param crashes_after_steps: ``kill -9`` after so many callbacks of its loop: between any two awaits.
    :param ends_after_seconds: told to end after so many seconds.
    :param killed_after: and killed so many seconds later, where it still runs.
    :param cancels: after so many steps, one of its watchers is cancelled, and begun again a second later.
    :param cancels_at_event: how likely it is that a watcher is cancelled between its yield and the binding.
    :param starts_after: seconds after the one before it ended.
    """

    crashes_after_steps: int | None = None
    ends_after_seconds: float | None = None
    killed_after: float = 10.0
    cancels: tuple[int, ...] = ()
    cancels_at_event: float = 0.0
    starts_after: float = 0.0
    skew: float = 0.0
    jump: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Item:
    """
    A message.

    :param kind: one of ``KINDS``.
    :param sent_at: when it is sent.
    """

    kind: str
    sent_at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """
    All that a seed decides before the start; the rest is drawn as it happens.

    :param items: the messages.
    :param watchers: the watchers.
    :param lives: the triggerers, one after another; the last one runs until the queue is drained.
    :param has_dead_letter_queue: whether the consumer has one.
    :param max_retries: of the consumer.
    :param knows_consumer: whether the consumer's settings could be looked at.
    :param subscriber_queue_size: ``[triggerer] shared_stream_subscriber_queue_size``.
    :param grace_period: ``[triggerer] shared_stream_cohort_grace_period``.
    :param fault_rate: how likely it is that a request fails.
    :param latency: seconds that a good request takes at the most, each way.
    :param outage: from when to when every request fails.
    :param broker_jumps: the moments and seconds by which the broker's clock jumps forward.
    :param log_seconds: how long the triggerer's log takes at the most.
    :param store_seconds: how long it takes at the most to store an event.
    :param store_fault_rate: how likely it is that an event is not stored, or its confirmation is lost.
    :param database_away: from when, for how long, and whether the triggerer waits for it instead of ending.
    :param dags: the assets of each DAG; any of them starts a run.
    :param pass_seconds: how long the scheduler takes at the most to come to a DAG.
    :param run_seconds: how long a run takes at the most.
    :param max_active_runs: how many runs of a DAG there may be.
    :param scheduler_away: from when and for how long the scheduler does nothing.
    """

    items: tuple[Item, ...]
    watchers: tuple[Watcher, ...]
    lives: tuple[Life, ...]
    has_dead_letter_queue: bool
    max_retries: int
    knows_consumer: bool
    subscriber_queue_size: int
    grace_period: float
    fault_rate: float
    latency: float
    outage: tuple[float, float] | None
    broker_jumps: tuple[tuple[float, float], ...]
    log_seconds: float
    store_seconds: float
    store_fault_rate: float
    database_away: tuple[float, float, bool] | None
    dags: dict[str, tuple[str, ...]]
    pass_seconds: float
    run_seconds: float
    max_active_runs: int
    scheduler_away: tuple[float, float] | None

    @property
    def consumer(self) -> Consumer:
        """The queue's consumer."""
        dead_letter_queue = "dead" if self.has_dead_letter_queue else None
        return Consumer(type="http_pull", max_retries=self.max_retries, dead_letter_queue=dead_letter_queue)

    @property
    def has_one_stream(self) -> bool:
        """Whether all watchers share one stream."""
        return len({watcher.conn_id for watcher in self.watchers}) == 1

    def pulls_nothing(self, watcher: Watcher) -> bool:
        """Return whether a watcher refuses a queue that would delete what it does not want."""
        is_kept = self.has_dead_letter_queue or watcher.unmatched in ("ack", "retry")
        return MATCHES[watcher.match] is not None and not is_kept

    def is_sure_of_runs(self, watcher: Watcher) -> bool:
        """
        Return whether each message that a watcher acks must be in a run.

        :param watcher: the watcher.
        """
        guess = DOUBT * GUESSED_SECONDS
        _, away = self.scheduler_away or (0.0, 0.0)
        if self.pass_seconds + self.run_seconds + away < guess:
            return True
        # What counts runs must get an answer; what another triggerer left behind is known of for a while only.
        has_answers = not self.store_fault_rate and self.database_away is None
        return bool(watcher.dag_ids) and has_answers and (away < guess or len(self.lives) == 1)

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong, so that nothing may come twice."""
        return (
            len(self.lives) == 1
            and self.has_one_stream
            and not self.lives[0].cancels
            and not self.lives[0].cancels_at_event
            and self.lives[0].jump is None
            and not (self.fault_rate or self.outage or self.broker_jumps or self.store_fault_rate)
            and self.database_away is None
            and all(watcher.appears_at == 0 and watcher.vanishes_at is None for watcher in self.watchers)
        )


def draw(random: Random) -> Scenario:
    """
    Return the scenario of a seed.

    :param random: decides.
    """
    is_calm = random.random() < 0.15
    is_in_trouble = 0 if is_calm else 1
    count = random.choice((1, 2, 3, 5, 8, 13)) if random.random() < 0.99 else random.choice((30, 101))
    size = random.choice((4, 16, 1024)) if count < 10 else random.choice((16, 1024))
    watchers, dags = _draw_dags(random, _draw_watchers(random, count, is_calm=is_calm))
    is_slow = random.random() < 0.2
    lives = [_draw_life(random) for _ in range(random.choice((0, 0, 1, 1, 2)) * is_in_trouble)]
    scenario = Scenario(
        items=tuple(_draw_item(random) for _ in range(count)),
        watchers=watchers,
        lives=(
            *lives,
            Life() if is_calm else replace(_draw_life(random), crashes_after_steps=None, ends_after_seconds=None),
        ),
        has_dead_letter_queue=random.random() < 0.6,
        max_retries=random.randint(2, 5) if random.random() < 0.2 else 100,
        knows_consumer=random.random() < 0.9,
        subscriber_queue_size=size,
        grace_period=random.choice((0.0, 0.0, 0.0, 3.0)),
        fault_rate=is_in_trouble * random.choice((0, 0.02, 0.1, 0.3)),
        latency=random.choice((0.0, 0.02, 0.1, 1.0)),
        outage=(begin := 30 * random.random(), begin + 100 * random.random())
        if is_in_trouble and random.random() < 0.1
        else None,
        broker_jumps=tuple(draw_jump(random, before=40) for _ in range(2 * is_in_trouble) if random.random() < 0.07),
        log_seconds=random.choice((0.0, 0.001, 0.1)) if is_calm else random.choice((0.0, 0.01, 0.3, 3.0)),
        store_seconds=0.01 if is_calm else random.choice((0.01, 0.01, 0.1, 2.0)),
        store_fault_rate=is_in_trouble * random.choice((0, 0, 0.02, 0.1)),
        database_away=(30 * random.random(), random.choice((1.0, 10.0, 40.0)), random.random() < 0.5)
        if is_in_trouble and random.random() < 0.15
        else None,
        dags=dags,
        pass_seconds=random.choice((0.1, 1.0, 5.0)),
        run_seconds=random.choice((1.0, 20.0)),
        max_active_runs=random.choice((1, 2)) if is_slow else 100,
        scheduler_away=(30 * random.random(), 20 * random.random()) if is_slow and random.random() < 0.5 else None,
    )
    return _slow_down(scenario) if is_slow and scenario.pass_seconds == 5 else scenario


def _slow_down(scenario: Scenario) -> Scenario:
    """Let runs take longer than the guess, and messages come as late. It draws nothing: other seeds stay the same."""
    begin, seconds = scenario.scheduler_away or (0.0, 0.0)
    return replace(
        scenario,
        items=tuple(replace(item, sent_at=3 * item.sent_at) for item in scenario.items),
        run_seconds=4.5 * scenario.run_seconds,
        scheduler_away=(begin, 5 * seconds) if seconds else None,
    )


def _draw_dags(random: Random, watchers: tuple[Watcher, ...]) -> tuple[tuple[Watcher, ...], dict[str, tuple[str, ...]]]:
    """Let each watcher's asset start a DAG of its own, two, or the one of the watcher before as well."""
    dags: dict[str, tuple[str, ...]] = {}
    known = random.random() < 0.6
    named = [replace(watcher, asset=f"asset{number}") for number, watcher in enumerate(watchers, 1)]
    for number, watcher in enumerate(named, 1):
        kind = random.choices(("one", "two", "shared"), (70, 15, 15))[0]
        dags[f"dag{number}"] = (watcher.asset, named[number - 2].asset) if kind == "shared" else (watcher.asset,)
        if kind == "two":
            dags[f"dag{number}b"] = (watcher.asset,)
    told = [
        replace(watcher, dag_ids=tuple(dag for dag, assets in dags.items() if watcher.asset in assets))
        if known or random.random() < 0.2
        else watcher
        for watcher in named
    ]
    return tuple(told), dags


def _draw_watchers(random: Random, count: int, *, is_calm: bool) -> tuple[Watcher, ...]:
    first = Watcher(
        match="all",
        settle="task" if random.random() < 0.15 else "event",
        unmatched=random.choice(("retry", "retry", "dead_letter", "ack")),
        delay_seconds=random.choice((0, 5, 30, None)),
        batch_size=random.choice((1, 3, 10, 100)) if count < 10 else random.choice((10, 100)),
        visibility_timeout=random.choice((225.0, 235.0, 300.0)),
        is_small=random.random() < 0.3,
        poll_interval=random.choice((1.0, 3.0)),
        max_poll_interval=random.choice((20.0, 60.0)),
        max_in_flight=random.choice((None, None, 1, 3)) if count < 6 else None,
    )
    return tuple(_draw_watcher(random, first, is_first=n == 0, is_calm=is_calm) for n in range(random.randint(1, 4)))


def _draw_watcher(random: Random, first: Watcher, *, is_first: bool, is_calm: bool) -> Watcher:
    is_other = not is_first and random.random() < 0.2
    return replace(
        first,
        match=random.choice(tuple(MATCHES)),
        conn_id="sim" if is_calm or random.random() < 0.85 else "sim2",
        settle=("task" if first.settle == "event" else "event") if is_other else first.settle,
        unmatched=random.choice(("retry", "dead_letter", "ack")) if is_other else first.unmatched,
        batch_size=random.choice((5, 100)) if is_other else first.batch_size,
        include_body=random.random() < 0.8,
        appears_at=0.0 if is_calm or is_first or random.random() < 0.7 else 40 * random.random(),
        vanishes_at=None if is_calm or random.random() < 0.8 else 60 * random.random(),
    )


def _draw_life(random: Random) -> Life:
    at_step = random.random() < 0.7
    return Life(
        crashes_after_steps=int(10 ** (1 + 2.2 * random.random())) if at_step else None,
        ends_after_seconds=None if at_step else 120 * random.random(),
        killed_after=random.choice((0.5, 5.0, 10.0, 20.0)),
        cancels=tuple(sorted(int(10 ** (1 + 2 * random.random())) for _ in range(random.choice((0, 0, 1, 3))))),
        cancels_at_event=random.choice((0.0, 0.0, 0.05, 0.3)),
        starts_after=random.choice((0.0, 1.0, 30 * random.random())),
        skew=random.choice((0.0, -3600.0, 0.7, 86_400.0)),
        jump=draw_jump(random, random.choice((-1, 1)), before=40) if random.random() < 0.07 else None,
    )


def _draw_item(random: Random) -> Item:
    return Item(
        kind=random.choices(KINDS, (40, 25, 15, 6, 6, 8))[0],
        sent_at=0.0 if random.random() < 0.6 else 40 * random.random(),
    )
