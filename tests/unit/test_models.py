import json
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cfqueues.models import AckResult, Message


def message(body, **fields):
    return Message(id="m", lease_id="l", body=body, raw_body=json.dumps(body, default=str), **fields)


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"__classname__": "x"}, "__classname__"),
        ([{"a": {"__type": "dict", "__var": {}}}], "__type"),
        ({"__id__": 1}, "__id__"),
        (deep(60), "nested"),
        (2**64, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (float("nan"), "nan"),
        ("\ud800", "surrogates"),
        ({"\ud800": 1}, "surrogates"),
        ("a\0b", "NUL"),
    ],
)
def test_a_body_that_airflow_cannot_store_is_left_out_and_its_raw_text_kept(body, reason):
    xcom = message(body).to_xcom()
    assert xcom["body"] is None
    assert reason in xcom["body_error"]
    assert xcom["raw_body"]
    json.dumps(xcom, allow_nan=False).encode()


def test_a_raw_body_that_airflow_cannot_store_is_base64():
    xcom = Message(id="m", lease_id="l", body="\ud800", raw_body="\ud800").to_xcom()
    assert xcom["raw_body"] == "7aCA"
    assert "raw_body is base64" in xcom["body_error"]


def test_metadata_that_airflow_cannot_store_is_shown_as_text():
    xcom = message("x", metadata={"__type": "x"}).to_xcom()
    assert xcom["metadata"] == {"unstorable": "{'__type': 'x'}"}


def test_bytes_are_base64_and_times_iso_8601():
    end = datetime(2026, 1, 1, tzinfo=timezone.utc)
    xcom = message(b"\0\xff", lease_expires_at=end, timestamp=end).to_xcom()
    assert (xcom["body"], xcom["timestamp"]) == ("AP8=", "2026-01-01T00:00:00+00:00")
    assert "raw_body" not in xcom


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\0_")), inner)
        ),
    )
)
def test_every_other_body_is_handed_on_unchanged(body):
    assert message(body).to_xcom()["body"] == body


def test_results_are_merged_count_by_count():
    first = AckResult(ack_count=1, retry_count=None, warnings={"#0": "a", "l": "b"}, unconfirmed=("l",))
    second = AckResult(ack_count=2, retry_count=3, warnings={"#0": "c"}, repeated=True)
    merged = first.merge(second)
    assert merged == AckResult(ack_count=3, retry_count=None, warnings={"#0": "a", "l": "b", "#1": "c"})
    assert merged.unconfirmed == ("l",)
    assert merged.repeated
