"""Each message of a watcher is in a run, of a scheduler that makes one of the events up to the first one only."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("airflow.triggers.shared_stream", reason="shared streams came with Airflow 3.3")

from airflow.sdk.execution_time import task_runner
from jumping_time import run, until
from watchers import Runs, Triggerer

from airflow_provider_cfqueues._compat.events import ASSET_MANAGER


@pytest.fixture
def cf(cf):
    cf.create_queue("orders")
    return cf


@pytest.fixture
def queue(cf):
    return cf.queues["orders"]


@pytest.fixture
def watch(monkeypatch):
    """Start a triggerer with one watcher, whose asset two DAGs are scheduled on."""

    def start(**arguments):
        triggerer = Triggerer()
        watcher = triggerer.watch(**{"queue_name": "orders", **arguments})
        runs = Runs(triggerer, {"ship": [watcher], "bill": [watcher]})
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", runs, raising=False)
        return triggerer, watcher, runs

    return start


def leased_or_waiting(cf, name="orders"):
    return [message for queue in cf.state()["queues"] if queue["name"] == name for message in queue["messages"]]


LONG_AFTER_START = 120
"""Seconds: in these tests, ten times ``run_seconds`` have passed then."""


async def send_while_a_run_is_awaited(cf, queue, triggerer, watcher):
    """Send one message long after the start, and two more once its event is stored."""
    await asyncio.sleep(LONG_AFTER_START)
    cf.send(queue, 1)
    await until(lambda: triggerer.events[watcher])
    cf.send(queue, 2)
    cf.send(queue, 3)


def test_with_dag_ids_the_next_event_waits_for_the_runs_of_the_last(cf, queue, watch):
    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship", "bill"])
        await send_while_a_run_is_awaited(cf, queue, triggerer, watcher)
        await until(lambda: not leased_or_waiting(cf))
        await asyncio.sleep(300)
        await triggerer.stop()
        return runs

    runs = run(scenario())
    assert runs.messages("ship") == runs.messages("bill") == [[1], [2, 3]]


def test_with_dag_ids_a_message_is_acked_once_its_run_is_there(cf, queue, watch, logged):
    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship"])
        runs.is_away = True
        cf.send(queue, 1)
        await until(lambda: triggerer.events[watcher])
        await asyncio.sleep(40)
        before = len(leased_or_waiting(cf))
        runs.error = RuntimeError("no database")
        await asyncio.sleep(5)
        runs.is_away, runs.error = False, None
        runs.pass_once()
        await until(lambda: not leased_or_waiting(cf))
        await triggerer.stop()
        return before

    assert run(scenario()) == 1
    text = logged()
    assert "Queue orders: 1 message acked, 0 given back" in text
    assert text.count("Could not ask Airflow how many runs the DAGs ['ship'] have: no database. Asking again") == 1


def test_with_dag_ids_a_message_is_acked_after_a_minute_though_its_run_is_not_there(cf, queue, watch):
    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship"])
        runs.is_away = True
        cf.send(queue, 1)
        await until(lambda: triggerer.events[watcher])
        await asyncio.sleep(70)
        left = leased_or_waiting(cf)
        await triggerer.stop()
        return left

    assert run(scenario()) == []


def test_a_watcher_that_is_removed_before_the_run_is_there_gives_its_messages_back(cf, queue, watch, logged):
    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship"])
        runs.is_away = True
        cf.send(queue, 1)
        await until(lambda: triggerer.events[watcher])
        await asyncio.sleep(5)
        await triggerer.cancel(watcher)

    run(scenario())
    assert [message["state"] for message in leased_or_waiting(cf)] == ["delayed"]
    assert "Giving back 1 message of queue orders, because no run is known to have the event" in logged()


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside another"])
def test_the_event_of_a_watcher_whose_row_is_gone_acks_nothing(cf, queue, watch, logged, others):
    """Airflow confirms such an event, though it belongs to no asset any more."""

    async def scenario():
        triggerer, watcher, _ = watch()
        for _ in range(others):
            triggerer.watch(queue_name="orders")
        await asyncio.sleep(LONG_AFTER_START)
        triggerer.remove(watcher)
        cf.send(queue, 1)
        await until(lambda: "Giving back 1 message of queue orders, because no run is known" in logged())
        await until(lambda: leased_or_waiting(cf)[0]["state"] == "delayed")
        await triggerer.stop()
        return leased_or_waiting(cf)

    assert [message["body"] for message in run(scenario())] == [1]


def test_a_message_of_a_watcher_that_is_removed_before_the_run_is_there_is_not_acked_for_another(
    cf, queue, watch, logged
):
    async def scenario():
        triggerer, shipping, runs = watch(dag_ids=["ship"])
        billing = triggerer.watch(queue_name="orders", dag_ids=["bill"])
        runs.is_away = True
        cf.send(queue, 1)
        await until(lambda: triggerer.events[shipping] and triggerer.events[billing])
        await asyncio.sleep(5)
        await triggerer.cancel(shipping)
        await asyncio.sleep(70)
        states = [message["state"] for message in leased_or_waiting(cf)]
        await triggerer.stop()
        return states

    assert run(scenario()) == ["delayed"]
    assert "Giving back 1 message of queue orders, because no run is known to have the event" in logged()


def test_a_dag_that_makes_no_runs_is_named_and_holds_up_the_others_once(cf, queue, watch, logged):
    async def scenario():
        triggerer, _, runs = watch(dag_ids=["ship", "paused"])
        runs.of["paused"] = []
        for number in range(3):
            cf.send(queue, number)
            await until(lambda number=number: len(runs.messages("ship")) > number)
        began = asyncio.get_running_loop().time()
        cf.send(queue, 3)
        await until(lambda: len(runs.messages("ship")) > 3)
        seconds = asyncio.get_running_loop().time() - began
        await asyncio.sleep(300)
        await triggerer.stop()
        return seconds, runs.messages("ship")

    seconds, messages = run(scenario())
    assert seconds < 100
    assert messages[-2:] == [[3], []]  # nobody knows whether the run of the last event is there
    assert logged().count("DAG paused created no run within 300 s after an event") == 1


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_dag_is_waited_for_as_long_as_a_run_of_it_is_active(cf, queue, watch, logged, state):
    async def scenario():
        triggerer, _, runs = watch(dag_ids=["busy"])
        runs.of["busy"], runs.active["busy"] = [], state
        cf.send(queue, 1)
        await asyncio.sleep(600)
        before = logged()
        runs.active.clear()
        await asyncio.sleep(310)
        await triggerer.stop()
        return before

    assert "created no run" not in run(scenario())
    assert "DAG busy created no run within 300 s after an event" in logged()


def test_where_airflow_does_not_say_how_many_runs_there_are_events_wait_for_run_seconds(cf, queue, watch, logged):
    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship"], run_seconds=10)
        runs.error = RuntimeError("no database")
        await send_while_a_run_is_awaited(cf, queue, triggerer, watcher)
        await asyncio.sleep(300)
        await triggerer.stop()
        return runs

    assert run(scenario()).messages("ship") == [[1], [2, 3], []]
    assert "how many runs the DAGs ['ship'] have: no database. Waiting run_seconds instead" in logged()


def test_without_dag_ids_the_next_event_waits_and_is_closed_by_one_without_messages(cf, queue, watch):
    async def scenario():
        triggerer, watcher, runs = watch(run_seconds=10)
        await send_while_a_run_is_awaited(cf, queue, triggerer, watcher)
        await asyncio.sleep(300)
        await triggerer.stop()
        return runs

    assert run(scenario()).messages("ship") == [[1], [2, 3], []]


def test_a_lone_message_starts_one_run_and_no_other(cf, queue, watch):
    async def scenario():
        triggerer, _, runs = watch()
        await asyncio.sleep(LONG_AFTER_START)
        for number in range(2):
            cf.send(queue, number)
            await asyncio.sleep(300)
        await triggerer.stop()
        return runs

    assert run(scenario()).messages("ship") == [[0], [1]]


def test_without_dag_ids_an_event_soon_after_the_start_is_closed_as_well(cf, queue, watch):
    """Another triggerer may have sent an event just before, which this one cannot know of."""

    async def scenario():
        triggerer, watcher, _ = watch()
        cf.send(queue, 1)
        await until(lambda: triggerer.events[watcher])
        await asyncio.sleep(20)
        before = [message["state"] for message in leased_or_waiting(cf)]
        await until(lambda: not leased_or_waiting(cf))
        await triggerer.stop()
        return before, [len(payload["messages"]) for payload in triggerer.events[watcher]]

    assert run(scenario()) == (["leased"], [1, 0])


def test_an_event_without_messages_takes_along_what_a_slow_scheduler_left_behind(cf, queue, watch):
    async def scenario():
        triggerer, watcher, runs = watch(run_seconds=10)
        runs.is_away = True
        await send_while_a_run_is_awaited(cf, queue, triggerer, watcher)
        await until(lambda: len(triggerer.events[watcher]) == 2)
        runs.is_away = False
        runs.pass_once()
        left_behind = runs.messages("ship")
        await asyncio.sleep(300)
        await triggerer.stop()
        return left_behind, runs.messages("ship")

    assert run(scenario()) == ([[1]], [[1], [2, 3]])


def test_a_message_whose_run_is_in_doubt_is_acked_once_the_closing_event_is_stored(cf, queue, watch, logged):
    async def scenario():
        triggerer, watcher, runs = watch(run_seconds=10)
        runs.is_away = True
        await send_while_a_run_is_awaited(cf, queue, triggerer, watcher)
        await until(lambda: len(triggerer.events[watcher]) == 2)
        await asyncio.sleep(80)
        before = [message["state"] for message in leased_or_waiting(cf)]
        await until(lambda: len(triggerer.events[watcher]) == 3)
        await until(lambda: not leased_or_waiting(cf))
        await triggerer.stop()
        return before

    assert run(scenario()) == ["leased", "leased"]
    assert "delivered again" not in logged()


@pytest.mark.parametrize("arguments", [{}, {"dag_ids": ["ship"]}], ids=["unknown DAGs", "Airflow does not answer"])
@pytest.mark.parametrize("end", ["stop", "cancel"])
def test_what_ends_before_the_closing_event_is_stored_gives_messages_in_doubt_back(
    cf, queue, watch, logged, end, arguments
):
    async def scenario():
        triggerer, watcher, runs = watch(**arguments)
        cf.send(queue, 0)
        await until(lambda: triggerer.events[watcher] and not leased_or_waiting(cf))
        runs.is_away, runs.error = True, RuntimeError("no database")
        cf.send(queue, 1)
        await until(lambda: len(triggerer.events[watcher]) == 2)
        await asyncio.sleep(20)
        await (triggerer.stop() if end == "stop" else triggerer.cancel(watcher))

    run(scenario())
    assert [message["state"] for message in leased_or_waiting(cf)] == ["delayed"]
    assert "Giving back 1 message of queue orders, because no run is known to have the event" in logged()


def test_a_closing_event_that_is_not_stored_acks_nothing(cf, queue, watch):
    async def scenario():
        triggerer, watcher, _ = watch(run_seconds=1)
        await send_while_a_run_is_awaited(cf, queue, triggerer, watcher)
        await until(lambda: len(triggerer.events[watcher]) == 2)
        triggerer.stores = False
        await asyncio.sleep(400)
        states = [message["state"] for message in leased_or_waiting(cf)]
        await triggerer.stop()
        return states

    assert run(scenario()) == ["delayed", "delayed"]


def test_in_a_long_burst_a_late_event_closes_the_early_ones(cf, queue, watch):
    """The stream goes on while acks wait, and what is acked is in a run even if the watcher never closes anything."""

    async def scenario():
        triggerer, watcher, runs = watch(run_seconds=10, max_poll_interval=1)
        in_queue = []
        await asyncio.sleep(LONG_AFTER_START)
        for number in range(20):
            cf.send(queue, number)
            await until(lambda number=number: number in triggerer.bodies(watcher))
            in_queue.append(len(leased_or_waiting(cf)))
        await triggerer.stop()
        return in_queue, triggerer.events[watcher], runs.messages("ship")

    in_queue, events, messages = run(scenario())
    assert all(payload["messages"] for payload in events)
    assert in_queue[8] == 8  # all but the first, which nothing was before
    assert 8 <= max(in_queue) <= 12  # those of the last hundred seconds
    assert [body for bodies in messages for body in bodies][:8] == [*range(8)]


def test_messages_that_wait_for_a_closing_event_are_in_flight(cf, queue, watch):
    async def scenario():
        triggerer, watcher, _ = watch(run_seconds=10, max_in_flight=2, max_poll_interval=1)
        await send_while_a_run_is_awaited(cf, queue, triggerer, watcher)
        await until(lambda: len(triggerer.events[watcher]) == 2)
        cf.send(queue, 4)
        await asyncio.sleep(90)
        before = sorted(message["state"] for message in leased_or_waiting(cf))
        await until(lambda: 4 in triggerer.bodies(watcher))
        await triggerer.stop()
        return before

    assert run(scenario()) == ["leased", "leased", "ready"]


def test_the_closing_event_of_a_patient_watcher_is_not_forgotten_for_that_of_another(cf, queue, watch):
    async def scenario():
        triggerer, quick, _ = watch(run_seconds=1, match="literal:early", unmatched="ack")
        patient = triggerer.watch(queue_name="orders", run_seconds=20, match="literal:late", unmatched="ack")
        for number in range(2):
            cf.send(queue, "late")
            await until(lambda number=number: len(triggerer.events[patient]) > number)
        for number in range(2):
            cf.send(queue, "early")
            await until(lambda number=number: len(triggerer.events[quick]) > number)
        await asyncio.sleep(300)
        await triggerer.stop()
        return triggerer.events[patient]

    assert [len(payload["messages"]) for payload in run(scenario())] == [1, 1, 0]


def test_where_the_asset_manager_is_set_no_event_waits(cf, queue, watch, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__ASSET_MANAGER_CLASS", ASSET_MANAGER)

    async def scenario():
        triggerer, watcher, _ = watch(run_seconds=200)
        await send_while_a_run_is_awaited(cf, queue, triggerer, watcher)
        await until(lambda: not leased_or_waiting(cf))
        await triggerer.stop()
        return asyncio.get_running_loop().time(), triggerer.bodies(watcher)

    began = run(_time())
    ended, bodies = run(scenario())
    assert ended - began < LONG_AFTER_START + 100
    assert bodies == [1, 2, 3]


async def _time():
    return asyncio.get_running_loop().time()


def test_a_watcher_that_starts_waits_for_the_run_of_an_event_that_was_made_just_before(cf, queue, watch):
    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship"], run_seconds=10)
        runs.pass_seconds = 8
        cf.send(queue, 1)
        await until(lambda: triggerer.events[watcher])
        await triggerer.cancel(watcher)
        again = triggerer.watch(queue_name="orders", dag_ids=["ship"], run_seconds=10)
        runs.watch_too(again)
        cf.send(queue, 2)
        await until(lambda: triggerer.events[again])
        await asyncio.sleep(30)
        await triggerer.stop()
        return runs

    assert run(scenario()).messages("ship") == [[1], [2]]


def test_a_run_that_a_watcher_left_behind_is_not_taken_for_that_of_another_watcher(cf, queue, watch):
    """Two queues feed one DAG, and the watcher of one is removed before its run is there."""
    cf.create_queue("returns")
    returns = cf.queues["returns"]

    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship"])
        other = triggerer.watch(queue_name="returns", dag_ids=["ship"])
        runs.watch_too(other)
        runs.is_away = True
        cf.send(queue, 1)
        await until(lambda: triggerer.events[watcher])
        await triggerer.cancel(watcher)
        triggerer.takes.clear()
        cf.send(returns, 2)
        await until(lambda: leased_or_waiting(cf, "returns")[0]["state"] == "leased")
        await asyncio.sleep(5)
        runs.make()  # of the first event, as the second is on its way
        triggerer.takes.set()
        await until(lambda: triggerer.events[other])
        cf.send(returns, 3)
        await until(lambda: len(triggerer.events[other]) == 2)
        runs.make()
        await asyncio.sleep(20)
        before = runs.messages("ship"), len(leased_or_waiting(cf, "returns"))
        runs.is_away = False
        await until(lambda: not leased_or_waiting(cf, "returns"))
        await asyncio.sleep(5)
        await triggerer.stop()
        return before, runs.messages("ship")

    before, after = run(scenario())
    assert before == ([[1], [2]], 2)
    assert after == [[1], [2], [3]]


def test_an_event_that_one_without_messages_overtakes_is_acked_once_another_took_it_along(cf, queue, watch):
    """Two queues feed one DAG. Airflow stores the events of watchers in the order in which it took them over."""
    cf.create_queue("returns")
    returns = cf.queues["returns"]

    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship"], max_poll_interval=1)
        other = triggerer.watch(queue_name="returns", dag_ids=["ship"], max_poll_interval=1)
        runs.watch_too(other)
        await asyncio.sleep(LONG_AFTER_START)
        runs.is_away = True
        cf.send(queue, 1)
        await until(lambda: triggerer.events[watcher])
        cf.send(returns, 2)
        await until(lambda: triggerer.events[other])
        cf.send(queue, 3)
        await asyncio.sleep(40)
        triggerer.held[watcher] = asyncio.Event()
        runs.make()  # now both go on: one watcher with a message, and the other one closes its first event
        await until(lambda: len(triggerer.events[other]) == 2)
        triggerer.held[watcher].set()
        await until(lambda: len(triggerer.events[watcher]) == 2)
        runs.make()
        await asyncio.sleep(10)
        without_run = {1, 2, 3} - {body for bodies in runs.messages("ship") for body in bodies}
        acked = {3} - {message["body"] for message in leased_or_waiting(cf)}
        runs.is_away = False
        await until(lambda: not leased_or_waiting(cf))
        await asyncio.sleep(5)
        await triggerer.stop()
        return without_run, acked, runs.messages("ship")

    without_run, acked, after = run(scenario())
    assert (without_run, acked) == ({3}, set())
    assert sorted(body for bodies in after for body in bodies) == [1, 2, 3]


@pytest.mark.parametrize("wait", [0, LONG_AFTER_START], ids=["soon after the start", "while a run is active"])
def test_the_run_of_an_event_of_another_triggerer_is_not_taken_for_that_of_the_first_event(cf, queue, watch, wait):
    async def first():
        triggerer, watcher, runs = watch(dag_ids=["ship"])
        cf.send(queue, 0)
        await until(lambda: runs.messages("ship") == [[0]] and not leased_or_waiting(cf))
        await asyncio.sleep(LONG_AFTER_START)
        runs.is_away, runs.active["ship"] = True, "running"
        cf.send(queue, 1)
        await until(lambda: len(triggerer.events[watcher]) == 2 and not leased_or_waiting(cf))
        await triggerer.stop()
        return runs

    async def second(runs):
        triggerer = Triggerer()
        runs.follow(triggerer)
        watcher = triggerer.watch(queue_name="orders", dag_ids=["ship"])
        if not wait:
            runs.active.clear()
        await asyncio.sleep(wait)
        cf.send(queue, 2)
        await until(lambda: triggerer.events[watcher])
        runs.make()
        left_behind = runs.messages("ship")
        await asyncio.sleep(10)
        runs.is_away = False
        await asyncio.sleep(120)
        await triggerer.stop()
        return left_behind, runs.messages("ship")

    runs = run(first())
    assert run(second(runs)) == ([[0], [1]], [[0], [1], [2]])


def test_what_was_sent_while_the_scheduler_was_away_for_long_is_taken_along_when_it_is_back(cf, queue, watch):
    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship"])
        await asyncio.sleep(LONG_AFTER_START)
        runs.is_away = True
        cf.send(queue, 1)
        await asyncio.sleep(400)
        cf.send(queue, 2)
        await until(lambda: 2 in triggerer.bodies(watcher) and not leased_or_waiting(cf))
        await asyncio.sleep(1_000)
        runs.is_away = False
        runs.make()
        left_behind = runs.messages("ship")
        await asyncio.sleep(300)
        count = len(triggerer.events[watcher])
        await asyncio.sleep(1_000)
        await triggerer.stop()
        return left_behind, runs.messages("ship"), len(triggerer.events[watcher]) - count

    left_behind, messages, further = run(scenario())
    assert left_behind == [[1]]
    assert messages[:2] == [[1], [2]]
    assert further == 0


def test_messages_that_came_while_a_run_was_awaited_take_along_what_is_in_doubt(cf, queue, watch):
    """A DAG at its ``max_active_runs`` is not given a run without messages before those that have some."""

    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship"])
        runs.deleted, runs.is_away, runs.active["ship"] = -5, True, "running"
        cf.send(queue, 1)
        await until(lambda: triggerer.events[watcher])
        cf.send(queue, 2)
        await asyncio.sleep(100)
        runs.is_away = False
        runs.make()
        await asyncio.sleep(300)
        await triggerer.stop()
        return runs.messages("ship"), leased_or_waiting(cf)

    assert run(scenario()) == ([[1], [2]], [])


def test_an_event_after_one_for_which_airflow_did_not_answer_is_in_doubt(cf, queue, watch):
    async def scenario():
        triggerer, watcher, runs = watch(dag_ids=["ship"], max_poll_interval=1)
        await asyncio.sleep(LONG_AFTER_START)
        runs.is_away, runs.error = True, RuntimeError("no database")
        cf.send(queue, 1)
        await until(lambda: triggerer.events[watcher])
        runs.error = None
        cf.send(queue, 2)
        await until(lambda: 2 in triggerer.bodies(watcher))
        runs.make()
        await asyncio.sleep(5)
        before = runs.messages("ship"), len(leased_or_waiting(cf))
        runs.is_away = False
        await asyncio.sleep(120)
        await triggerer.stop()
        return before, runs.messages("ship"), leased_or_waiting(cf)

    assert run(scenario()) == (([[1]], 2), [[1], [2]], [])


def test_runs_that_are_deleted_meanwhile_do_not_hold_up_the_next_event(cf, queue, watch):
    async def scenario():
        triggerer, _, runs = watch(dag_ids=["ship"])
        for number in range(5):
            cf.send(queue, number)
            await until(lambda number=number: len(runs.messages("ship")) > number)
        runs.is_away, runs.active["ship"] = True, "running"
        cf.send(queue, 5)
        await asyncio.sleep(60)
        runs.deleted = 4
        await asyncio.sleep(60)
        runs.is_away = False
        runs.make()
        cf.send(queue, 6)
        await asyncio.sleep(90)
        await triggerer.stop()
        return runs.messages("ship")

    assert run(scenario())[5:7] == [[5], [6]]


def test_a_burst_of_a_thousand_messages_makes_few_events(cf, queue, watch):
    async def scenario():
        triggerer, watcher, _ = watch(dag_ids=["ship"])
        await until(lambda: len(triggerer.bodies(watcher)) == 1_000)
        await until(lambda: not leased_or_waiting(cf))
        await triggerer.stop()
        return triggerer.events[watcher]

    for number in range(1_000):
        cf.send(queue, {"n": number, "text": "x" * 10_000})
    events = run(scenario())
    assert len(events) <= 20
    assert max(len(json.dumps(payload)) for payload in events) <= 1_048_576
    assert len({message["id"] for payload in events for message in payload["messages"]}) == 1_000


def test_nothing_is_pulled_for_a_watcher_that_cannot_start(cf, queue, watch, logged):
    async def scenario():
        triggerer, _, _ = watch(match="function:no.such.module.function")
        await asyncio.sleep(3_600)
        await triggerer.stop()

    cf.send(queue, 1)
    run(scenario())
    assert [request["path"] for request in cf.requests() if request["path"].endswith("/pull")] == []
    assert "Watching queue orders cannot start, and nothing is pulled for it" in logged()
    assert "no.such.module.function" in logged()


def test_what_a_watcher_might_want_that_cannot_start_is_not_deleted_as_unwanted(cf, queue, watch):
    async def scenario():
        triggerer, _, _ = watch(match="literal:other", unmatched="ack")
        triggerer.watch(queue_name="orders", match="function:no.such.module.function", unmatched="ack")
        await asyncio.sleep(25)
        await triggerer.stop()

    cf.send(queue, 1)
    run(scenario())
    assert [message["state"] for message in leased_or_waiting(cf)] == ["delayed"]


def test_an_event_that_follows_one_without_messages_waits_for_its_run_as_well(cf, queue, watch):
    async def scenario():
        triggerer, watcher, runs = watch(run_seconds=10, max_poll_interval=1)
        runs.pass_seconds = 8
        await send_while_a_run_is_awaited(cf, queue, triggerer, watcher)
        await until(lambda: len(triggerer.events[watcher]) == 3)
        cf.send(queue, 4)
        await until(lambda: len(triggerer.events[watcher]) == 4)
        await asyncio.sleep(50)
        await triggerer.stop()
        return runs

    assert run(scenario()).messages("ship") == [[1], [2, 3], [], [4]]


def test_a_closing_event_takes_along_only_what_came_after_the_run_that_a_dag_owes(cf, queue, watch):
    """Three queues feed one DAG, which is at its ``max_active_runs`` once it has a run of the first event."""
    late = {}

    async def scenario():
        triggerer, _, runs = watch(dag_ids=["ship"], max_poll_interval=1)
        for name in ("returns", "refunds"):
            cf.create_queue(name)
            late[name] = triggerer.watch(queue_name=name, dag_ids=["ship"], max_poll_interval=1)
            triggerer.held[late[name]] = asyncio.Event()
            runs.watch_too(late[name])
        await asyncio.sleep(LONG_AFTER_START)
        cf.send(queue, 1)
        for number, name in enumerate(late, 2):
            cf.send(cf.queues[name], number)
        await until(lambda: runs.messages("ship") == [[1]])
        runs.is_away, runs.active["ship"] = True, "running"
        for name in late:
            triggerer.held[late[name]].set()
        await asyncio.sleep(120)
        runs.make()
        before = runs.messages("ship"), len(leased_or_waiting(cf, "refunds"))
        runs.is_away = False
        await asyncio.sleep(120)
        await triggerer.stop()
        return before, runs.messages("ship"), leased_or_waiting(cf, "refunds")

    before, after, left = run(scenario())
    assert before == ([[1], [2]], 1)
    assert (after[:3], left) == ([[1], [2], [3]], [])
