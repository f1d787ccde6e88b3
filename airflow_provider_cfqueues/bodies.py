"""
How a pulled body is decoded: the one place that knows the json-plain-or-base64 trap.

Cloudflare's documentation says that json and bytes bodies are base64. In practice json bodies also arrive as plain
JSON text, depending on the producer. Plain objects, arrays and strings cannot be mistaken: their first character is
not in the base64 alphabet. Anything else is tried as base64 first, then as a plain scalar.
"""

from __future__ import annotations

import base64
import json
from typing import Any


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
    msg = f"a body of content type {content_type!r} can only be decoded in a Worker; send it as json, text or bytes"
    raise ValueError(msg)


def _decode_json(raw: str) -> Any:
    if not raw.lstrip().startswith(("{", "[", '"')):
        try:
            return _loads(base64.b64decode(raw, validate=True))
        except ValueError:
            pass  # not base64 of JSON: a plain scalar
    try:
        return _loads(raw)
    except ValueError as error:
        msg = f"the body is neither JSON nor base64 of JSON: {error}"
        raise ValueError(msg) from error


def _loads(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        msg = "it is nested too deeply"
        raise ValueError(msg) from None
