"""What the environment says about the network, for both clients: the proxy and the trusted certificates."""

from __future__ import annotations

import os
import ssl
import sys
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from airflow_provider_cfqueues.client.settings import Hidden, Settings
from airflow_provider_cfqueues.exceptions import ConfigurationError

PROXY_VARIABLES = (("https_proxy", "HTTPS_PROXY"), ("all_proxy", "ALL_PROXY"))
"""Of two spellings the first that is set counts, as in curl and requests. Only an API on this machine is not https."""
CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """
    An HTTP proxy.

    :param variable: the variable that names it.
    :param url: its URL, with user name and password if it has them.
    :param host: where it is.
    :param port: where it is.
    :param is_tls: whether it speaks TLS itself.
    :param credentials: user name and password, with a colon between.
    """

    variable: str
    url: str = field(repr=False)
    host: str
    port: int
    is_tls: bool
    credentials: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Network:
    """
    How the API is reached.

    :param proxy: the proxy; None = directly.
    :param certificates: file or folder of the certificates to trust; None = those that come with ``requests``.
    """

    proxy: Proxy | None = None
    certificates: str | None = None

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """What ``requests`` would use, so that both clients trust the same. Making it takes milliseconds."""
        from requests.utils import DEFAULT_CA_BUNDLE_PATH
        from urllib3.util.ssl_ import create_urllib3_context

        context = create_urllib3_context()
        _trust(context, self.certificates or DEFAULT_CA_BUNDLE_PATH)
        return context


def read_environment(settings: Settings) -> Network:
    """
    Read the proxy and certificate variables. They do not apply to an API on this machine.

    :param settings: the connection.
    :raises ConfigurationError: a value cannot be used; the message names its variable.
    """
    if settings.is_loopback:
        return Network()
    try:
        certificates, proxy = _certificates(), _proxy()
    except ValueError as error:
        raise ConfigurationError(str(error), conn_id=settings.conn_id) from error
    api = urlsplit(settings.base_url)
    bypassed = _first("no_proxy", "NO_PROXY")[1]
    if proxy is not None and _is_bypassed(api.hostname or "", api.port or 443, bypassed):
        proxy = None
    return Network(proxy=proxy, certificates=certificates)


def _first(*names: str) -> tuple[str, str]:
    """Return the first of these variables that is set, and its value."""
    return next(((name, Hidden(os.environ[name].strip())) for name in names if name in os.environ), ("", ""))


def _certificates() -> str | None:
    for name in CERTIFICATE_VARIABLES:
        if path := str(_first(name)[1]):
            try:
                _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path)
            except OSError as error:  # an SSLError is one, too
                raise ValueError(f"{name} names no file or folder of certificates: {path!r} ({error})") from error
            return path
    return None


def _trust(context: ssl.SSLContext, path: str) -> None:
    folder = os.path.isdir(path)
    context.load_verify_locations(capath=path if folder else None, cafile=None if folder else path)


def _proxy() -> Proxy | None:
    name, value = next((found for names in PROXY_VARIABLES if (found := _first(*names))[1]), ("", ""))
    if not value:
        return None
    proxy = _parse_proxy(name, value)
    if proxy is None:  # the value may hold a password, so it is not shown
        raise ValueError(f"{name} is not the URL of an HTTP proxy such as http://proxy.example.com:3128")
    if proxy.is_tls and sys.version_info < (3, 11):  # pragma: no cover - 3.10 only
        raise ValueError(f"{name} names an https:// proxy, which asyncio can use from Python 3.11 on: use http://")
    return proxy


def _parse_proxy(variable: str, value: str) -> Proxy | None:
    """Read a URL. The caller raises: an error tracker would record the local variables, which hold the password."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    if "\\" in value or "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return None  # a password that is not quoted would be cut, and its pieces taken for host and port
    return Proxy(
        variable=variable,
        url=parts.geturl(),
        host=parts.hostname,
        port=port,
        is_tls=parts.scheme == "https",
        credentials=None if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}",
    )


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
