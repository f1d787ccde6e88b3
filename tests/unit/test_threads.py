"""The threads of sync handlers."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_cfqueues.engines.threads import DaemonThreads, run_beside


@pytest.fixture
def pool():
    pool = DaemonThreads(2, "pool")
    yield pool
    pool.end()


def test_what_a_call_returns_or_raises_is_in_its_future(pool):
    assert pool.submit(max, [3, 1], key=lambda value: -value).result() == 1
    assert isinstance(pool.submit(int, "x").exception(), ValueError)


def test_no_more_threads_than_asked_for_are_started_and_idle_ones_are_used_again(pool):
    both = threading.Barrier(2, timeout=10)
    waiting = [pool.submit(lambda: (both.wait(), threading.current_thread().name)[1]) for _ in range(4)]
    names = [future.result() for future in waiting]
    assert {*names} == {"pool_0", "pool_1"}
    assert pool.submit(lambda: threading.current_thread().name).result() in names


def test_a_shutdown_can_cancel_what_did_not_begin():
    pool = DaemonThreads(1, "pool")
    go, began = threading.Event(), threading.Event()
    first = pool.submit(lambda: (began.set(), go.wait(10))[1])
    began.wait(10)
    second = pool.submit(lambda: None)
    pool.end(cancel=True)
    assert second.cancelled()
    go.set()
    pool.end()
    assert first.result() is True


def test_its_threads_are_not_waited_for_at_the_end_of_the_process(pool):
    assert pool.submit(lambda: threading.current_thread().daemon).result()


def test_a_loop_beside_the_main_thread_is_not_waited_for_at_the_end_of_the_process():
    async def work():
        seen.append(threading.current_thread().daemon)

    seen = []
    run_beside(work(), stop=pytest.fail)
    assert seen == [True]
