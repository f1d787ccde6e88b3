"""What both clients make of connections: time-outs, sizes, proxies and certificates, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import sys
import time
import traceback
from datetime import datetime, timezone
from urllib.parse import urlsplit

import pytest
from raw_server import API, CLOSE, Certificates, Layered, answer, answering, listening, proxying, read_request

from airflow_provider_cfqueues.client import message_calls, queue_calls
from airflow_provider_cfqueues.client.answers import MAX_ANSWER_BYTES, Answer
from airflow_provider_cfqueues.client.flow import once
from airflow_provider_cfqueues.client.settings import parse_settings
from airflow_provider_cfqueues.client.transport import AsyncClient, Client, RepeatPolicy
from airflow_provider_cfqueues.emulator import Emulator
from airflow_provider_cfqueues.exceptions import (
    CloudflareQueuesError,
    ConfigurationError,
    MalformedResponseError,
    NotFoundError,
    ResponseTooLargeError,
    ResponseTooSlowError,
    TransportError,
)
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

METRICS = json.dumps({"success": True, "result": {"backlog_count": 7}}).encode()
CALL = message_calls.get_metrics("orders")
VARIABLES = ("https_proxy", "all_proxy", "no_proxy", "http_proxy")
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in (*VARIABLES, *map(str.upper, VARIABLES), *CERTIFICATES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["sync", "async"])
def caller(request):
    """Make calls one after another over one client, each tried once."""

    def make(host, *calls, timeout=30, account_id="a", token="t0ken"):
        settings = parse_settings("c", host=host, login=None, password=token, extra={"account_id": account_id})
        policy = RepeatPolicy(max_seconds=0, answer_timeout=timeout)
        if request.param == "async":
            return asyncio.run(in_a_loop(settings, policy, calls or (CALL,)))
        client = Client(settings, policy=policy)
        try:
            return [(client.run(once(call)), time.sleep(0.02))[0].backlog_count for call in calls or (CALL,)]
        finally:
            client.close()

    async def in_a_loop(settings, policy, calls):
        client = AsyncClient(settings, policy=policy)
        try:
            # Blocked, so that the loop cannot see meanwhile that a connection was closed.
            return [(await client.run(once(call)), time.sleep(0.02))[0].backlog_count for call in calls]  # noqa: ASYNC251
        finally:
            await client.aclose()

    return make


def head(*headers):
    return "\r\n".join(["HTTP/1.1 200 OK", *headers]).encode() + b"\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [head("Content-Length: 1000"), b"\r\n", *[b" ", 0.1] * 20],
        [head("Transfer-Encoding: chunked"), b"\r\n", *[b"1\r\n \r\n", 0.1] * 20],
        [head(), *[b"X: a\r\n", 0.1] * 20],
    ],
    ids=["body", "chunks", "headers"],
)
def test_an_answer_that_trickles_ends_in_time(caller, pieces):
    with answering(*pieces) as host, pytest.raises(ResponseTooSlowError, match="not complete in time") as caught:
        caller(host, timeout=0.5)
    assert caught.value.maybe_applied
    assert not caught.value.repeatable


def test_silence_is_a_failure_that_may_pass(caller):
    with answering(2) as host, pytest.raises(TransportError, match=r"nothing arrived|timed out") as caught:
        caller(host, timeout=0.3)
    assert type(caught.value) is TransportError
    assert caught.value.maybe_applied


@pytest.mark.parametrize(
    "pieces",
    [
        [head("Transfer-Encoding: chunked"), b"\r\n", *[b"100000\r\n" + b" " * 0x100000 + b"\r\n"] * 80],
        [head("Content-Length: 10000000000"), b"\r\n", *[b" " * 0x100000] * 80],
        [answer(gzip.compress(b" " * (MAX_ANSWER_BYTES + 1)), "Content-Encoding: gzip")],
        [answer(gzip.compress(gzip.compress(b" " * (MAX_ANSWER_BYTES + 1))), "Content-Encoding: gzip, gzip")],
    ],
    ids=["chunks", "length", "bomb", "bomb in a bomb"],
)
def test_an_answer_without_end_is_not_read_to_its_end(caller, pieces):
    with answering(*pieces) as host, pytest.raises(ResponseTooLargeError, match="larger than 80 MB"):
        caller(host)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (CALL, "GET /client/v4/accounts/a/queues/orders/metrics HTTP/1.1"),
        (queue_calls.list_queues(2, "a&b"), "GET /client/v4/accounts/a/queues?page=2&name=a%26b HTTP/1.1"),
    ],
)
def test_both_clients_ask_for_the_same_with_a_query_only_where_there_is_one(caller, call, line):
    seen = []
    with answering(answer(b"", status="404 Not Found"), seen=seen) as host, pytest.raises(NotFoundError):
        caller(host, call)
    assert seen[0].partition("\r\n")[0] == line


def test_answers_are_not_asked_for_in_compressed_form_and_read_if_a_proxy_compresses_them(caller):
    seen = []
    with answering(answer(gzip.compress(METRICS), "Content-Encoding: gzip"), seen=seen) as host:
        assert caller(host) == [7]
    assert "accept-encoding: identity" in seen[0].lower()


def test_an_answer_that_is_not_compressed_as_it_says_is_malformed(caller):
    with answering(answer(b"none", "Content-Encoding: gzip")) as host, pytest.raises(MalformedResponseError):
        caller(host)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.0 200 OK\r\n\r\n" + METRICS, CLOSE],
        [answer(METRICS, "Connection: close"), CLOSE],
        [answer(METRICS), CLOSE],
    ],
    ids=["HTTP/1.0", "announced", "unannounced"],
)
def test_a_connection_that_the_server_closed_is_not_used_again(caller, pieces):
    with answering(*pieces) as host:
        assert caller(host, CALL, CALL) == [7, 7]


def test_what_follows_an_answer_is_not_taken_for_the_answer_to_the_next_request(caller):
    other = json.dumps({"success": True, "result": {"backlog_count": 99}}).encode()
    with answering(answer(METRICS) + answer(other)) as host:
        assert caller(host, CALL, CALL, CALL) == [7, 7, 7]


def test_a_cut_answer_is_one_that_may_have_been_applied(caller):
    cut = head("Content-Length: 1000") + b"\r\n{"
    with answering(cut, CLOSE) as host, pytest.raises(TransportError) as caught:
        caller(host)
    assert (caught.value.maybe_applied, caught.value.queue) == (True, "orders")


def test_other_tasks_have_their_turn_while_a_large_answer_is_read():
    body = json.dumps({"text": "x" * 100_000})
    items = [{"id": f"{n}", "lease_id": f"l{n}", "body": body, "attempts": 1} for n in range(100)]
    large = json.dumps({"success": True, "result": {"messages": items}}).encode()
    received = Answer(status=200, headers={}, content=large, sent_at=datetime.now(timezone.utc))
    turns = list(message_calls.pull("orders", 100, 60, 60).reading(received).__await__())
    assert len(turns) > 20


# -- proxies and certificates ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def api():
    with Emulator(allow_hosts=[API]) as emulator:
        yield emulator


@pytest.fixture
def proxied(api, certificates):
    """Start proxies in front of an emulator that is the API; what they see is listed."""
    seen = []

    def start(**options):
        port = urlsplit(api.base_url).port
        return proxying(port, certificates, seen=seen, **options)

    return start, seen


@pytest.fixture
def call_api(caller, api):
    """Call the API by its name, which only a proxy can reach."""
    queue = next(iter(api.queues.values()))

    def call():
        settings = {"account_id": api.account_id, "token": api.api_token}
        return caller(f"https://{API}/client/v4", *[message_calls.get_metrics(queue)] * 2, **settings)

    return call


@pytest.mark.parametrize("certificate_variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("proxy_variable", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_the_proxy_and_the_certificates_of_the_environment_are_used(
    proxied, call_api, certificates, monkeypatch, proxy_variable, certificate_variable
):
    start, seen = proxied
    monkeypatch.setenv(certificate_variable, str(certificates.path))
    with start() as port:
        monkeypatch.setenv(proxy_variable, f"127.0.0.1:{port}")
        assert call_api() == [0, 0]
    (connect,) = seen  # one tunnel, used twice
    assert connect.startswith(f"CONNECT {API}:443 HTTP/1.")
    assert "authorization" not in connect.lower()


def test_a_proxy_gets_the_user_name_and_password_of_its_url(proxied, call_api, certificates, monkeypatch):
    start, _ = proxied
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.path))
    with start(user="me:p@ss") as port:
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{port}")
        assert call_api() == [0, 0]


def test_a_proxy_that_refuses_is_named_by_its_variable_and_nothing_was_applied(
    proxied, call_api, certificates, monkeypatch
):
    start, _ = proxied
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.path))
    with start(user="me:right") as port:
        monkeypatch.setenv("https_proxy", f"http://me:wr0ng@127.0.0.1:{port}")
        with pytest.raises(TransportError, match=r"407.*https_proxy") as caught:
            call_api()
    assert not caught.value.maybe_applied
    assert "wr0ng" not in str(caught.value)


def test_a_request_that_went_through_a_proxy_may_have_been_applied_where_its_connection_broke(
    caller, certificates, monkeypatch
):
    as_api = certificates.server(API)

    def serve(connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        assert read_request(Layered(connection, as_api)).startswith("GET ")

    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.path))
    with listening(serve) as port:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")
        with pytest.raises(TransportError) as caught:
            caller(f"https://{API}/client/v4")
    assert caught.value.maybe_applied


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no TLS within TLS before")
def test_a_proxy_may_itself_speak_tls(proxied, call_api, certificates, monkeypatch):
    start, seen = proxied
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.path))
    with start(tls=True) as port:
        monkeypatch.setenv("https_proxy", f"https://127.0.0.1:{port}")
        assert call_api() == [0, 0]
    assert len(seen) == 1


def test_a_certificate_that_nobody_vouches_for_stops_the_call_before_it_is_sent(proxied, call_api, monkeypatch):
    start, _ = proxied
    with start() as port:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")
        with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            call_api()
    assert not caught.value.maybe_applied


def test_a_certificate_for_another_name_stops_the_call_behind_a_proxy_too(proxied, call_api, certificates, monkeypatch):
    start, _ = proxied
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.path))
    with start(name="other.cloudflare.test") as port:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")
        with pytest.raises(TransportError, match="Hostname mismatch") as caught:
            call_api()
    assert not caught.value.maybe_applied


def test_no_proxy_is_asked_for_a_name_that_no_proxy_lists(proxied, call_api, certificates, monkeypatch):
    start, seen = proxied
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.path))
    with start() as port:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "fd00::/8,[::1],.cloudflare.test")
        with pytest.raises(TransportError) as caught:  # nothing has this name
            call_api()
    assert seen == []
    assert not caught.value.maybe_applied


def test_no_proxy_is_asked_for_an_api_on_this_machine(caller, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    with answering(answer(METRICS)) as host:
        assert caller(host) == [7]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "http://me:s3cret@proxy:99999"),
        ("https_proxy", "http://me:s3cret@"),
        ("ALL_PROXY", "socks5://me:s3cret@proxy:1080"),
        ("all_proxy", "http://[s3cret"),
        ("https_proxy", "http://me:s3cret\\9@proxy:3128"),
        ("https_proxy", "http://me:12/s3cret@proxy:3128"),
        ("REQUESTS_CA_BUNDLE", "/nowhere"),
        ("CURL_CA_BUNDLE", __file__),
        ("SSL_CERT_FILE", "/nowhere"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(call_api, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=variable) as caught:
        call_api()
    assert "s3cret" not in str(caught.value)


def shown_by_an_error_tracker(error):
    """Return the local variables of our frames, as it would record them."""
    shown = []
    while error is not None:
        frames = list(traceback.walk_tb(error.__traceback__))
        ours = [frame for frame, _ in frames if "airflow_provider_cfqueues/" in frame.f_code.co_filename]
        shown += [repr(value) for frame in ours for value in frame.f_locals.values()]
        error = error.__cause__ or error.__context__
    return "\n".join(shown)


def test_no_local_variable_of_ours_shows_the_token_of_a_request_that_failed(caller):
    with answering(CLOSE) as host, pytest.raises(TransportError) as caught:
        caller(host, token="t0ken-s3cret")
    assert "read the metrics" in shown_by_an_error_tracker(caught.value)
    assert "t0ken-s3cret" not in shown_by_an_error_tracker(caught.value)


@pytest.mark.parametrize("url", ["http://me:wr0ng@127.0.0.1:{}", "socks5://me:wr0ng@127.0.0.1:{}"])
def test_no_local_variable_of_ours_shows_the_password_of_a_proxy(proxied, call_api, certificates, monkeypatch, url):
    start, _ = proxied
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.path))
    with start(user="me:right") as port:
        monkeypatch.setenv("https_proxy", url.format(port))
        with pytest.raises(CloudflareQueuesError) as caught:
            call_api()
    shown = shown_by_an_error_tracker(caught.value)
    assert shown
    assert "wr0ng" not in shown
    assert base64.b64encode(b"me:wr0ng").decode() not in shown


@pytest.mark.parametrize("fields", [{"extra": {"acount_id": "a"}}, {"login": "me@example.com"}])
def test_no_local_variable_of_ours_shows_the_secrets_of_a_connection_that_cannot_be_used(cf, connect, fields):
    connect(cf, password="t0ken-s3cret", **fields)
    with pytest.raises(ConfigurationError) as caught:
        CloudflareQueuesHook().get_conn()
    shown = shown_by_an_error_tracker(caught.value)
    assert "cloudflare_default" in shown
    assert "t0ken-s3cret" not in shown
