"""Credentials, the envelope of answers, and calls that lead nowhere."""

from __future__ import annotations

import secrets

from airflow_provider_cfqueues.emulator.conformance.api import NoOccasion
from airflow_provider_cfqueues.emulator.conformance.facts import Fact, Saw, Steps, documented, probe
from airflow_provider_cfqueues.emulator.conformance.lab import Lab

_ACCOUNT_TOKEN = "cfat_"  # noqa: S105 -- a prefix
_LIMIT_HEADERS = ("ratelimit", "ratelimit-policy")


@probe(
    documented("envelope", "The keys of an answer.", "errors, messages, result, success"),
    Fact("envelope-of-an-error", "The keys of a refusal.", "errors, messages, result, success", "status"),
    Fact("missing-queue", "GET of a queue that does not exist.", "404, code 11000"),
    documented("missing-queue-pull", "A pull from a queue that does not exist.", "404, code 10104", "missing-queue"),
    Fact("malformed-queue-id", "A queue id with a hyphen.", "400, code 10107", "status"),
    Fact("unknown-path", "POST to /messages/push, which is no path of the API.", "404, code 7003", "status"),
    Fact("unknown-method", "DELETE of /messages, which has no such method.", "405, code 7001", "status"),
    documented("rate-limit-headers", "Headers about the rate limit.", "none", "", "ratelimit, ratelimit-policy"),
)
def answers(lab: Lab, saw: Saw) -> Steps:
    """Look at answers that need no message."""
    queue = lab.create()
    good = queue.call("GET")
    saw["envelope"] = ", ".join(sorted(good.body))
    saw["rate-limit-headers"] = ", ".join(name for name in _LIMIT_HEADERS if name in good.headers) or "none"
    missing = f"/queues/{secrets.token_hex(16)}"
    refused = lab.api.call("GET", missing)
    saw["envelope-of-an-error"] = ", ".join(sorted(refused.body))
    saw["missing-queue"] = str(refused)
    saw["missing-queue-pull"] = str(lab.api.call("POST", f"{missing}/messages/pull", {}))
    saw["malformed-queue-id"] = str(lab.api.call("GET", "/queues/not-a-queue"))
    saw["unknown-path"] = str(queue.call("POST", "/messages/push", {"body": {}}))
    saw["unknown-method"] = str(queue.call("DELETE", "/messages"))
    yield 0


@probe(
    Fact("no-token", "A call without credentials.", "401, code 10000", "wrong-token"),
    Fact("wrong-token", "A call with a made-up token.", "401, code 10000", "wrong-token"),
    documented("malformed-token", "The word Bearer twice.", "400, code 6003"),
    Fact("wrong-account", "A call about a made-up account.", "403, code 10000", "status"),
    Fact("wrong-token-verified", "A made-up token is verified.", "401, code 1000", "verify"),
)
def credentials(lab: Lab, saw: Saw) -> Steps:
    """Look at calls with wrong credentials; each is refused before it does anything."""
    wrong = {"Authorization": f"Bearer {secrets.token_hex(20)}"}
    saw["no-token"] = str(lab.api.call("GET", "/queues", headers={}))
    saw["wrong-token"] = str(lab.api.call("GET", "/queues", headers=wrong))
    doubled = {"Authorization": f"Bearer Bearer {secrets.token_hex(20)}"}
    saw["malformed-token"] = str(lab.api.call("GET", "/queues", headers=doubled))
    saw["wrong-account"] = str(lab.api.call("GET", f"//accounts/{secrets.token_hex(16)}/queues"))
    saw["wrong-token-verified"] = str(lab.api.call("GET", "//user/tokens/verify", headers=wrong))
    yield 0


def _verified(fact: Fact, path: str, *, of_account: bool) -> None:
    @probe(fact)
    def look(lab: Lab, saw: Saw) -> Steps:
        if lab.api.token.startswith(_ACCOUNT_TOKEN) != of_account:
            raise NoOccasion(f"the token is one of {'a user' if of_account else 'an account'}")
        saw[fact.name] = lab.api.call("GET", path).said()
        yield 0


_verified(
    documented("user-token", "A user's token at /user/tokens/verify.", "accepted", "verify"),
    "//user/tokens/verify",
    of_account=False,
)
_verified(
    Fact("user-token-at-account", "A user's token at /accounts/…/tokens/verify.", "accepted", "verify"),
    "/tokens/verify",
    of_account=False,
)
_verified(
    documented("account-token", "An account's token at /accounts/…/tokens/verify.", "accepted", "verify"),
    "/tokens/verify",
    of_account=True,
)
_verified(
    documented(
        "account-token-at-user", "An account's token at /user/tokens/verify.", "refused: 401, code 1000", "verify"
    ),
    "//user/tokens/verify",
    of_account=True,
)
