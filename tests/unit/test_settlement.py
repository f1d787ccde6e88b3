import asyncio
import logging
from datetime import datetime, timezone
from itertools import product

import pytest

from airflow_provider_cfqueues.engines.processing.options import Options
from airflow_provider_cfqueues.engines.processing.settler import Settler
from airflow_provider_cfqueues.engines.processing.state import RunState
from airflow_provider_cfqueues.engines.queue import HookQueue
from airflow_provider_cfqueues.engines.settlement import (
    Case,
    Happened,
    Kind,
    Settlement,
    Situation,
    choose_settlement,
)
from airflow_provider_cfqueues.engines.settlement_log import log_settlements
from airflow_provider_cfqueues.models import Consumer, Message

CONSUMERS = [
    None,
    *(
        Consumer(type="http_pull", max_retries=max_retries, dead_letter_queue=dead_letter_queue)
        for max_retries, dead_letter_queue in product((None, 0, 1, 3, 100), (None, "failed"))
    ),
]
REFUSED = [frozenset(), {Kind.REJECTED}, {Kind.RENEWED}, {Kind.REJECTED, Kind.RENEWED}]
ALL_INPUTS = list(
    product(
        Happened,
        (None, 1, 2, 3, 4, 99, 100, 101),
        CONSUMERS,
        (True, False),  # a dead-letter queue is at hand
        (None, "ack", "dead_letter", "retry"),
        (True, False),  # dry run
        (True, False),  # the lease is over
        map(frozenset, REFUSED),
    )
)


def settled(happened, attempts, consumer, can_dead_letter, unmatched, is_dry_run, is_over, refused):
    dead_letter_queue_id = "failed" if can_dead_letter else None
    situation = Situation(
        consumer=consumer, dead_letter_queue_id=dead_letter_queue_id, unmatched=unmatched, is_dry_run=is_dry_run
    )
    message = Message(id="m", lease_id="l", body="b", attempts=attempts)
    return choose_settlement(Case(message=message, happened=happened, is_over=is_over), situation, refused=refused)


def could_delete(attempts, consumer):
    """Say from Cloudflare's documentation, not from our code, whether a message that is given back may be deleted."""
    if consumer is not None and consumer.dead_letter_queue is not None:
        return False
    limit = 3 if consumer is None or consumer.max_retries is None else consumer.max_retries
    return (0 if attempts is None else attempts) >= limit


def test_no_input_gives_back_a_message_that_would_be_deleted_unless_its_handler_saw_it_and_failed():
    given_back = [
        inputs
        for inputs in ALL_INPUTS
        if settled(*inputs).kind is Kind.RETRIED and could_delete(attempts=inputs[1], consumer=inputs[2])
    ]
    assert given_back
    for happened, _, _, can_dead_letter, unmatched, is_dry_run, _, _ in given_back:
        chosen_by_the_caller = happened is Happened.NOT_WANTED and unmatched == "retry"
        assert happened is Happened.FAILED or chosen_by_the_caller
        assert not is_dry_run
        assert not can_dead_letter


def test_no_input_acks_what_nobody_handled_or_copied_unless_the_caller_discards_it():
    acked = [inputs for inputs in ALL_INPUTS if settled(*inputs).kind is Kind.ACKED]
    assert acked
    for happened, _, _, _, unmatched, is_dry_run, _, _ in acked:
        assert happened is Happened.HANDLED or (happened is Happened.NOT_WANTED and unmatched == "ack")
        assert not is_dry_run


def test_a_copy_that_was_refused_is_never_chosen_again_so_the_rule_comes_to_an_end():
    for inputs in ALL_INPUTS:
        *_, refused = inputs
        kind = settled(*inputs).kind
        assert kind not in refused
        if kind in (Kind.REJECTED, Kind.RENEWED):
            assert settled(*inputs[:-1], refused | {kind}).kind is not kind


def test_only_what_nobody_saw_is_renewed_and_never_once_its_lease_is_over_or_in_a_dry_run():
    renewed = [inputs for inputs in ALL_INPUTS if settled(*inputs).kind is Kind.RENEWED]
    assert renewed
    for happened, attempts, consumer, _, _, is_dry_run, is_over, _ in renewed:
        assert happened in (Happened.NOT_STARTED, Happened.NOT_WANTED)
        assert could_delete(attempts, consumer)
        assert not is_dry_run
        assert not is_over


def test_nothing_is_copied_without_a_dead_letter_queue_or_in_a_dry_run():
    rejected = [inputs for inputs in ALL_INPUTS if settled(*inputs).kind is Kind.REJECTED]
    assert rejected
    for _, _, _, can_dead_letter, _, is_dry_run, _, _ in rejected:
        assert can_dead_letter
        assert not is_dry_run


def test_a_message_that_stays_leased_could_be_deleted_and_the_log_says_so():
    left = [inputs for inputs in ALL_INPUTS if settled(*inputs).kind is Kind.UNCONFIRMED]
    assert left
    for inputs in left:
        assert could_delete(attempts=inputs[1], consumer=inputs[2])
        assert "may DELETE it when its lease ends" in settled(*inputs).note


@pytest.mark.parametrize("happened", Happened)
def test_a_consumer_that_cannot_be_read_is_taken_for_one_without_a_dead_letter_queue_and_three_deliveries(happened):
    assumed = Consumer(type="http_pull", max_retries=3)
    for attempts in (None, 1, 2, 3, 4):
        others = (True, None, False, False, frozenset())
        unknown = settled(happened, attempts, None, *others)
        assert unknown == settled(happened, attempts, assumed, *others)


class BrokenQueue(HookQueue):
    """A queue with a bug, not a failure of the API."""

    name = "orders"

    async def settle(self, settling):
        raise RuntimeError("a bug")


def test_a_bug_while_settling_is_reported_and_its_messages_count_as_unconfirmed():
    async def settle():
        settled = []
        log = logging.getLogger(__name__)
        queue = BrokenQueue(None, "q", visibility_timeout=60)
        state = RunState(queue, Options(), lambda: datetime.now(timezone.utc), log)
        settler = Settler(state, settled.append)
        message = Message(id="m", lease_id="l", body=None)
        settler.stage(Settlement(case=Case(message=message, happened=Happened.HANDLED), kind=Kind.ACKED))
        settler.flush()
        await asyncio.wait([*settler.requests])
        await asyncio.sleep(0)
        return state, settled

    state, [settling] = asyncio.run(settle())
    assert state.report.fates == {Kind.UNCONFIRMED: 1}
    assert (settling.settled, [one.message.id for one in settling.open]) == ([], ["m"])
    assert str(state.error) == "a bug"


ADVICE = ". Set a dead-letter queue on the queue's consumer"


@pytest.mark.parametrize(
    ("happened", "dead_letter_queue", "can_dead_letter", "note"),
    [
        (Happened.FAILED, None, True, "delivered 3 times, so it is copied to the dead-letter queue"),
        (Happened.REJECTED, None, True, ""),
        (
            Happened.FAILED,
            None,
            False,
            f"delivered 3 times: Cloudflare DELETES it now, or after its next delivery{ADVICE}",
        ),
        (
            Happened.FAILED,
            "failed",
            False,
            "delivered 3 times: Cloudflare moves it to 'failed' now, or after its next delivery",
        ),
    ],
)
def test_the_log_says_what_becomes_of_a_message_at_its_last_delivery(
    happened, dead_letter_queue, can_dead_letter, note
):
    consumer = Consumer(type="http_pull", max_retries=3, dead_letter_queue=dead_letter_queue)
    assert settled(happened, 3, consumer, can_dead_letter, None, False, False, frozenset()).note == note


@pytest.mark.parametrize(("kind", "level"), [(Kind.UNCONFIRMED, "ERROR"), (Kind.REJECTED, "WARNING")])
def test_only_a_message_that_stays_leased_is_an_error_in_the_log(caplog, kind, level):
    message = Message(id="m", lease_id="l", body=None, attempts=3)
    case = Case(message=message, happened=Happened.FAILED, reason="no")
    settlement = Settlement(case=case, kind=kind, note="so")
    log_settlements(logging.getLogger("test"), "orders", [settlement])
    (record,) = caplog.records
    assert record.levelname == level
    assert record.getMessage().startswith("Queue orders: Message m (delivery 3) is ")
    assert record.getMessage().endswith(": no; so")
