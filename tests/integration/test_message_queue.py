"""Our trigger behind ``MessageQueueTrigger``, with the real common.messaging provider, and without it."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

import pytest

from airflow_provider_cfqueues._compat import AirflowOptionalProviderFeatureException

BASE = "airflow.providers.common.messaging.providers.base_provider"

needs_airflow_3 = pytest.mark.skipif(version("apache-airflow").startswith("2."), reason="common.messaging: Airflow 3")
# What Airflow and common.messaging warn of while they look for providers is not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings(r"error:::airflow_provider_cfqueues\..*"),
]


@pytest.fixture
def message_queue_trigger():
    from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger

    return MessageQueueTrigger


@needs_airflow_3
def test_the_scheme_leads_to_our_trigger_with_its_arguments(message_queue_trigger):
    from airflow_provider_cfqueues.triggers.queues import QueueMessageTrigger

    arguments = {"queue_name": "orders", "settle": "task", "match": 'jsonpath:$.type == "order"'}
    by_scheme = message_queue_trigger(scheme="cloudflare+queues", **arguments)
    assert isinstance(by_scheme.trigger, QueueMessageTrigger)
    assert by_scheme.serialize() == QueueMessageTrigger(**arguments).serialize()


@needs_airflow_3
def test_the_deprecated_address_of_a_queue_is_answered_with_what_to_write(message_queue_trigger):
    trigger = message_queue_trigger(queue="cloudflare-queues://account/orders")
    with pytest.raises(ValueError, match=r"scheme='cloudflare\+queues', queue_name='orders'"):
        trigger.serialize()


@needs_airflow_3
def test_addresses_and_schemes_of_others_are_left_to_them():
    from airflow_provider_cfqueues.queues.cloudflare import CloudflareQueuesMessageQueueProvider

    provider = CloudflareQueuesMessageQueueProvider()
    assert not provider.queue_matches("https://sqs.us-east-1.amazonaws.com/0123456789/orders")
    assert not provider.scheme_matches("sqs")


def test_without_common_messaging_airflow_is_told_that_the_feature_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, BASE, None)
    monkeypatch.delitem(sys.modules, "airflow_provider_cfqueues.queues.cloudflare", raising=False)
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"\[common-messaging\]"):
        importlib.import_module("airflow_provider_cfqueues.queues.cloudflare")
