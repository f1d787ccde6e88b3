"""The journal of QueueProcessOperator: the next try acks what an earlier one had handled."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_cfqueues.engines.processing.journal import MAX_MESSAGES, Journal
from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import Kind, Situation
from airflow_provider_cfqueues.exceptions import PermissionDeniedError, ProcessingFailedError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.models import Message
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator
from airflow_provider_cfqueues.outcomes import Reject, Retry

QUEUES = ["orders", "failed"]

AIRFLOW_WARNS_ABOVE = 65_535
REFUSED = {"status": 403, "body": {"success": False, "errors": []}}


class Store:
    """Airflow's task_state_store, without Airflow: JSON values by key."""

    def __init__(self):
        self.values, self.writes, self.error = {}, [], None

    def _call(self):
        assert threading.current_thread().name.startswith("cloudflare-queue-journal")
        if self.error:
            raise self.error

    def get(self, key):
        self._call()
        return json.loads(self.values.get(key, "null"))

    def set(self, key, value, *, retention):
        self._call()
        assert retention == timedelta(days=14)
        self.values[key] = json.dumps(value)
        self.writes.append(self.values[key])

    def delete(self, key):
        if self.error:
            raise self.error
        del self.values[key]

    @property
    def handled(self):
        return json.loads(next(iter(self.values.values())))["handled"]


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def process(cf, store):
    """Process the queue once; return the report and what handlers saw."""

    def process(handler=lambda message: None, **arguments):
        seen = []

        def handle(message):
            seen.append(message.body)
            return handler(message)

        arguments = {"idle_timeout": 0, "settle_interval": 0, "visibility_timeout": 600, "fail_on": "none", **arguments}
        operator = QueueProcessOperator(
            task_id="process", queue_name="orders", handler=handle, journal=True, **arguments
        )
        return operator.execute({"task_state_store": store}), seen

    return process


@pytest.fixture
def die(cf, process):
    """Process the queue by a try that handles all and then dies, because its acks are refused."""

    def die(handler=lambda message: None, **arguments):
        cf.add_fault("ack", **REFUSED)
        with pytest.raises(PermissionDeniedError):
            process(handler, settle_interval=600, **arguments)

    return die


def until_written(store):
    """Return a handler that is at the message "last" until another is in the journal."""

    def handle(message):
        deadline = time.monotonic() + 10
        while message.body == "last" and not store.writes and time.monotonic() < deadline:
            time.sleep(0.01)

    return handle


def state(cf):
    return next(queue for queue in cf.state()["queues"] if queue["name"] == "orders")


def test_the_next_try_acks_by_the_leases_of_the_one_before(cf, send, store, die, process, logged):
    send("a", "b")
    die()
    assert len(store.handled) == 2
    report, seen = process()
    assert (seen, report["pulled"], report["acked_from_journal"]) == ([], 0, 2)
    assert (state(cf)["backlog_count"], store.values) == (0, {})
    assert "Handled by an earlier try without a confirmed ack: 2. Acked now: 2." in logged()


def test_the_next_try_acks_what_is_delivered_again_without_handling_it(cf, send, store, die, process, logged):
    send("a", "b")
    die()
    cf.advance(601)
    send("c")
    cf.add_fault("ack", **REFUSED)
    report, seen = process()
    assert "Could not ack what an earlier try had handled" in logged()
    assert (seen, report["acked_from_journal"], report["acked"]) == (["c"], 2, 1)
    assert (state(cf)["backlog_count"], store.values) == (0, {})


def test_what_was_noted_without_its_lease_is_acked_when_it_comes_again(cf, send, store, die, process):
    send("a")
    die()
    (key,) = store.values
    store.values[key] = json.dumps({"handled": [row[:2] for row in store.handled]})
    cf.advance(601)
    report, seen = process()
    assert (seen, report["acked_from_journal"]) == ([], 1)


def test_the_next_try_waits_for_what_an_earlier_one_handled_until_its_leases_end(cf, send, store, die, process):
    send("a", "b")
    die(visibility_timeout=1)
    cf.add_fault("ack", **REFUSED)
    report, seen = process(visibility_timeout=1)
    assert (seen, report["acked_from_journal"], report["acked"]) == ([], 2, 0)
    assert (state(cf)["backlog_count"], store.values) == (0, {})


def test_the_next_try_waits_for_the_consumers_retry_delay_after_those_leases(cf, send, die, process):
    CloudflareQueuesHook().update_pull_consumer(cf.queues["orders"], consumer_retry_delay=2)
    send("a", "b")
    die(visibility_timeout=1)
    cf.add_fault("ack", **REFUSED)
    report, seen = process(visibility_timeout=1)
    assert (seen, report["acked_from_journal"], report["acked"]) == ([], 2, 0)


def test_what_was_handled_with_another_outcome_is_never_acked_by_the_journal(cf, send, die, process):
    send("done", "retry", "reject", "raise")
    outcomes = {"retry": Retry(0), "reject": Reject("no"), "raise": RuntimeError("no")}

    def handle(message):
        if message.body in outcomes:
            raise outcomes[message.body]

    die(handle, dead_letter_queue="failed")
    cf.advance(601)
    report, seen = process()
    assert (sorted(seen), report["acked_from_journal"]) == (["raise", "reject", "retry"], 1)


def test_what_was_handled_longer_ago_than_messages_are_kept_is_forgotten(cf, send, store, die, process):
    send("old", "new")
    die()
    (key,) = store.values
    [old, new] = store.handled
    store.values[key] = json.dumps({"handled": [[old[0], old[1] - 15 * 86_400, old[2]], new]})
    cf.advance(601)
    report, seen = process()
    assert (seen, report["acked_from_journal"]) == (["old"], 1)


def test_a_try_that_fails_keeps_the_journal_and_one_that_succeeds_deletes_it(send, store, process):
    def fail(message):
        raise RuntimeError("no")

    send("bad")
    with pytest.raises(ProcessingFailedError):
        process(fail, fail_on="any", delay_seconds=0)
    assert store.writes == []  # nothing was handled with success
    send("last")
    process(until_written(store))
    assert (len(store.writes) > 0, store.values) == (True, {})


def test_a_store_that_fails_is_logged_once_and_costs_nothing_else(cf, send, store, process, logged):
    send("a", "b")
    store.error = ConnectionError("the API server is away")
    report, seen = process()
    assert (sorted(seen), report["acked"]) == (["a", "b"], 2)
    assert logged().count("Could not read the journal: ConnectionError: the API server is away") == 1


def test_a_journal_whose_write_has_no_answer_is_deleted_all_the_same(send, store, process):
    def set_without_answer(key, value, **retention):
        Store.set(store, key, value, **retention)
        raise ConnectionError("the connection is lost")

    store.set = set_without_answer
    send("a", "last")
    process(until_written(store))
    assert (len(store.writes) > 0, store.values) == (True, {})


@pytest.mark.parametrize("nonsense", ['"text"', "[1]", '{"handled": [7]}', '{"handled": [["a", "b"]]}', "{}"])
def test_a_journal_that_somebody_changed_is_not_used(cf, send, store, process, logged, nonsense):
    store.values[f"cloudflare_queue_journal_{cf.queues['orders']}"] = nonsense
    send("a")
    _, seen = process()
    assert seen == ["a"]
    assert "because it was changed" in logged()


def test_a_write_that_is_under_way_at_the_end_is_awaited(send, store, die):
    def set_slowly(key, value, **retention):
        time.sleep(0.3)
        Store.set(store, key, value, **retention)

    store.set = set_slowly
    send("a")
    die()
    assert len(store.handled) == 1


def test_a_slow_write_holds_up_nothing(send, store, process):
    handled, in_time = threading.Event(), []

    def set_slowly(key, value, **retention):
        in_time.append(handled.wait(10))
        Store.set(store, key, value, **retention)

    store.set = set_slowly
    send("first", "second")
    process(lambda message: handled.set() if message.body == "second" else None)
    assert set(in_time) == {True}


def test_a_dry_run_keeps_no_journal(cf, send, store, die, process):
    send("a")
    die()
    cf.advance(601)
    report, seen = process(dry_run=True)
    assert (seen, report["acked_from_journal"], len(store.handled)) == (["a"], 0, 1)


def test_without_a_place_for_it_the_task_fails_before_anything_is_pulled(cf):
    operator = QueueProcessOperator(task_id="process", queue_name="orders", handler=print, journal=True)
    with pytest.raises(ValueError, match=r"from 3\.3 on .* Leave journal out"):
        operator.execute({})
    assert cf.requests() == []


class BrokenPort:
    """A queue to which the HTTP library itself cannot send."""

    situation = Situation()

    async def settle(self, settling):
        raise RuntimeError("the client has been closed")


def test_a_failure_that_is_not_the_apis_does_not_keep_the_next_try_from_beginning(store, logged):
    message = Message(id="m1", lease_id="lease", body="")
    store.values["cloudflare_queue_journal_q"] = json.dumps(
        {"handled": [["m1", int(datetime.now(timezone.utc).timestamp()), "lease"]]}
    )

    async def begin():
        journal = Journal(store, "q", now=lambda: datetime.now(timezone.utc), log=logging.getLogger("journal"))
        async with journal.kept(BrokenPort(), Report()):
            return message in journal

    assert asyncio.run(begin())
    assert "Could not ack what an earlier try had handled: the client has been closed" in logged()


def test_leases_of_an_earlier_try_are_acked_once_each_a_hundred_in_a_request(cf, send, store):
    send(*["x"] * 150)
    now, report, hook = datetime.now(timezone.utc), Report(), CloudflareQueuesHook()
    leases = [message.lease_id for message in hook.pull(cf.queues["orders"], max_messages=150)]
    rows = [[f"m{number}", int(now.timestamp()), lease] for number, lease in enumerate(leases)]
    store.values["cloudflare_queue_journal_q"] = json.dumps({"handled": rows})

    async def begin():
        queue = HookQueue(hook, cf.queues["orders"], visibility_timeout=600)
        async with Journal(store, "q", now=lambda: now, log=logging.getLogger("journal")).kept(queue, report):
            await hook.aclose()

    asyncio.run(begin())
    requests = [request["body"]["acks"] for request in cf.requests() if request["path"].endswith("/ack")]
    assert [[ack["lease_id"] for ack in acks] for acks in requests] == [leases[:100], leases[100:]]
    assert report.fates[Kind.ACKED_FROM_JOURNAL] == 150


@pytest.mark.parametrize(("seconds_ago", "seconds_away"), [(0, 31), (10, 21), (31, 0), (60, 0)])
def test_it_tells_until_when_inherited_messages_may_be_away(store, seconds_ago, seconds_away):
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    rows = [["older", int(now.timestamp()) - 90, "lease 1"], ["newer", int(now.timestamp()) - seconds_ago, "lease 2"]]
    store.values["cloudflare_queue_journal_q"] = json.dumps({"handled": rows})

    async def begin():
        journal = Journal(store, "q", now=lambda: now, log=logging.getLogger("journal"))
        assert journal.seconds_away(30) == 0
        async with journal.kept(BrokenPort(), Report()):
            return journal.seconds_away(30)

    assert asyncio.run(begin()) == seconds_away


def test_beyond_its_limit_it_forgets_what_was_noted_longest_ago(store):
    journal = Journal(store, "q", now=lambda: datetime.now(timezone.utc), log=None)
    first, second, *others, last = (Message(id=str(n), lease_id="", body=None) for n in range(MAX_MESSAGES + 1))
    for message in (first, second, *others, first):
        journal.note(message)
    assert first in journal
    assert second in journal
    journal.note(last)
    assert last in journal
    assert first in journal
    assert second not in journal


def test_it_stays_small_and_keeps_the_newest(store):
    def now():
        return datetime.now(timezone.utc)

    async def handle_many():
        journal = Journal(store, "q", now=now, log=None)
        async with journal.kept(None, Report()):
            for number in range(3_000):
                journal.note(Message(id=f"{number:032}", lease_id=f"{number:0160}", body=None))

    asyncio.run(handle_many())
    (value,) = store.values.values()
    assert 40_000 < len(value) < AIRFLOW_WARNS_ABOVE * 0.75
    assert store.handled[-1][0] == f"{2_999:032}"
    assert [len(row) for row in store.handled[-100:]] == [3] * 100
    assert len(store.handled) > 500


def test_what_the_api_has_acked_is_forgotten_though_the_try_fails(send, store, process):
    is_written = threading.Event()

    def set_and_tell(key, value, **retention):
        Store.set(store, key, value, **retention)
        is_written.set()

    def handler(message):
        if message.body == "bad":
            assert is_written.wait(10)
            raise ValueError(message.body)

    store.set = set_and_tell
    send("good", "bad")
    with pytest.raises(ProcessingFailedError):
        process(handler, fail_on="any", settle_interval=600)
    assert store.handled == []
