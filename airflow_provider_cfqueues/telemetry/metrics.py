"""
Metrics for Airflow, and spans for OpenTelemetry: each name and tag is decided here.

``docs/metrics.md`` lists them. No lease, no body and no credential is ever among them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_cfqueues import __version__
from airflow_provider_cfqueues._compat import Stats
from airflow_provider_cfqueues.client.call import Call, Exchange
from airflow_provider_cfqueues.client.settings import Settings
from airflow_provider_cfqueues.models import AckResult, PullResult, QueueMetrics, SendResult
from airflow_provider_cfqueues.telemetry.rate import RequestRate

PREFIX = "cloudflare_queues"
TRACER = "airflow_provider_cfqueues.telemetry"
OPERATION_TYPES = {"pull": "receive", "ack": "settle", "send": "send"}
"""OpenTelemetry, semantic conventions for messaging: ``messaging.operation.type``."""


def count(name: str, number: int, *, queue: str) -> None:
    """
    Add to a counter. If ``number`` is 0, nothing is sent.

    :param name: its name, without the prefix.
    :param number: how many.
    :param queue: ID of the queue.
    """
    if number:
        Stats.incr(f"{PREFIX}.{name}", number, tags={"queue": queue})


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """
    Observes the requests of one connection.

    :param settings: the connection.
    :param moved: gets the ID of a queue and how many messages of it a request pulled, sent or settled.
    :param rate: warns of too many requests.
    """

    settings: Settings
    moved: Callable[[str, Mapping[str, int]], None]
    rate: RequestRate = field(default_factory=RequestRate)

    @contextmanager
    def request(self, call: Call[Any]) -> Iterator[Exchange]:
        """
        Time one request, trace it as a span, and count the messages that it moved.

        :param call: what is asked.
        """
        self.rate.count(self.settings.conn_id)
        exchange = Exchange()
        tags = {"call": call.operation, **({"queue": call.queue} if call.queue else {})}
        began = time.monotonic()
        try:
            with _span(call, self.settings, exchange):
                yield exchange
        except BaseException as error:
            Stats.incr(f"{PREFIX}.request_errors", tags={**tags, "error": type(error).__name__})
            raise
        finally:
            Stats.timing(f"{PREFIX}.request", timedelta(seconds=time.monotonic() - began), tags=tags)
        if call.queue:
            self._count(call, call.queue, exchange.result)

    def _count(self, call: Call[Any], queue: str, result: Any) -> None:
        moved = _moved(result)
        for name, number in moved.items():
            count(name, number, queue=queue)
        metrics = result if isinstance(result, QueueMetrics) else getattr(result, "backlog", None)
        if isinstance(metrics, QueueMetrics):
            Stats.gauge(f"{PREFIX}.backlog", metrics.backlog_count, tags={"queue": queue})
        if moved:
            self.moved(queue, moved)


def _moved(result: Any) -> dict[str, int]:
    if isinstance(result, PullResult):
        return {"pulled": len(result)}
    if isinstance(result, SendResult):
        return {"sent": result.sent_count}
    if isinstance(result, AckResult):
        return {
            "acked": result.confirmed_acks,
            "retried": result.confirmed_retries,
            "unconfirmed": len(result.unconfirmed),
        }
    return {}


@contextmanager
def _span(call: Call[Any], settings: Settings, exchange: Exchange) -> Iterator[None]:
    """Trace a request if OpenTelemetry is set up: then it is imported already."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        yield
        return
    with trace.get_tracer(TRACER, __version__).start_as_current_span(
        f"{call.operation} {call.queue}" if call.queue else call.operation,
        kind=trace.SpanKind.CLIENT,
        attributes=_asked(call, settings),
        record_exception=False,  # the API's own text, in which credentials are not yet hidden
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(trace.StatusCode.ERROR)
            raise
        finally:
            span.set_attributes(_answered(call, exchange))


def _asked(call: Call[Any], settings: Settings) -> dict[str, str]:
    known = {
        "messaging.system": PREFIX,
        "messaging.operation.name": call.operation,
        "messaging.operation.type": OPERATION_TYPES.get(call.operation),
        "messaging.destination.name": call.queue,
        "http.request.method": call.method,
        "server.address": urlsplit(settings.base_url).hostname,
        f"{PREFIX}.conn_id": settings.conn_id,
    }
    return {name: value for name, value in known.items() if value}


def _answered(call: Call[Any], exchange: Exchange) -> dict[str, int]:
    known: dict[str, int] = {}
    if exchange.answer is not None:
        known["http.response.status_code"] = exchange.answer.status
    if isinstance(exchange.result, PullResult):
        known["messaging.batch.message_count"] = len(exchange.result)
    elif call.operation in OPERATION_TYPES and call.operation != "pull":
        known["messaging.batch.message_count"] = sum(
            len(items) for items in call.payload.values() if isinstance(items, list)
        )
    return known
