import asyncio
from datetime import datetime, timezone

import pytest

from airflow_provider_cfqueues.client.answers import Answer
from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, RateLimitedError

CALL = Call(operation="do", name="do it", method="GET", path="/x", read=lambda envelope: envelope.result)


def read(status, content=b"{}", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = Answer(status=status, headers=names, content=content, sent_at=datetime.now(timezone.utc))
    return asyncio.run(CALL.reading(answer))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "7"}, 7),
        ({"retry_after": " 0 "}, 0),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "Sun, 01 Nov 2026 10:00:09 GMT", "date": "Sun, 01 Nov 2026 10:00:00 GMT"}, 9),
        ({"retry_after": "Sun, 01 Nov 2026 10:00:00 GMT", "date": "Sun, 01 Nov 2026 10:00:09 GMT"}, 0),
        ({"retry_after": "Sun, 01 Nov 2026 10:00:00 GMT"}, None),
        ({"retry_after": "Sun, 01 Nov 2026 10:00:00 GMT", "date": "garbled"}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_counted_from_that_of_the_answer(headers, seconds):
    with pytest.raises(RateLimitedError) as caught:
        read(429, **headers)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"null", b"<html>" + b"x" * 10_000])
@pytest.mark.parametrize("status", [200, 302, 404, 429, 500])
def test_whatever_the_answer_holds_is_an_error_of_ours_with_a_short_text(status, content):
    with pytest.raises(CloudflareQueuesError) as caught:
        read(status, content)
    assert len(str(caught.value)) < 700
    assert caught.value.ray_id is None


def test_a_success_is_what_the_call_reads():
    assert read(200, b'{"success": true, "result": 5}') == 5
