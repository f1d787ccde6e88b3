"""
How a pulled body is decoded, and whether Airflow can pass it to other tasks.

Cloudflare's documentation says that json and bytes bodies are base64. In practice json bodies also arrive as plain
JSON text, depending on the producer. Plain objects, arrays and strings cannot be mistaken: their first character is
not in the base64 alphabet. Anything else is tried as base64 first, then as a plain scalar.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import msgspec

MAX_XCOM_DEPTH = 50
_XCOM_KEYS = {"__classname__", "__version__", "__data__", "__id__", "__type", "__var", "__source", "__cls"}


def decode_body(raw: Any, content_type: str | None) -> Any:
    """
    Return the body that a producer sent.

    :param raw: the ``body`` of a pulled message.
    :param content_type: its ``CF-Content-Type``; None is read as ``json``.
    :raises ValueError: the body does not fit the content type, or is ``v8``, which only Workers can decode.
    """
    if not isinstance(raw, str):
        return raw
    if content_type == "text":
        return raw
    if content_type == "bytes":
        return base64.b64decode(raw, validate=True)
    if content_type in ("json", None):
        return _decode_json(raw)
    raise ValueError(
        f"a body of content type {content_type!r} can only be decoded in a Worker; send it as json, text or bytes"
    )


_decode_fast = msgspec.json.Decoder().decode


def decode_json(text: str | bytes) -> Any:
    """
    Return what JSON says, as ``json.loads`` would.

    msgspec is many times as fast. The standard library is asked second: it also takes NaN, infinities, lone surrogates,
    a byte-order mark and UTF-16.

    :param text: the JSON.
    :raises ValueError: it is not JSON.
    :raises RecursionError: it is nested too deeply.
    """
    try:
        return _decode_fast(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # before msgspec 0.21 its errors are no ValueErrors
        return json.loads(text)


def encode_json(value: Any) -> bytes:
    """
    Return a value as compact JSON, in UTF-8.

    If there is text that UTF-8 cannot hold (lone surrogates), all text that is not ASCII is written as JSON escapes.

    :param value: the value.
    :raises ValueError: it holds NaN or an infinity, or refers to itself.
    :raises TypeError: it holds something that JSON cannot.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def encode_plain(value: Any) -> bytes:
    """
    Return a value as :func:`encode_json` does, many times as fast.

    :param value: lists and objects of text and finite numbers. Of other values msgspec makes something else.
    """
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return encode_json(value)


def why_not_xcom(value: Any) -> str | None:
    """
    Return why Airflow could not store a JSON value as an XCom, or give it to the next task unchanged; None if it can.

    If one value could not be stored, the task would fail after it leased a whole batch. Airflow reserves some keys for
    its serialization, its task runner sends integers of at most 64 bits and strict UTF-8, databases refuse NaN and NUL
    in JSON, and deep nesting exhausts its recursion.

    :param value: the value.
    """
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, (dict, list)) and depth > MAX_XCOM_DEPTH:
            return f"it is nested more than {MAX_XCOM_DEPTH} deep"
        if isinstance(item, dict):
            if reserved := _XCOM_KEYS & item.keys():
                return f"it has the key {min(reserved)!r}, which Airflow reserves"
            waiting += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            waiting += [(part, depth + 1) for part in item]
        elif isinstance(item, float) and not math.isfinite(item):
            return f"it has the number {item}"
        elif isinstance(item, int) and not -(2**63) <= item < 2**64:
            return "it has an integer of more than 64 bits"
        elif isinstance(item, str) and ("\0" in item or not _is_utf8(item)):
            return "it has text with NUL or lone surrogates"
    return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode_json(raw: str) -> Any:
    if not raw.lstrip().startswith(("{", "[", '"')):
        try:
            return decode_json(base64.b64decode(raw, validate=True))
        except (ValueError, RecursionError):
            pass  # not base64 of JSON: a plain scalar
    try:
        return decode_json(raw)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"the body is neither JSON nor base64 of JSON: {why}") from error
