import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cfqueues.bodies import decode_body, decode_json, encode_json, encode_plain

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUES)
def test_json_as_base64_is_decoded(value):
    assert decode_body(base64.b64encode(json.dumps(value).encode()).decode(), "json") == value


@given(st.lists(JSON_VALUES) | st.dictionaries(st.text(), JSON_VALUES) | st.text())
def test_plain_json_is_decoded(value):
    assert decode_body(json.dumps(value), "json") == value


@pytest.mark.parametrize("text", ["1234", "12345678", "true", "null", "-1.5", "12"])
def test_a_plain_scalar_is_not_mistaken_for_base64(text):
    assert decode_body(text, "json") == json.loads(text)


def test_base64_without_a_content_type_is_read_as_json():
    assert decode_body(base64.b64encode(b'{"a": 1}').decode(), None) == {"a": 1}


def test_text_stays_as_it_is_even_where_it_looks_like_base64():
    assert decode_body("eyJhIjogMX0=", "text") == "eyJhIjogMX0="


@given(st.binary())
def test_bytes_are_base64(value):
    assert decode_body(base64.b64encode(value).decode(), "bytes") == value


@pytest.mark.parametrize(
    ("raw", "content_type", "says"),
    [
        ("not json", "json", "neither JSON nor base64"),
        ("not base64!", "bytes", "base64"),
        ("AAAA", "v8", "only be decoded in a Worker"),
        ("AAAA", "brand-new", "'brand-new'"),
        ("[" * 100_000, "json", "neither JSON nor base64"),
    ],
)
def test_what_cannot_be_decoded_is_a_value_error(raw, content_type, says):
    with pytest.raises(ValueError, match=says):
        decode_body(raw, content_type)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)
ODD = [
    *(
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        "1e400",
        "-0",
        "-0.0",
        "NaN",
        "-Infinity",
        '{"a":1,"a":2}',
        "1" * 400,
        "1" * 5_000,
    ),
    *("", " 1 ", "1 2", "[1,]", "01", "1.", "+1", "tru", '"a', '"\x01"', '"\ud800"', "\ufeff1", "[" * 100_000),
    *(b"\xef\xbb\xbf1", "1".encode("utf-16"), b'"\xff"', b'"\xed\xa0\x80"', b""),
]


def outcome(decode, text):
    try:
        return repr(decode(text))
    except (ValueError, RecursionError) as error:
        return RecursionError if isinstance(error, RecursionError) else ValueError


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_json_is_read_as_the_standard_library_reads_it_however_odd_it_is(text):
    assert outcome(decode_json, text) == outcome(json.loads, text)


@given(JSON, st.booleans())
def test_json_is_read_as_the_standard_library_reads_it(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert outcome(decode_json, text) == outcome(json.loads, text)


@given(
    st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.floats(0, 1e6)),
    st.sampled_from(("", "\ud800")),
)
def test_what_is_encoded_fast_says_the_same(value, odd):
    value = {"lease_id": odd, **value}
    assert json.loads(encode_plain(value)) == json.loads(encode_json(value)) == value
