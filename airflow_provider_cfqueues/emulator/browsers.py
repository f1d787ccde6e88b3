"""
Keep the pages of other sites out, which a browser on this machine may have open.

Such a page can send requests to 127.0.0.1, and read the answers if it gives its own name that address (DNS
rebinding). So a name that we were not told about is refused as ``Host``, and so is every ``Origin`` but our own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from airflow_provider_cfqueues.emulator import wire

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)


class BrowserGuard:
    """
    Middleware that answers 403 to what only a page of another site would send.

    :param hosts: names that it is known by, beside ``localhost`` and any address.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = {"localhost", *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        reason = self._refusal(Headers(scope=scope))
        if reason is None:
            await self._app(scope, receive, send)
            return
        log.warning("%s %s -> 403: %s", scope["method"], scope["raw_path"].decode("latin-1"), reason)
        refused = JSONResponse(wire.failure(wire.ApiError(403, 0, reason)), 403)
        await refused(scope, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _name(host)
        if name not in self._hosts and not _is_address(name):
            return (
                f"the emulator does not accept the host name {name!r}. If this is its name in a network of containers, "
                "or in a hosts file, start it with --allow-host and this name"
            )
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return (
                f"the request comes from a page of {origin!r}: in a browser, only the emulator's own pages may call it"
            )
        return None


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that do not match
        return host


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
