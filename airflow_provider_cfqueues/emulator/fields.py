"""Reading the JSON of a request: every value is checked where it is taken, and a wrong one is a 4xx."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from airflow_provider_cfqueues.emulator.wire import JSON, ApiError

D = TypeVar("D")
BAD_SCHEMA = 10207
_SURROGATE = re.compile(rb"\\u[dD]")
_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


def parse(data: bytes, assume: Mapping[str, str]) -> Fields:
    """Read a request's body, which has to be a JSON object."""
    try:
        value = _DECODER.decode(data.decode())
        # A lone surrogate is legal in JSON but is no text: it cannot be stored, and must not fail later.
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ApiError(400, 10208, "Request body is not valid JSON") from error
    return _object(value, assume)


def _no_constant(name: str) -> None:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


class Fields:
    """
    A JSON object of a request; unknown keys are ignored, as the API does.

    :param values: the object.
    :param assume: what holds for each switch of ``assumptions``.
    :param path: where it is, for the message of an error.
    :param code: the code of an error in it.
    """

    __slots__ = ("_code", "_path", "_values", "assume")

    def __init__(self, values: JSON, assume: Mapping[str, str], path: str = "", code: int = BAD_SCHEMA) -> None:
        if assume["null"] == "ignored":
            values = {key: value for key, value in values.items() if value is not None}
        self._values = values
        self.assume = assume
        self._path = path
        self._code = code

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise ApiError(400, self._code, f'Required at "{self._at(key)}"')
        return self._values[key]

    def over(self, before: JSON) -> Fields:
        """Return these values, and those of an object where this one has none."""
        return Fields({**before, **self._values}, self.assume)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value of any type."""
        return self._values.get(key, default)

    def string(self, key: str) -> str:
        """Return a string that has to be there."""
        value: str = self._typed(key, str, "string")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """Return true or false."""
        return self._typed(key, bool, "boolean") if key in self else default

    def integer(self, key: str, low: int, high: int, default: D) -> int | D:
        """Return a whole number from ``low`` to ``high``; 5.0 is one."""
        return int(self._number(key, low, high, self._code, whole=True)) if key in self else default

    def seconds(self, key: str, low: float, high: float, default: D, code: int | None = None) -> float | D:
        """
        Return a number of seconds from ``low`` to ``high``.

        :param code: the code of an error, where it has one of its own.
        """
        whole = self.assume["fractions"] == "refused"
        return self._number(key, low, high, code or self._code, whole=whole) if key in self else default

    def object(self, key: str, code: int) -> Fields:
        """Return an object, empty where it is not given; an error in it has this code."""
        return _object(self._values.get(key, {}), self.assume, self._at(key), code)

    def objects(self, key: str) -> list[Fields]:
        """Return a list of objects, empty where it is not given."""
        values = self._typed(key, list, "array") if key in self else []
        path = self._at(key)
        return [_object(value, self.assume, f"{path}[{index}]", BAD_SCHEMA) for index, value in enumerate(values)]

    def strings(self, key: str, inner: str) -> list[str]:
        """Return the string that each object of a list has to have, none where the list is not given."""
        values = self._typed(key, list, "array") if key in self else []
        found: list[Any] = [value.get(inner) if isinstance(value, dict) else None for value in values]
        if all(isinstance(text, str) for text in found):
            return found
        return [item.string(inner) for item in self.objects(key)]  # slower, and says which one is wrong

    def mismatch(self, expected: str, key: str) -> ApiError:
        """Return the error for a value of the wrong type."""
        return _mismatch(expected, self._values[key], self._at(key), self._code)

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _typed(self, key: str, kind: type, name: str) -> Any:
        value = self[key]
        if not isinstance(value, kind):
            raise self.mismatch(name, key)
        return value

    def _number(self, key: str, low: float, high: float, code: int, *, whole: bool) -> Any:
        value = self._values[key]
        if not is_number(value):
            raise _mismatch("number", value, self._at(key), code)
        if not low <= value <= high:
            raise ApiError(400, code, f'Number must be between {low} and {high} at "{self._at(key)}"')
        if whole and value != int(value):
            raise ApiError(400, code, f'Expected integer, received float at "{self._at(key)}"')
        return value


def is_number(value: Any) -> bool:
    """Return whether a value is a number in JSON; in Python, true and false are numbers as well."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _object(value: Any, assume: Mapping[str, str], path: str = "", code: int = BAD_SCHEMA) -> Fields:
    if not isinstance(value, dict):
        raise _mismatch("object", value, path or "body", code)
    return Fields(value, assume, path, code)


def _mismatch(expected: str, value: Any, path: str, code: int) -> ApiError:
    received = _NAMES.get(type(value), "number")
    return ApiError(400, code, f'Expected {expected}, received {received} at "{path}"')
