"""One call of the API, as its handler sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_cfqueues.emulator import fields, wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_cfqueues.emulator.service import Service


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, with credentials that are right."""

    service: Service
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    data: bytes

    @property
    def fields(self) -> fields.Fields:
        """The JSON of the request."""
        return fields.parse(self.data, self.service.assume)

    @property
    def queue_id(self) -> str:
        """The queue in the path."""
        return self.path["queue_id"]

    def query_number(self, key: str, default: int, highest: int) -> int:
        """
        Return a whole number of the query, from 1.

        :param key: its key.
        :param default: what holds where it is not given.
        :param highest: the most it may be.
        """
        text = self.query.get(key, [str(default)])[-1]
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= highest):
            raise wire.ApiError(400, fields.BAD_SCHEMA, f"{key} must be a whole number from 1 to {highest}")
        return int(text)


Handler = Callable[[Call], wire.JSON]
