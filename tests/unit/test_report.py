"""What a run says at its end, for one message and for more."""

from collections import Counter

import pytest

from airflow_provider_cfqueues.engines.processing.report import Failure, Report
from airflow_provider_cfqueues.engines.redriving.options import RedriveReport
from airflow_provider_cfqueues.engines.settlement import Kind
from airflow_provider_cfqueues.texts import per_second

CONCLUSIONS = {
    1: "1 of 1 message failed: 1 is delivered again after a delay; 1 more delivery was skipped, as its lease ended "
    "before the handler began; 1 may have had no delivery left",
    1_000: "1,000 of 1,000 messages failed: 1,000 are delivered again after a delay; 1,000 more deliveries were "
    "skipped, as their leases ended before the handler began; 1,000 may have had no delivery left",
}
REMEDIES = {
    1: "Fix the cause. 1 message is delivered again after a delay. "
    "Of these, 1 may have had no delivery left: Cloudflare takes them away.",
    1_000: "Fix the cause. 1,000 messages are delivered again after a delay. "
    "Of these, 1,000 may have had no delivery left: Cloudflare takes them away.",
}


@pytest.mark.parametrize("count", CONCLUSIONS)
def test_the_numbers_of_a_conclusion_agree(count):
    fates = Counter({Kind.RETRIED: count, Kind.EXPIRED: count})
    report = Report(handled=count, failed=count, exhausted=count, fates=fates)
    assert report.conclusion() == CONCLUSIONS[count]
    assert report.remedy() == REMEDIES[count]


@pytest.mark.parametrize(
    ("in_doubt", "counts"),
    [
        (0, "2 of 3 messages failed"),
        (1, "2 of 3 messages failed and 1 message is not confirmed"),
        (2, "2 of 3 messages failed and 2 messages are not confirmed"),
    ],
)
def test_a_verdict_counts_what_failed_and_what_is_not_confirmed(in_doubt, counts):
    example = {"no such customer": Failure("m", 5, "no such customer")}
    report = Report(handled=3, failed=2, in_doubt=in_doubt, kinds=Counter(example.keys()), examples=example)
    reasons = "1 x no such customer, for example m at delivery 5; 1 more, see the log"
    assert report.verdict(" (none may)") == f"{counts} (none may): {reasons}"


@pytest.mark.parametrize("report", [Report, RedriveReport])
def test_a_report_is_exact_to_the_millisecond(report):
    assert report(seconds=1.23456).to_xcom()["seconds"] == 1.235


@pytest.mark.parametrize(
    ("count", "seconds", "told"),
    [
        (0, 0, "0/s"),
        (0, 5, "0/s"),
        (1, 2, "0.5/s"),
        (1, 60, "0.02/s"),
        (99, 10, "9.9/s"),
        (10, 1, "10/s"),
        (2406, 1, "2,406/s"),
    ],
)
def test_a_rate_has_a_decimal_if_it_is_slow(count, seconds, told):
    assert per_second(count, seconds) == told
