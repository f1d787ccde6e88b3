"""One call of the API, as its handler sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_cfqueues.emulator import fields, wire
from airflow_provider_cfqueues.emulator.broker import Broker
from airflow_provider_cfqueues.emulator.service import Service

MAX_PER_PAGE = 100
PER_PAGE = 20


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, with credentials that are right."""

    service: Service
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    data: bytes

    @property
    def broker(self) -> Broker:
        """The account's queues and messages."""
        return self.service.broker

    @property
    def fields(self) -> fields.Fields:
        """The JSON of the request."""
        return fields.parse(self.data, self.service.assume)

    @property
    def queue_id(self) -> str:
        """The queue in the path."""
        return self.path["queue_id"]

    def page(self, items: Sequence[wire.JSON], *, total: int, whole: bool = False) -> wire.JSON:
        """Return the page of a list that the query asks for."""
        page = self.query_number("page", 1, 10**9)
        per_page = self.query_number("per_page", PER_PAGE, MAX_PER_PAGE)
        if whole:
            page, per_page = 1, max(1, len(items))
        shown = items[(page - 1) * per_page : page * per_page]
        info = {
            "count": len(shown),
            "page": page,
            "per_page": per_page,
            "total_count": total,
            "total_pages": math.ceil(total / per_page),
        }
        return wire.success(list(shown), info=info)

    def query_choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        """Return one of the choices of the query."""
        value = self.query.get(key, [default])[-1]
        if value not in choices:
            raise wire.ApiError(400, fields.BAD_SCHEMA, f"{key} must be one of {', '.join(choices)}")
        return value

    def query_number(self, key: str, default: int, highest: int) -> int:
        """Return a whole number of the query, from 1."""
        text = self.query.get(key, [str(default)])[-1]
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= highest):
            raise wire.ApiError(400, fields.BAD_SCHEMA, f"{key} must be a whole number from 1 to {highest}")
        return int(text)


Handler = Callable[[Call], wire.JSON]
