"""What the log says beforehand of messages that a ``match`` does not want, and what is refused."""

import re

import pytest

from airflow_provider_cfqueues.engines.settlement import Situation, check_unmatched
from airflow_provider_cfqueues.exceptions import LossyMatchError
from airflow_provider_cfqueues.models import Consumer

LOSSY = Consumer(type="http_pull", max_retries=7)
SAFE = Consumer(type="http_pull", max_retries=7, dead_letter_queue="failed")


@pytest.mark.parametrize(
    ("consumer", "dead_letter_queue_id", "unmatched", "told"),
    [
        (SAFE, None, None, "loses one of its 7 deliveries .*; after the last, it goes to a dead-letter queue"),
        (SAFE, None, "retry", "after the last, it goes to a dead-letter queue"),
        (LOSSY, "failed", None, "after the last, it goes to a dead-letter queue"),
        (LOSSY, None, "retry", "after the last, Cloudflare deletes it"),
        (LOSSY, None, "ack", "are deleted"),
        (LOSSY, "failed", "dead_letter", "are copied to the dead-letter queue"),
    ],
)
def test_the_cost_of_a_match_is_told(consumer, dead_letter_queue_id, unmatched, told):
    situation = Situation(consumer=consumer, dead_letter_queue_id=dead_letter_queue_id, unmatched=unmatched)
    assert re.search(told, check_unmatched(situation, "orders"))


@pytest.mark.parametrize(
    ("consumer", "unmatched", "why"),
    [
        (LOSSY, None, "has no dead-letter queue"),
        (LOSSY, "dead_letter", "has no dead-letter queue"),
        (None, None, "could not be read"),
    ],
)
def test_a_match_that_lets_cloudflare_delete_messages_is_refused_with_the_reason(consumer, unmatched, why):
    situation = Situation(consumer=consumer, unmatched=unmatched)
    with pytest.raises(LossyMatchError, match=f"the queue's consumer {why}") as caught:
        check_unmatched(situation, "orders")
    assert caught.value.queue == "orders"
