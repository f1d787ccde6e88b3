from __future__ import annotations

import random
import re

import pytest

from airflow_provider_cfqueues.emulator import Clock
from airflow_provider_cfqueues.emulator.broker import Broker
from airflow_provider_cfqueues.emulator.model import (
    DeliveryPaused,
    Outgoing,
    PullNotEnabled,
    QueueExists,
    QueueNotFound,
    QueueSettings,
    Retry,
    StateFileError,
)

DAY = 86_400


def test_a_pulled_message_is_hidden_until_its_lease_ends(model):
    model.send("a")
    first = model.one()
    assert (first.attempts, first.body) == (1, b"a")
    model.clock.advance(29.999)
    assert model.pull() == []
    model.clock.advance(0.001)
    again = model.one()
    assert (again.id, again.attempts) == (first.id, 2)
    assert again.ticket != first.ticket


def test_a_pull_can_choose_how_long_and_how_many(model):
    model.send("a", "b", "c")
    assert [message.body for message in model.pull(batch_size=2, visibility_timeout_ms=5000)] == [b"a", b"b"]
    model.clock.advance(5)
    assert [message.body for message in model.pull()] == [b"c", b"a", b"b"]


def test_a_pull_falls_back_to_the_settings_of_the_consumer(model):
    queue = model.add_queue("own", batch_size=1, visibility_timeout_ms=1000)
    model.send("a", "b", queue=queue)
    assert len(model.broker.pull(queue)) == 1
    model.clock.advance(1)
    assert {message.attempts for message in model.pull(queue)} == {1, 2}


def test_ack_ends_a_message(model):
    model.send("a", "b")
    leases = [message.ticket for message in model.pull()]
    done = model.ack(*leases)
    assert (done.acked, done.retried, done.warnings) == (2, 0, {})
    model.clock.advance(60)
    assert model.pull() == []
    assert model.totals() == {"received": 2, "delivered": 2, "acked": 2}


def test_a_late_ack_still_counts(model):
    model.send("a")
    lease = model.one().ticket
    model.clock.advance(3600)
    assert model.ack(lease).acked == 1
    assert model.pull() == []


def test_two_consumers_can_acknowledge_the_same_message(model):
    model.send("a")
    first = model.one().ticket
    model.clock.advance(30)
    second = model.one().ticket
    assert model.ack(first).acked == 1
    done = model.ack(second)
    assert (done.acked, done.warnings) == (1, {})
    assert model.totals()["acked"] == 1


def test_a_lease_is_used_up_by_its_first_use(model):
    model.send("a", "b")
    acked, retried = (message.ticket for message in model.pull())
    model.broker.settle(model.queue, acks=[acked], retries=[Retry(retried)])
    done = model.broker.settle(model.queue, acks=[acked, retried])
    assert done.acked == 0
    assert done.warnings == {
        acked: "lease is used up: acknowledged before",
        retried: "lease is used up: retried before",
    }
    assert len(model.pull()) == 1


def test_the_same_lease_twice_in_one_call_counts_once_and_warns(model):
    model.send("a")
    lease = model.one().ticket
    done = model.broker.settle(model.queue, acks=[lease, lease], retries=[Retry(lease)])
    assert (done.acked, done.retried) == (1, 0)
    assert list(done.warnings) == [lease]


@pytest.mark.parametrize("lease", ["", "x", "a.b.c.d.e", "e30..AAAA.BBBB.CCCC", "🐰", "\x00", "." * 500])
def test_a_lease_that_was_never_given_warns(model, lease):
    done = model.broker.settle(model.queue, acks=[lease], retries=[Retry(lease)])
    assert (done.acked, done.retried) == (0, 0)
    assert done.warnings == {lease: "lease is unknown or malformed"}


def test_a_lease_with_one_character_changed_or_cut_is_unknown(model):
    model.send("a")
    lease = model.one().ticket
    for index, character in enumerate(lease):
        changed = lease[:index] + ("A" if character != "A" else "B") + lease[index + 1 :]
        assert model.ack(changed, lease[:index]).acked == 0
    assert model.ack(lease).acked == 1


def test_a_lease_counts_only_in_its_own_queue(model):
    model.send("a")
    lease = model.one().ticket
    other = model.add_queue("other")
    assert model.broker.settle(other, acks=[lease]).warnings == {lease: "lease is of another queue"}


def test_a_lease_looks_like_a_compact_jwe(model):
    model.send("a")
    lease = model.one().ticket
    header, key, nonce, sealed, tag = lease.split(".")
    assert header == "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIn0"
    assert (key, len(nonce), len(sealed), len(tag)) == ("", 22, 43, 43)


def test_a_retry_comes_back_at_once_or_after_its_delay(model):
    model.send("a")
    assert model.retry(model.one().ticket).retried == 1
    lease = model.one().ticket
    model.retry(lease, 10)
    assert model.pull() == []
    model.clock.advance(10)
    assert model.one().attempts == 3


def test_an_explicit_zero_overrides_every_delay(model):
    queue = model.add_queue("slow", retry_delay=60)
    settings = QueueSettings(delivery_delay=100)
    model.broker.queues.update(queue, name="slow", settings=settings)
    model.send("a", queue=queue)
    model.send("b", queue=queue, delay_seconds=0)
    model.broker.send(queue, [Outgoing(body=b"c"), Outgoing(body=b"d", delay_seconds=5)], delay_seconds=0)
    assert {message.body for message in model.pull(queue)} == {b"b", b"c"}
    model.clock.advance(5)
    [late] = model.pull(queue)
    model.broker.settle(queue, retries=[Retry(late.ticket, 0)])
    [late] = model.pull(queue)
    model.broker.settle(queue, retries=[Retry(late.ticket)])
    assert model.pull(queue, visibility_timeout_ms=1) == []
    model.clock.advance(60)
    assert b"d" in {message.body for message in model.pull(queue)}


def test_a_message_whose_lease_ends_waits_the_consumers_retry_delay(model):
    queue = model.add_queue("slow", retry_delay=600.5)
    model.send("a", queue=queue)
    model.pull(queue)
    model.clock.advance(30)
    assert model.broker.report(queue).states == {"ready": 0, "delayed": 1, "leased": 0}
    model.clock.advance(600.499)
    assert model.pull(queue) == []
    model.clock.advance(0.001)
    assert len(model.pull(queue)) == 1


def test_a_lease_that_ended_long_ago_has_waited_already(model):
    queue = model.add_queue("slow", retry_delay=600)
    model.send("a", queue=queue)
    model.pull(queue)
    model.clock.advance(630)
    assert len(model.pull(queue)) == 1


def test_a_lease_that_ends_can_be_assumed_to_make_its_message_ready_at_once(make_model):
    model = make_model({"lease-end": "at-once"})
    queue = model.add_queue("slow", retry_delay=600)
    model.send("a", queue=queue)
    model.pull(queue)
    model.clock.advance(30)
    assert len(model.pull(queue)) == 1


@pytest.mark.parametrize(
    ("assume", "error"),
    [
        ({"late-ak": "refused"}, "there is no assumption 'late-ak'; known: json-encoding, "),
        ({"status": "x"}, "there is no assumption 'status'"),
        ({"late-ack": "no"}, "late-ack must be one of accepted, refused, not 'no'"),
    ],
)
def test_an_assumption_that_cannot_be_chosen_says_what_can(assume, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        Broker(assume=assume)


def test_a_late_retry_leaves_the_newer_delivery_alone(model):
    model.send("a")
    first = model.one().ticket
    model.clock.advance(30)
    second = model.one().ticket
    assert model.retry(first).retried == 1
    assert model.pull() == []
    assert model.ack(second).acked == 1


def test_a_message_out_of_retries_goes_to_the_dead_letter_queue(model):
    model.send("a")
    for _ in range(2):
        model.retry(model.one().ticket)
    last = model.one()
    assert last.attempts == 3
    assert model.retry(last.ticket).retried == 1
    dead = model.broker.queues.find("dead")
    assert dead
    model.broker.queues.add_consumer(dead.id)
    [buried] = model.pull(dead.id)
    assert (buried.id, buried.body, buried.attempts) == (last.id, b"a", 1)
    assert model.totals() == {"received": 1, "delivered": 3, "retried": 3, "dead_lettered": 1}


def test_a_message_whose_last_lease_ends_goes_to_the_dead_letter_queue(model):
    model.send("a")
    for _ in range(3):
        lease = model.one().ticket
        model.clock.advance(30)
    assert model.totals()["dead_lettered"] == 1
    assert "no longer in this queue" in model.ack(lease).warnings[lease]


def test_without_a_dead_letter_queue_the_message_is_deleted(model):
    queue = model.add_queue("lossy", max_retries=0)
    model.send("a", queue=queue)
    [message] = model.pull(queue)
    model.broker.settle(queue, retries=[Retry(message.ticket)])
    assert model.totals("lossy") == {"received": 1, "delivered": 1, "retried": 1, "exhausted": 1}


def test_a_deleted_dead_letter_queue_is_made_again(model):
    dead = model.broker.queues.find("dead")
    model.broker.queues.delete(dead.id)
    model.send("a")
    for _ in range(3):
        model.retry(model.one().ticket)
    assert model.totals("dead") == {"received": 1}


def test_a_message_older_than_the_retention_period_is_gone(model):
    model.send("waits", "leased", "late")
    model.clock.advance(4 * DAY - 1)
    leases = [message.ticket for message in model.pull(batch_size=2)]
    model.clock.advance(1)
    assert model.pull() == []
    assert model.ack(*leases).acked == 0
    assert model.totals()["expired"] == 3


def test_a_message_that_failed_before_it_expired_is_dead_lettered_however_late_one_looks(model):
    queue = model.add_queue("brief", max_retries=0, dead_letter_queue="dead")
    model.send("a", queue=queue)
    model.pull(queue)
    model.clock.advance(4 * DAY)
    assert model.totals("brief")["dead_lettered"] == 1
    assert model.totals("dead") == {"received": 1}
    model.clock.advance(60)
    assert model.totals("dead") == {"received": 1, "expired": 1}


def test_a_new_retention_period_holds_for_the_messages_that_are_there(model):
    model.send("a")
    model.clock.advance(100)
    settings = QueueSettings(message_retention_period=60)
    model.broker.queues.update(model.queue, name="work", settings=settings)
    assert model.pull() == []


def test_a_longer_retention_period_does_not_bring_back_what_has_expired(model):
    model.send("a")
    model.clock.advance(4 * DAY + 1)
    model.broker.queues.update(model.queue, name="work", settings=QueueSettings(message_retention_period=10 * DAY))
    assert model.pull() == []
    assert model.totals() == {"received": 1, "expired": 1}


def test_a_paused_queue_takes_messages_and_acks_but_gives_none(model):
    model.send("a")
    lease = model.one().ticket
    settings = QueueSettings(delivery_paused=True)
    model.broker.queues.update(model.queue, name="work", settings=settings)
    model.send("b")
    with pytest.raises(DeliveryPaused):
        model.pull()
    assert model.ack(lease).acked == 1


def test_a_queue_without_consumer_cannot_be_pulled(model):
    queue = model.broker.queues.create("silent")
    with pytest.raises(PullNotEnabled):
        model.pull(queue.id)
    with pytest.raises(QueueNotFound):
        model.pull("nix")


def test_an_extended_lease_ends_later_under_both_ids_and_is_no_delivery(model):
    model.send("a")
    old = model.one().ticket
    renewed, warnings = model.broker.extend(model.queue, [old, "x"], 60_000)
    assert warnings == {"x": "lease is unknown or malformed"}
    model.clock.advance(59)
    assert model.pull() == []
    assert renewed[old] != old
    done = model.ack(renewed[old], old)
    assert done.acked == 1
    assert "used up" in done.warnings[old]


def test_a_lease_that_has_ended_cannot_be_extended(model):
    model.send("a")
    lease = model.one().ticket
    model.clock.advance(30)
    assert model.broker.extend(model.queue, [lease]) == ({}, {lease: "lease has ended"})


def test_peek_and_preview_leave_messages_alone_and_can_delete_them(model):
    model.send("a", "b", "c")
    model.send("later", delay_seconds=5)
    peeked = model.broker.peek(model.queue)
    previewed = model.broker.peek(model.queue, kind="preview")
    assert [message.attempts for message in peeked] == [0, 0, 0]
    assert model.broker.remove(model.queue, [peeked[0].ticket]) == {}
    assert model.broker.remove(model.queue, [previewed[1].ticket], "preview") == {}
    assert model.broker.remove(model.queue, [previewed[2].ticket]) == {
        previewed[2].ticket: "ref is unknown or malformed"
    }
    assert model.broker.remove(model.queue, [peeked[0].ticket]) == {
        peeked[0].ticket: "message is no longer in this queue"
    }
    assert model.one().body == b"c"


def test_a_purge_deletes_ready_delayed_and_leased_messages(model):
    model.send("a", "b")
    model.send("later", delay_seconds=50)
    lease = model.one(batch_size=1).ticket
    model.broker.purge(model.queue)
    model.clock.advance(60)
    assert model.pull() == []
    assert model.ack(lease).acked == 0
    assert model.totals()["purged"] == 3


def test_metrics_count_everything_unsettled(model):
    assert model.broker.metrics(model.queue).oldest_message_timestamp_ms == 0
    model.send("four", "fifth")
    model.clock.advance(1)
    model.send("later", delay_seconds=50)
    model.pull(batch_size=1)
    metrics = model.broker.metrics(model.queue)
    assert (metrics.backlog_count, metrics.backlog_bytes) == (3, 14)
    assert metrics.oldest_message_timestamp_ms == 1_800_000_000_000
    assert model.broker.report(model.queue).states == {"ready": 1, "delayed": 1, "leased": 1}


def test_the_bytes_of_a_message_move_with_it_to_the_dead_letter_queue(model):
    model.send("stays", delay_seconds=600)
    model.send("moves", "is acked")
    model.ack(model.pull()[1].ticket)
    for _ in range(2):
        model.clock.advance(30)
        model.pull()
    model.clock.advance(30)
    dead = model.broker.queues.find("dead")
    backlogs = [model.broker.metrics(queue) for queue in (model.queue, dead.id)]
    assert [(backlog.backlog_count, backlog.backlog_bytes) for backlog in backlogs] == [(1, 5), (1, 5)]


def test_names_and_ids_are_unique(model):
    with pytest.raises(QueueExists):
        model.broker.queues.create("work")
    other = model.broker.queues.create("other")
    with pytest.raises(QueueExists):
        model.broker.queues.update(other.id, name="work", settings=QueueSettings())


def test_the_same_calls_give_the_same_answers():
    def run() -> list[str]:
        broker = Broker(clock=Clock(lambda: 5), random=random.Random(1))
        queue = broker.queues.create("q")
        broker.queues.add_consumer(queue.id)
        broker.send(queue.id, [Outgoing(body=b"a")] * 3)
        seen = [text for message in broker.pull(queue.id) for text in (message.id, message.ticket)]
        broker.close()
        return seen

    assert run() == run()


def test_a_call_that_fails_changes_nothing(model):
    model.send("a", "b")
    first, second = (message.ticket for message in model.pull())
    with pytest.raises(TypeError):
        model.broker.settle(model.queue, acks=[first], retries=[Retry(second, "soon")])
    assert model.totals() == {"received": 2, "delivered": 2}
    assert model.ack(first, second).acked == 2


def test_a_clock_does_not_go_back(model):
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="forward"):
            model.clock.advance(seconds)


def test_a_file_that_is_no_state_file_is_left_alone(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, and long enough that SQLite looks at it" * 10)
    with pytest.raises(StateFileError, match=r"notes\.txt"):
        Broker(str(text))
    assert text.read_text().startswith("not a database")


def test_a_database_of_something_else_is_left_alone(tmp_path):
    import sqlite3

    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE airflow (a)")
    other.commit()
    other.close()
    with pytest.raises(StateFileError, match="not a state file"):
        Broker(str(path))


def test_two_brokers_cannot_share_a_state_file(tmp_path):
    path = str(tmp_path / "state.db")
    first = Broker(path)
    with pytest.raises(StateFileError, match="locked"):
        Broker(path)
    first.close()
    Broker(path).close()
