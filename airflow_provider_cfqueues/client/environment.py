"""What the environment says about the network, for both clients: the proxy and the trusted certificates."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from airflow_provider_cfqueues.client.settings import Settings
from airflow_provider_cfqueues.exceptions import ConfigurationError

PROXY_VARIABLES = (("https_proxy", "HTTPS_PROXY"), ("all_proxy", "ALL_PROXY"))
"""Of two spellings the first that is set counts, as in curl and requests. Only an API on this machine is not https."""
CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, kw_only=True)
class Network:
    """
    How the API is reached.

    :param proxy: URL of an HTTP proxy; None = directly. It may hold a password.
    :param proxy_variable: the variable that names it.
    :param certificates: file or folder of the certificates to trust; None = those that come with ``requests``.
    """

    proxy: SplitResult | None = field(default=None, repr=False)
    proxy_variable: str = ""
    certificates: str | None = None

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """What ``requests`` would use, so that both clients trust the same. Making it takes milliseconds."""
        from requests.utils import DEFAULT_CA_BUNDLE_PATH
        from urllib3.util.ssl_ import create_urllib3_context

        context = create_urllib3_context()
        _trust(context, self.certificates or DEFAULT_CA_BUNDLE_PATH)
        return context


def read_environment(settings: Settings, environ: Mapping[str, str] = os.environ) -> Network:
    """
    Read the proxy and certificate variables; for an API on this machine none of them counts.

    :param settings: the connection.
    :param environ: the environment.
    :raises ConfigurationError: a value cannot be used; the message names its variable.
    """
    if settings.is_loopback:
        return Network()
    try:
        certificates = _certificates(environ)
        variable, proxy = _proxy(environ)
    except ValueError as error:
        raise ConfigurationError(str(error), conn_id=settings.conn_id) from error
    api = urlsplit(settings.base_url)
    bypassed = _first(environ, ("no_proxy", "NO_PROXY"))[1]
    if proxy is None or _is_bypassed(api.hostname or "", api.port or 443, bypassed):
        return Network(certificates=certificates)
    return Network(proxy=proxy, proxy_variable=variable, certificates=certificates)


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    return next(((name, environ[name].strip()) for name in names if name in environ), ("", ""))


def _certificates(environ: Mapping[str, str]) -> str | None:
    for name in CERTIFICATE_VARIABLES:
        if path := environ.get(name):
            try:
                _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path)
            except OSError as error:  # an SSLError is one, too
                raise ValueError(f"{name} names no file or folder of certificates: {path!r} ({error})") from error
            return path
    return None


def _trust(context: ssl.SSLContext, path: str) -> None:
    folder = os.path.isdir(path)
    context.load_verify_locations(capath=path if folder else None, cafile=None if folder else path)


def _proxy(environ: Mapping[str, str]) -> tuple[str, SplitResult | None]:
    found = (_first(environ, names) for names in PROXY_VARIABLES)
    name, value = next(((name, value) for name, value in found if value), ("", ""))
    if not value:
        return "", None
    try:
        proxy = urlsplit(value if "://" in value else f"http://{value}")
        usable = proxy.scheme in ("http", "https") and proxy.hostname and proxy.port != 0
    except ValueError:
        usable = None
    if usable and proxy.scheme == "https" and sys.version_info < (3, 11):  # pragma: no cover - 3.10 only
        raise ValueError(f"{name} names an https:// proxy, which asyncio can use from Python 3.11 on: use http://")
    if not usable:  # the value may hold a password, so it is not shown
        raise ValueError(f"{name} is not the URL of an HTTP proxy such as http://proxy.example.com:3128")
    return name, proxy


def _is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Return whether ``NO_PROXY`` names a host: by name or domain, by address or range, each with or without a port."""
    for entry in no_proxy.lower().replace(",", " ").split():
        name, entry_port = _split_port(entry)
        if entry_port in ("", str(port)) and (name == "*" or _names(name, host)):
            return True
    return False


def _split_port(entry: str) -> tuple[str, str]:
    """Part an entry from its port: an IPv6 address has one only behind brackets."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return (name + rest, "") if rest.startswith("/") else (name, rest[1:])
    name, _, port = entry.partition(":")
    return (entry, "") if ":" in port else (name, port)


def _names(name: str, host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        domain = name.lstrip("*.")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ip_network(name, strict=False)
    except ValueError:
        return False
