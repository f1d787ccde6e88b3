"""Credentials: both schemes of the API."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from airflow_provider_cfqueues.emulator.service import Service
from airflow_provider_cfqueues.emulator.wire import ApiError

_BEARER = re.compile(r"Bearer ([!-~]+)", re.IGNORECASE)
_ACCOUNT_TOKEN = "cfat_"  # noqa: S105 -- a prefix


def check(service: Service, headers: Mapping[str, str], path: str, account_id: str | None) -> None:
    """Refuse a call whose credentials are wrong, or the account in its path, if there is one."""
    token = _token(headers)
    is_known = _same(token, service.api_token)
    # Only tokens can be verified, and one that an account owns only under that account.
    if path.endswith("/tokens/verify") and not (is_known and (account_id or not _needs_account(service))):
        raise ApiError(401, 1000, "Invalid API Token")
    if not is_known and (token or not _same(_key(headers), service.api_token)):
        raise ApiError(int(service.assume["wrong-token"]), 10000, "Authentication error")
    if account_id is not None and account_id != service.account_id:
        raise ApiError(403, 10000, "Authentication error")


def _needs_account(service: Service) -> bool:
    return service.api_token.startswith(_ACCOUNT_TOKEN) or service.assume["verify"] == "account-only"


def _token(headers: Mapping[str, str]) -> str | None:
    authorization = headers.get("authorization")
    if authorization is None:
        return None
    match = _BEARER.fullmatch(authorization)
    if match is None:
        chain = [{"code": 6111, "message": "Invalid format for Authorization header"}]
        raise ApiError(400, 6003, "Invalid request headers", chain)
    return match[1]


def _key(headers: Mapping[str, str]) -> str | None:
    return headers.get("x-auth-key") if "@" in headers.get("x-auth-email", "") else None


def _same(given: str | None, right: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), right.encode())
