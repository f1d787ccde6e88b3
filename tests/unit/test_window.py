"""How many messages the engine asks for, and when it looks at an empty queue again."""

from __future__ import annotations

import pytest

from airflow_provider_cfqueues.engines.processing.options import Options, choose_visibility_timeout
from airflow_provider_cfqueues.engines.processing.window import MAX_OPEN_BYTES, MAX_WINDOW, Window
from airflow_provider_cfqueues.engines.waiting import Idling
from airflow_provider_cfqueues.models import Message


def messages(count, body="x"):
    return [Message(id=str(n), lease_id=str(n), body=body, raw_body=body) for n in range(count)]


def test_the_first_pull_asks_for_one_round_of_the_handlers():
    assert Window(Options(concurrency=4)).sizes() == [4]
    assert Window(Options(concurrency=3, batch_size=50)).sizes() == [100, 50]


def test_a_known_pace_opens_the_window_to_a_quarter_of_the_lease():
    options = Options(concurrency=2, visibility_timeout=300, expected_seconds_per_message=1)
    assert Window(options).sizes() == [100, 50]
    assert Window(Options(expected_seconds_per_message=1e-9)).size == MAX_WINDOW


@pytest.mark.parametrize(
    ("seconds", "batch_size", "lease"),
    [(None, 9, 300), (1, None, 60), (30, None, 120), (30, 10, 1_200), (1e9, 1, 43_200)],
)
def test_a_lease_is_four_times_as_long_as_a_batch_takes(seconds, batch_size, lease):
    assert choose_visibility_timeout(seconds, batch_size) == lease


def test_nothing_is_asked_for_until_half_the_window_is_free():
    window = Window(Options(concurrency=10))
    window.take_in(messages(3))
    window.take_in(messages(3))
    assert window.sizes() == []
    window.close(1)
    assert window.sizes() == [5]


def test_what_is_asked_for_counts_as_open():
    window = Window(Options(concurrency=10))
    window.begin(10)
    assert window.sizes() == []


def test_no_more_is_asked_for_than_max_messages():
    window = Window(Options(concurrency=10, max_messages=12))
    window.take_in(messages(7))
    window.close(7)
    window.begin(2)
    assert window.sizes() == [3]
    assert not window.is_spent
    window.begin(3)
    assert window.is_spent


def test_large_bodies_stop_the_pulls_until_they_are_handled():
    window = Window(Options(concurrency=10))
    [large] = messages(1, "x" * (MAX_OPEN_BYTES // 2 + 1))
    window.take_in([large])
    window.take_in([large])
    assert window.sizes() == []
    window.handled(large)
    assert window.sizes() == [8]


def test_what_is_asked_for_counts_as_large_as_what_came_before():
    window = Window(Options(concurrency=10_000))
    window.begin(sum(window.sizes()))
    assert window.requested == MAX_OPEN_BYTES // 128_000  # nothing is known yet: the largest that Cloudflare takes
    window.end(window.requested)
    large = messages(100, "x" * 100_000)
    window.take_in(large)
    assert sum(window.sizes()) == 540
    window.begin(500)
    assert window.sizes() == []
    for message in large:
        window.handled(message)
    assert sum(window.sizes()) == 140


@pytest.mark.parametrize(("seconds_per_message", "size"), [(None, 40), (0.001, 160), (5, 15), (1000, 10)])
def test_the_window_grows_while_handlers_wait_as_far_as_their_pace_allows(seconds_per_message, size):
    window = Window(Options(concurrency=10, visibility_timeout=30))
    window.adapt(starving=True, seconds_per_message=seconds_per_message)
    assert window.size == size


def test_an_empty_queue_is_looked_at_ever_less_often_until_the_time_out():
    idling = Idling(5, 1)
    assert not idling.is_idle
    assert idling.seconds_left(100) is None
    idling.answered(0, 100)
    assert idling.is_idle
    assert idling.is_early(100.9)
    assert not idling.is_early(101)
    idling.answered(0, 101)
    assert idling.seconds_left(101) == 2
    idling.answered(0, 103)
    assert idling.seconds_left(103) == 2  # a last look when the time is up, not after four seconds
    assert not idling.is_over(105)
    idling.answered(0, 105.1)
    assert idling.is_over(105.1)


def test_without_a_time_out_an_empty_answer_is_the_last_look():
    idling = Idling(0, 1)
    idling.answered(0, 100)
    assert idling.is_over(100)


def test_an_end_can_be_put_off_to_a_look_at_a_moment():
    idling = Idling(1, 1)
    idling.not_before(130)
    for now in (100, 101, 103, 107, 115):
        idling.answered(0, now)
        assert not idling.is_over(now)
    assert idling.seconds_left(115) == 15
    idling.answered(0, 130)
    assert idling.is_over(130)


def test_a_message_ends_idleness_and_the_waits_begin_anew():
    idling = Idling(None, 1)
    for now in (100, 101, 103):
        idling.answered(0, now)
    idling.answered(1, 107)
    assert not idling.is_idle
    assert not idling.is_over(10_000)
    idling.answered(0, 200)
    assert idling.seconds_left(200) == 1


def test_pulls_that_find_the_queue_empty_at_once_are_one_look():
    idling = Idling(5, 1)
    for _ in range(40):
        idling.answered(0, 100)
    assert idling.seconds_left(100) == 1
    idling.answered(0, 101)
    assert idling.seconds_left(101) == 2
