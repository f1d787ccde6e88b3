"""What an Airflow connection says, checked once: where the API is, for which account, with which credentials."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_cfqueues import __version__
from airflow_provider_cfqueues.arguments import is_id
from airflow_provider_cfqueues.exceptions import ConfigurationError

DEFAULT_BASE_URL = "https://api.cloudflare.com/client/v4"
_EXTRA_KEYS = {"account_id", "api_key"}
# Airflow 2's page sends each field twice when it tests a form; what it saves has the short names alone.
_EXTRA_TWINS = {f"extra__cloudflare__{key}" for key in _EXTRA_KEYS}


class Hidden(str):
    """A secret. Its ``repr`` does not show it, because error trackers record the ``repr`` of local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """
    What authenticates requests.

    :param secret: an API token, of a user or of an account (prefix ``cfat_``); beside an e-mail the Global API Key.
    :param email: the account e-mail of the legacy scheme.
    """

    secret: str = field(repr=False)
    email: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a request."""
        if self.email is None:
            return {"Authorization": f"Bearer {self.secret}"}
        return {"X-Auth-Email": self.email, "X-Auth-Key": self.secret}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """
    A checked connection.

    :param conn_id: its ID, for errors.
    :param base_url: where the API is, without a trailing slash.
    :param account_id: the Cloudflare account.
    :param credentials: what authenticates requests.
    """

    conn_id: str
    base_url: str
    account_id: str
    credentials: Credentials

    @property
    def is_loopback(self) -> bool:
        """Whether the API is on this machine (an emulator): then no proxy is asked."""
        return _is_loopback(urlsplit(self.base_url).hostname)

    @property
    def is_cloudflare(self) -> bool:
        """Whether the API is Cloudflare's own, so that its dashboard shows the same queues."""
        return f".{urlsplit(self.base_url).hostname}".endswith(".cloudflare.com")

    def headers(self) -> dict[str, str]:
        """Return the headers of each request, the credentials among them."""
        return {
            **self.credentials.headers(),
            "User-Agent": f"airflow-provider-cfqueues/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # so that an answer is never larger than what arrives
            "Content-Type": "application/json",
        }

    def url(self, path: str) -> str:
        """
        Return the URL of a call.

        :param path: the path of a call, which may hold ``{account_id}``.
        """
        return self.base_url + path.format(account_id=self.account_id)


def parse_settings(
    conn_id: str,
    *,
    host: str | None,
    login: str | None,
    password: str | None,
    extra: Any,
) -> Settings:
    """
    Check the fields of a connection.

    :param conn_id: its ID.
    :param host: API base URL; empty = Cloudflare's.
    :param login: account e-mail, only beside a Global API Key.
    :param password: API token.
    :param extra: ``account_id``, and ``api_key`` for a Global API Key.
    :raises ConfigurationError: a field is missing, malformed or contradicts another.
    """
    try:
        if not isinstance(extra, Mapping):
            raise ValueError(f"extra must be a JSON object, not {type(extra).__name__}")  # noqa: TRY004, TRY301 - as a wrong field
        return Settings(
            conn_id=conn_id,
            base_url=_base_url(host),
            account_id=_account_id(extra),
            credentials=_credentials(login, password, extra.get("api_key")),
        )
    except ValueError as error:
        raise ConfigurationError(str(error), conn_id=conn_id) from None


def _account_id(extra: Mapping[str, Any]) -> str:
    if unknown := sorted(extra.keys() - _EXTRA_KEYS - _EXTRA_TWINS):
        raise ValueError(f"extra has unknown keys {unknown}: only account_id and api_key are read; remove the others")
    account_id = extra.get("account_id")
    if not account_id:
        raise ValueError("'account_id' (Account ID, in extra) is missing: copy it from the Cloudflare dashboard")
    if not is_id(account_id):
        raise ValueError(
            "'account_id' (Account ID, in extra) must be 1 to 32 letters, digits, '-' or '_': copy it from the "
            "Cloudflare dashboard"
        )
    return str(account_id)


def _credentials(login: str | None, password: str | None, api_key: Any) -> Credentials:
    if password and (login or api_key):
        other = "'login'" if login else "'api_key'"
        raise ValueError(
            f"The connection has both 'password' (API token) and {other}: keep only the API token, or 'login' "
            "(e-mail) with 'api_key' (Global API Key)"
        )
    if password:
        return Credentials(secret=_secret(password, "'password' (API token)"))
    if login and api_key:
        return Credentials(
            secret=_secret(api_key, "'api_key' (Global API Key, in extra)"),
            email=_secret(login, "'login' (account e-mail)"),
        )
    if login:
        raise ValueError("'api_key' (Global API Key, in extra) is missing beside 'login': add it, or use an API token")
    if api_key:
        raise ValueError("'login' (account e-mail) is missing beside 'api_key': add it, or use an API token")
    raise ValueError("The connection has no credentials: set 'password' to an API token that has 'Queues Write'")


def _secret(value: Any, what: str) -> str:
    """Return a value that is safe in a header; an error never shows it."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be text, not {type(value).__name__}")  # noqa: TRY004 - one error for the field
    if any(char.isspace() for char in value):
        raise ValueError(f"{what} contains white space or a newline: paste it again, without 'Bearer' or line breaks")
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{what} contains characters that a header cannot carry: paste it again as plain text")
    return value


def _base_url(host: str | None) -> str:
    if not host:
        return DEFAULT_BASE_URL
    try:
        parts = urlsplit(host)
        parts.port  # noqa: B018 - raises ValueError where it is not a port
        (parts.hostname or "").encode("idna")  # likewise for what no name server can know
    except ValueError:
        raise ValueError("'host' (API base URL) is not a URL: leave it empty for Cloudflare itself") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ValueError(
            "'host' (API base URL) must begin with https:// (http:// only for this machine, as for the emulator): "
            "leave it empty for Cloudflare itself"
        )
    if not host.isascii() or not host.isprintable() or " " in host:
        raise ValueError("'host' (API base URL) has a space, or a character that is not printable ASCII: remove it")
    if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment or "\\" in host:
        raise ValueError("'host' (API base URL) must be a plain URL such as https://api.cloudflare.com/client/v4")
    return host.rstrip("/")


def _is_loopback(hostname: str | None) -> bool:
    if hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname or "").is_loopback
    except ValueError:
        return False
