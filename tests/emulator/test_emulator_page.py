"""The page at ``GET /``: what it loads, and what a browser makes of it."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess

import httpx
import pytest

from airflow_provider_cfqueues.emulator import Emulator

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def root_of(cf: Emulator) -> str:
    return cf.base_url.removesuffix("/client/v4") + "/"


def test_the_page_loads_nothing_from_elsewhere(cf, http):
    response = http.get(root_of(cf))
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert set(re.findall(r"https?://[^'\"\s]*", response.text)) == {"http://www.w3.org/2000/svg"}  # of the icon


def test_state_shows_as_many_messages_as_are_asked_for(api, cf):
    api.push("a", "b", "c")
    api.pull(batch_size=1)
    state = api.http.get(f"{root_of(cf)}_emulator/state", params={"messages": 2}).json()
    assert [message["body"] for message in state["queues"][0]["messages"]] == ["a", "b"]
    assert [message["deliveries_left"] for message in state["queues"][0]["messages"]] == [3, 4]
    assert state["queues"][0]["backlog_count"] == 3
    refused = api.http.get(f"{root_of(cf)}_emulator/state", params={"messages": "x"})
    assert refused.status_code == 400


def test_state_counts_the_deliveries_that_are_left_as_the_emulator_was_told_to_count():
    with Emulator(assume={"attempts": "max-retries"}, queues={"orders": {"max_retries": 2}}) as cf:
        cf.send(cf.queues["orders"], 1)
        pull(cf, "orders")
        assert cf.state()["queues"][0]["messages"][0]["deliveries_left"] == 1


def test_state_counts_each_queue_apart():
    with Emulator(queues=["orders", "invoices"]) as cf:
        for queue in ("orders", "invoices"):
            cf.send(cf.queues[queue], 1)
            cf.send(cf.queues[queue], 2, delay_seconds=60)
        pull(cf, "invoices")
        assert [queue["states"] for queue in cf.state()["queues"]] == [
            {"ready": 1, "delayed": 1, "leased": 0},
            {"ready": 0, "delayed": 1, "leased": 1},
        ]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """Return what a browser makes of the page, once it has read the state of a busy emulator."""
    if not CHROMIUM:
        pytest.skip("no Chromium found; CHROMIUM=/path/to/chromium names one")
    queues = {"orders": {"dead_letter_queue": "orders-failed", "max_retries": 1}, "invoices": {"max_retries": 0}}
    with Emulator(queues=queues) as cf:
        for body in ("first <img src=x onerror=alert(1)>", "second"):
            cf.send(cf.queues["orders"], body, content_type="text")
        cf.send(cf.queues["invoices"], {"invoice": 17})
        cf.send(cf.queues["invoices"], [18], delay_seconds=600)
        pull(cf, "orders")
        cf.advance(40)
        pull(cf, "orders", batch_size=1)
        cf.add_fault("ack", status=503)
        profile = tmp_path_factory.mktemp("profile")
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom"]
        shown = subprocess.run([*command, root_of(cf)], capture_output=True, text=True, check=True, timeout=60).stdout
    return re.sub(r"<(script|style)>.*?</\1>", "", shown.partition("<body>")[2], flags=re.DOTALL)


@pytest.fixture(scope="module")
def text(page) -> str:
    """Return the texts of the page, a line each."""
    return "\n".join(html.unescape(text) for text in re.split(r"<[^>]+>", page) if text.strip())


def pull(cf: Emulator, queue: str, **request: int) -> None:
    url = f"{cf.base_url}/accounts/{cf.account_id}/queues/{cf.queues[queue]}/messages/pull"
    headers = {"Authorization": f"Bearer {cf.api_token}"}
    assert httpx.post(url, json=request, headers=headers).status_code == 200


def test_the_page_says_where_each_message_is_and_what_its_next_delivery_does(page, text):
    assert re.search(r"first <img src=x onerror=alert\(1\)>\nleased, ends in \d+ s\n2\nUnless acked: it moves to", text)
    assert "second\nready\n1\nDelivery 2 of 2, the last. Unless acked: it moves to orders-failed" in text
    assert '{"invoice":17}\nready\n0\nDelivery 1 of 1, the last. Unless acked: it is deleted' in text
    assert "[18]\ndelayed, ready in 9 min" in text
    assert "<img" not in page
    warned = re.findall(r'<td class="last">([^<]*)', page)
    assert len(warned) == text.count("Unless acked: it") == 4


def test_the_page_says_what_each_queue_holds_and_what_time_it_is(text):
    assert re.search(r" UTC \(40 s ahead\)", text)
    assert "faults waiting for: ack" in text
    assert "max_retries 1 · retry_delay 0 s · lease 30 s · batch_size 10 · dead-letter queue orders-failed" in text
    assert "A pull now gets 1 message" in text
    assert "A pull now gets no messages" in text
