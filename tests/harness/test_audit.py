"""The campaign's comparison finds what it is there to find."""

from __future__ import annotations

from e2e.audit import Event, compare

SENT = [{"n": n} for n in range(3)]


def stored(*numbers, asset="orders"):
    return [Event(asset, f"message-{n}", {"n": n}, 1) for n in numbers]


def test_nothing_is_wrong_where_each_message_has_its_event():
    assert compare(stored(2, 0, 1), {"orders": SENT}) == ([], 0)


def test_a_message_without_an_event_is_lost():
    assert compare(stored(0, 2), {"orders": SENT}) == (["1 messages LOST for orders, such as ['{\"n\": 1}']"], 0)


def test_an_event_of_another_asset_does_not_count():
    ((lost,), again) = compare([*stored(0, 1), *stored(2, asset="returns")], {"orders": SENT})
    assert (lost[:15], again) == ("1 messages LOST", 0)


def test_an_event_that_nobody_wanted_is_found():
    ((strange,), _) = compare(stored(0, 1, 2, 3), {"orders": SENT})
    assert strange == "1 events of orders that nobody wanted, such as ['{\"n\": 3}']"


def test_events_that_come_again_are_counted():
    assert compare(stored(0, 1, 1, 1, 2, 2), {"orders": SENT}) == ([], 3)
