"""What stands between the client and the API: TLS, certificates, proxies, pauses."""

from __future__ import annotations

import asyncio
import socket
import time

import jumping_time
import pytest
from raw_server import CLOSE, answer, answering

from airflow_provider_cfqueues.client import queue_calls
from airflow_provider_cfqueues.client.flow import Pause, once
from airflow_provider_cfqueues.client.settings import parse_settings
from airflow_provider_cfqueues.client.transport import AsyncClient, Client, RepeatPolicy
from airflow_provider_cfqueues.exceptions import ConfigurationError, TransportError

ELSEWHERE = "https://api.invalid/client/v4"


def settings(host, token="token"):
    extra = {"account_id": "0" * 32}
    return parse_settings("cloudflare_default", host=host, login=None, password=token, extra=extra)


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Drive a flow once, without repeats; return its result and the pauses that it made."""

    async def run_async(flow, host, sleep):
        client = AsyncClient(settings(host), policy=RepeatPolicy(max_seconds=0), sleep=sleep)
        try:
            return await client.run(flow)
        finally:
            await client.aclose()

    def run(flow, host):
        pauses = []

        async def sleep(seconds):
            pauses.append(seconds)

        if request.param == "async":
            return asyncio.run(run_async(flow, host, sleep)), pauses
        client = Client(settings(host), policy=RepeatPolicy(max_seconds=0), sleep=sleep)
        try:
            return client.run(flow), pauses
        finally:
            client.close()

    return run


def list_queues():
    return once(queue_calls.list_queues(1))


def test_a_server_that_speaks_no_tls_is_told_as_such(run, cloudflare_queues):
    with pytest.raises(TransportError, match=r"(?i)ssl") as caught:
        run(list_queues(), cloudflare_queues.base_url.replace("http:", "https:"))
    assert "emulator-token" not in str(caught.value)


def test_a_proxy_that_does_not_answer_cannot_have_let_a_request_through(run, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TransportError, match="Could not list") as caught:
        run(list_queues(), ELSEWHERE)
    assert not caught.value.maybe_applied
    assert "is the emulator running" not in str(caught.value)


def test_a_bundle_of_certificates_that_is_not_there_is_named(run, monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "/nowhere/ca.pem")
    with pytest.raises((ConfigurationError, TransportError), match=r"/nowhere/ca\.pem|No such file"):
        run(list_queues(), ELSEWHERE)


def test_a_flow_pauses_as_it_asked_to(run, cloudflare_queues):
    def flow():
        yield Pause(seconds=7)
        return "done"

    assert run(flow(), cloudflare_queues.base_url) == ("done", [7])


def test_an_interim_answer_is_passed_over(run):
    queues = answer(b'{"success": true, "result": []}')
    with answering(b"HTTP/1.1 100 Continue\r\n\r\n" + queues) as host:
        assert run(list_queues(), host)[0] == ([], False)


def test_long_headers_that_come_in_pieces_are_read(run):
    head, end = answer(b'{"success": true, "result": []}', "X-Policy: " + "a" * 40_000).split(b"X-", 1)
    with answering(head + b"X-" + end[:30_000], 0.02, end[30_000:]) as host:
        assert run(list_queues(), host)[0] == ([], False)


def test_a_connection_that_was_closed_while_idle_is_not_used_again(run):
    def twice():
        for _ in range(2):
            yield queue_calls.list_queues(1)
            time.sleep(0.05)  # nobody looks at the connection meanwhile

    with answering(answer(b'{"success": true, "result": []}'), 0.01, CLOSE) as host:
        assert run(twice(), host) == (None, [])


def test_a_server_that_takes_no_connection_is_given_up_after_five_seconds():
    async def scenario(port):
        client = AsyncClient(settings(f"http://127.0.0.1:{port}"), policy=RepeatPolicy(max_seconds=0))
        try:
            await client.run(list_queues())
        finally:
            await client.aclose()

    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)  # takes one connection to accept, and nobody accepts it
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        with pytest.raises(TransportError, match="no connection within 5 s") as caught:
            jumping_time.run(scenario(server.getsockname()[1]))
    assert not caught.value.maybe_applied
