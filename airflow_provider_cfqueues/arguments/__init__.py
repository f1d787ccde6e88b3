"""
What callers may pass, and what it means: leases, messages, delays and counts, each parsed in one place.

Arguments of operators are often rendered templates or XComs, so numbers may be text and lists may be nested, lazy or
a string. A value that cannot be read is an error with its type and its shortened text; nothing is skipped.
"""

from __future__ import annotations

from airflow_provider_cfqueues.arguments.administration import parse_consumer, parse_queue_settings
from airflow_provider_cfqueues.arguments.leases import delay_leases, parse_leases
from airflow_provider_cfqueues.arguments.messages import parse_message, parse_messages
from airflow_provider_cfqueues.arguments.values import (
    MAX_VISIBILITY_SECONDS,
    Seconds,
    is_id,
    is_none,
    parse_choice,
    parse_count,
    parse_delay,
    parse_id,
    parse_name,
    parse_number,
    parse_optional,
    parse_seconds,
    parse_visibility_timeout,
    read_date,
    refuse_none,
    require_one,
)
