from __future__ import annotations

from airflow_provider_cfqueues.telemetry.rate import RequestRate


def test_requests_that_stay_below_the_limit_are_no_reason_to_warn(caplog):
    now = 0.0
    rate = RequestRate(lambda: now)
    for _ in range(2000):
        rate.count("cloudflare_default")
        now += 300 / 899
    assert caplog.text == ""


def test_a_task_that_becomes_too_fast_is_warned_once(caplog):
    now = 0.0
    rate = RequestRate(lambda: now)
    for number in range(3000):
        rate.count("cloudflare_default")
        now += 1 if number < 1000 else 0.25
    [record] = caplog.records
    assert "'cloudflare_default': this task made 900 API requests in 299 s" in record.getMessage()
