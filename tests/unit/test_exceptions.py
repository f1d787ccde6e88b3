"""An error as plain values, on its way from the triggerer to the task."""

from __future__ import annotations

import json

import pytest

from airflow_provider_cfqueues import exceptions
from airflow_provider_cfqueues.exceptions import (
    CloudflareQueuesError,
    MatchFailedError,
    Progress,
    RateLimitedError,
    ServerError,
    TransportError,
    UnconfirmedLeasesError,
)
from airflow_provider_cfqueues.models import AckResult

ALL = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, CloudflareQueuesError)]


def sent(error):
    return CloudflareQueuesError.from_dict(json.loads(json.dumps(error.to_dict())))


@pytest.mark.parametrize("kind", ALL)
def test_every_error_arrives_as_what_it_is(kind):
    error = kind("It failed.", conn_id="c", queue="q", status=429, codes=[0], messages=["a", "b"], retry_after=1.5)
    received = sent(error)
    assert type(received) is kind
    assert str(received) == str(error)
    assert vars(received) == vars(error)
    assert (received.repeatable, received.maybe_applied) == (error.repeatable, error.maybe_applied)


def test_facts_of_single_classes_arrive():
    assert sent(MatchFailedError("m", message_id="i")).message_id == "i"
    assert sent(UnconfirmedLeasesError("m", lease_ids=["l"])).lease_ids == ("l",)
    assert sent(RateLimitedError("m", retry_after=7)).retry_after == 7


def test_what_is_known_of_one_error_only_arrives():
    error = TransportError("no connection was made")
    error.maybe_applied = False
    assert sent(error).maybe_applied is False


def test_how_far_a_call_had_come_arrives():
    result = AckResult(ack_count=1, warnings={"a": "late"})
    progress = Progress(kind="leases", done=("a",), unknown=("b",), not_done=("c", "d"), result=result)
    received = sent(ServerError("m", progress=progress)).progress
    assert (received.done, received.unknown, received.not_done) == (("a",), ("b",), ("c", "d"))
    assert str(received) == str(progress)
    assert received.result["warnings"] == {"a": "late"}


def test_a_class_of_another_version_arrives_as_the_root():
    plain = ServerError("m", status=500).to_dict() | {"class": "FutureError"}
    received = CloudflareQueuesError.from_dict(plain)
    assert type(received) is CloudflareQueuesError
    assert received.status == 500
