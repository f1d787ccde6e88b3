from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_cfqueues.arguments import (
    delay_leases,
    parse_count,
    parse_delay,
    parse_id,
    parse_leases,
    parse_messages,
    parse_visibility_timeout,
)
from airflow_provider_cfqueues.delays import ExponentialDelay
from airflow_provider_cfqueues.models import Lease, Message, OutgoingMessage

END = datetime(2026, 1, 1, tzinfo=timezone.utc)
MESSAGE = Message(id="m", lease_id="l1", body="x", attempts=3, lease_expires_at=END)


class LazySequence:
    """What a mapped task's output looks like: iterable, neither list nor tuple."""

    def __init__(self, *items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def ids(value):
    return [lease.lease_id for lease in parse_leases(value)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ([], []),
        ("", []),
        ("None", []),
        ("null", []),
        ("[]", []),
        ("l1", ["l1"]),
        (["l1", "l2"], ["l1", "l2"]),
        (("l1", "l2"), ["l1", "l2"]),
        ([["l1"], [["l2"]], []], ["l1", "l2"]),
        (LazySequence(["l1"], ["l2"]), ["l1", "l2"]),
        (MESSAGE, ["l1"]),
        (MESSAGE.to_xcom(), ["l1"]),
        ([MESSAGE.to_xcom(), "l2"], ["l1", "l2"]),
        ('["l1", "l2"]', ["l1", "l2"]),
        ("['l1', 'l2']", ["l1", "l2"]),
        ('"l1"', ["l1"]),
        (str([MESSAGE.to_xcom()]), ["l1"]),
        (["['l1']", "l2"], ["l1", "l2"]),
        (Lease(lease_id="l1"), ["l1"]),
        (("l1", 30), ["l1"]),
        (("l1", "30"), ["l1"]),
    ],
)
def test_leases_are_found_in_whatever_xcom_holds(value, expected):
    assert ids(value) == expected


@pytest.mark.parametrize("value", [MESSAGE, MESSAGE.to_xcom(), str(MESSAGE.to_xcom())])
def test_what_is_known_of_a_message_stays_with_its_lease(value):
    assert parse_leases(value) == [Lease(lease_id="l1", attempts=3, lease_expires_at=END)]


@pytest.mark.parametrize("end", ["yesterday", 12, "2026-01-01T00:00:00"])
def test_an_unreadable_end_of_a_lease_does_not_stop_its_settling(end):
    assert parse_leases({"lease_id": "l1", "lease_expires_at": end}) == [Lease(lease_id="l1")]


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (5, TypeError, "int 5"),
        (True, TypeError, "bool True"),
        (b"l1", TypeError, "bytes"),
        ([None], TypeError, "NoneType None"),
        (["l1", 5], TypeError, "int 5"),
        ({"id": "m"}, ValueError, r"\['id'\]"),
        ({}, ValueError, "a mapping must be a message"),
        ({"lease_id": None}, TypeError, "NoneType"),
        ({"lease_id": ""}, ValueError, "never empty"),
        ([""], TypeError, "NoneType"),
        ("two words", ValueError, "white space"),
        ("one,two", ValueError, "comma"),
        ("[not a list", ValueError, "neither JSON nor a Python literal"),
        ({"lease_id": "l1", "delay_seconds": 86_401}, ValueError, "86400"),
        ({"lease_id": "l1", "delay_seconds": "soon"}, ValueError, "'soon'"),
        ("{[1]: 2}", ValueError, "neither JSON"),
        (["x" * 500 + " y"], ValueError, r"\.\.\."),
    ],
)
def test_wrong_leases_are_named_with_type_and_a_short_value(value, error, says):
    with pytest.raises(error, match=says) as caught:
        parse_leases(value)
    assert "lease_ids" in str(caught.value) or "delay_seconds" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), (timedelta(minutes=1), 60), (0, 0), (86_400, 86_400), (1.2, 2), ("60", 60), (86_399.5, 86_400)],
)
def test_delays_are_whole_seconds_rounded_up(value, expected):
    assert parse_delay(value) == expected


@pytest.mark.parametrize("value", [-1, 86_401, 86_400.5, float("nan"), float("inf"), "never", 10**400])
def test_delays_out_of_range_are_value_errors(value):
    with pytest.raises(ValueError, match="delay_seconds"):
        parse_delay(value)


@pytest.mark.parametrize("value", [True, [], object()])
def test_delays_that_are_no_numbers_are_type_errors(value):
    with pytest.raises(TypeError, match="delay_seconds"):
        parse_delay(value)


@pytest.mark.parametrize("value", [0, -1, 43_200.1, float("nan")])
def test_visibility_timeouts_are_above_zero_and_at_most_twelve_hours(value):
    assert parse_visibility_timeout(43_200) == 43_200
    assert parse_visibility_timeout("0.5") == 0.5
    assert parse_visibility_timeout(timedelta(minutes=10)) == 600
    with pytest.raises(ValueError, match="visibility_timeout"):
        parse_visibility_timeout(value)


def test_counts_are_whole_and_positive():
    assert parse_count("100", "max_messages") == 100
    for wrong in (0, 1.5, -3):
        with pytest.raises(ValueError, match="max_messages"):
            parse_count(wrong, "max_messages")


@pytest.mark.parametrize("value", ["", "a/b", "../x", "x" * 33, None, 7, "a\n"])
def test_ids_are_safe_in_a_path(value):
    assert parse_id("aZ0-_", "queue_id") == "aZ0-_"
    with pytest.raises(ValueError, match="queue_id"):
        parse_id(value, "queue_id")


def test_a_lease_keeps_its_own_delay_before_the_common_one():
    leases = [Lease(lease_id="l1"), Lease(lease_id="l2", delay_seconds=5)]
    assert [lease.delay_seconds for lease in delay_leases(leases, "60")] == [60, 5]
    assert [lease.delay_seconds for lease in delay_leases(leases, None)] == [None, 5]


def test_an_exponential_delay_grows_with_the_attempts_up_to_its_cap():
    rule = ExponentialDelay(initial_seconds=10, factor=3, max_seconds=100)
    leases = [Lease(lease_id="l", attempts=attempts) for attempts in (0, 1, 2, 3, 4, 10_000)]
    assert [lease.delay_seconds for lease in delay_leases(leases, rule)] == [10, 10, 30, 90, 100, 100]


def test_jitter_only_shortens():
    rule = ExponentialDelay(initial_seconds=100, jitter=0.5)
    drawn = {rule.seconds(Lease(lease_id="l", attempts=1)) for _ in range(100)}
    assert min(drawn) >= 50
    assert max(drawn) <= 100
    assert len(drawn) > 1


def test_an_exponential_delay_of_a_bare_lease_says_what_it_needs():
    with pytest.raises(ValueError, match="QueuePullOperator"):
        delay_leases([Lease(lease_id="l")], ExponentialDelay())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hello", [("hello", "text", None)]),
        (["a", {"n": 1}, [1, 2]], [("a", "text", None), ({"n": 1}, "json", None), ([1, 2], "json", None)]),
        ({"body": {"n": 1}, "delay_seconds": 1.5}, [({"n": 1}, "json", 2)]),
        ([{"body": "x", "content_type": "text"}], [("x", "text", None)]),
        (OutgoingMessage(body="x"), [("x", "text", None)]),
        ('["a", {"n": 1}]', [("a", "text", None), ({"n": 1}, "json", None)]),
        ("['a']", [("a", "text", None)]),
        ("{'body': 'a', 'delay_seconds': 3}", [("a", "text", 3)]),
        (["[a text"], [("[a text", "text", None)]),
        (LazySequence("a", "b"), [("a", "text", None), ("b", "text", None)]),
        (None, []),
        ([], []),
    ],
)
def test_messages_are_text_json_or_spelled_out(value, expected):
    assert [(m.body, m.content_type, m.delay_seconds) for m in parse_messages(value)] == expected


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (b"x", TypeError, "bytes"),
        (7, TypeError, "int 7"),
        ([b"x"], TypeError, r"messages\[0\].*base64"),
        (["ok", 7], TypeError, r"messages\[1\]"),
        ([{"body": "x", "content_type": "json"}], TypeError, "object or array"),
        ([{"body": {}, "content_type": "text"}], TypeError, "a string"),
        ([{"body": "x", "content_type": "v8"}], ValueError, "v8"),
        ([{"body": "x", "delay": 5}], ValueError, "delay"),
        ([{"body": "x", "content_type": ["text"]}], ValueError, "content_type"),
        ([{"body": "x", "delay_seconds": -1}], ValueError, "delay_seconds"),
    ],
)
def test_messages_that_the_api_would_refuse_are_refused_here(value, error, says):
    with pytest.raises(error, match=says):
        parse_messages(value)


def test_leases_in_a_list_that_holds_itself_are_an_error():
    circle = []
    circle.append(circle)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_leases(circle)


def test_a_timedelta_is_a_delay_and_not_a_rule():
    assert delay_leases([Lease(lease_id="l")], timedelta(seconds=5)) == [Lease(lease_id="l", delay_seconds=5)]


@pytest.mark.parametrize("wrong", [{"jitter": 5}, {"max_seconds": 99_999}, {"factor": 0}, {"initial_seconds": -1}])
def test_a_rule_that_cannot_work_is_refused_at_once(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ExponentialDelay(**wrong)
