"""Which hosts ``NO_PROXY`` names."""

from __future__ import annotations

import pytest

from airflow_provider_cfqueues.client.environment import read_environment
from airflow_provider_cfqueues.client.settings import parse_settings


def is_direct(host, no_proxy):
    settings = parse_settings(
        "c", host=f"https://{host}/client/v4", login=None, password="t", extra={"account_id": "a"}
    )
    environ = {"https_proxy": "http://proxy:3128", "no_proxy": no_proxy}
    return read_environment(settings, environ).proxy is None


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
def test_a_host_that_no_proxy_names_is_reached_directly(host, no_proxy):
    assert is_direct(host, no_proxy)


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
def test_any_other_host_is_reached_through_the_proxy(host, no_proxy):
    assert not is_direct(host, no_proxy)


def test_the_spelling_in_small_letters_counts_and_an_empty_one_means_no_proxy():
    settings = parse_settings("c", host=None, login=None, password="t", extra={"account_id": "a"})
    both = {"https_proxy": "http://first:1", "HTTPS_PROXY": "http://second:2"}
    assert read_environment(settings, both).proxy.host == "first"
    assert read_environment(settings, {**both, "https_proxy": ""}).proxy is None
    assert read_environment(settings, {"https_proxy": "", "ALL_PROXY": "third:3"}).proxy.host == "third"


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_DIR"])
def test_the_certificates_may_be_those_of_a_folder(tmp_path, variable):
    settings = parse_settings("c", host=None, login=None, password="t", extra={"account_id": "a"})
    network = read_environment(settings, {variable: str(tmp_path)})
    assert network.certificates == str(tmp_path)
    assert network.tls.get_ca_certs() == []  # of a folder, those that are asked for are read when they are
