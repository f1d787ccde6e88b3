"""``GET /``: a page that shows what ``GET /_emulator/state`` says, for a person."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

# Bodies come from anywhere: were one taken for HTML, it could still load and send nothing.
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def route() -> Route:
    """Return the route of the page."""
    html = pkgutil.get_data(__package__, "page.html")  # works in a zip file, too

    async def show(_: Request) -> HTMLResponse:
        return HTMLResponse(html, headers={"content-security-policy": _POLICY, "cache-control": "no-store"})

    return Route("/", show)
