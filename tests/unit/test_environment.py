"""Which hosts ``NO_PROXY`` names."""

from __future__ import annotations

import pytest

from airflow_provider_cfqueues.client.environment import read_environment
from airflow_provider_cfqueues.client.settings import parse_settings


@pytest.fixture
def read(monkeypatch):
    def read(host=None, **variables):
        for name in ("https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        base_url = host and f"https://{host}/client/v4"
        return read_environment(
            parse_settings("c", host=base_url, login=None, password="t", extra={"account_id": "a"})
        ).proxy

    return read


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("api.cloudflare.com", "*"),
        ("api.cloudflare.com", "localhost, API.cloudflare.com"),
        ("api.cloudflare.com", ".cloudflare.com"),
        ("api.cloudflare.com", "*.cloudflare.com"),
        ("api.cloudflare.com", "cloudflare.com:443"),
        ("api.cloudflare.com", "fd00::/8,cloudflare.com"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3:8443", "10.1.2.3:8443"),
        ("[fd00::7]", "localhost,fd00::/8"),
        ("[fd00::7]", "[fd00::7]"),
        ("[fd00::7]", "[fd00::]/8"),
        ("[fd00::7]:8443", "[fd00::7]:8443"),
    ],
)
def test_a_host_that_no_proxy_names_is_reached_directly(read, host, no_proxy):
    assert read(host, https_proxy="http://proxy:3128", no_proxy=no_proxy) is None


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("api.cloudflare.com", ""),
        ("api.cloudflare.com", "flare.com,pi.cloudflare.com"),
        ("api.cloudflare.com", "cloudflare.com:8443"),
        ("api.cloudflare.com", "fd00::/8,[::1],[::1"),
        ("10.1.2.3", "11.0.0.0/8,fd00::/8,10.1.2"),
        ("[fd00::7]", "[fe80::]/8,10.0.0.0/8,[fd00::7]:8443"),
    ],
)
def test_any_other_host_is_reached_through_the_proxy(read, host, no_proxy):
    assert read(host, https_proxy="http://proxy:3128", no_proxy=no_proxy) is not None


def test_the_spelling_in_small_letters_counts_and_an_empty_one_means_no_proxy(read):
    both = {"https_proxy": "http://first:1", "HTTPS_PROXY": "http://second:2"}
    assert read(**both).host == "first"
    assert read(**{**both, "https_proxy": ""}) is None
    assert read(https_proxy="", ALL_PROXY="third:3").host == "third"


@pytest.mark.parametrize(
    ("url", "port"), [("proxy", 80), ("http://proxy", 80), ("https://proxy", 443), ("https://proxy:8", 8)]
)
def test_a_proxy_without_a_port_has_that_of_its_scheme(read, url, port):
    assert read(https_proxy=url).port == port


def test_the_certificates_may_be_those_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    network = read_environment(parse_settings("c", host=None, login=None, password="t", extra={"account_id": "a"}))
    assert network.certificates == str(tmp_path)
    assert network.tls.get_ca_certs() == []  # of a folder, those that are asked for are read when they are
