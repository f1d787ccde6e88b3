"""
The errors of this provider: one class for each decision that a caller can make.

Every class has a ``remedy``: it ends each message, and ``docs/errors.md`` is made from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, ClassVar

from airflow_provider_cfqueues.texts import printable

_LISTED_IN_TEXT = 100


def shorten_lease(lease_id: str) -> str:
    """
    Return a lease ID as it is shown to people: its first eight and last twelve characters.

    All leases of Cloudflare begin alike (the same JWE header), so the end is what tells them apart.

    :param lease_id: the lease ID, of any length.
    """
    return printable(lease_id if len(lease_id) <= 24 else f"{lease_id[:8]}…{lease_id[-12:]}")


def list_leases(lease_ids: Sequence[str]) -> str:
    """
    Return lease IDs shortened and joined; after a hundred, how many more there are.

    :param lease_ids: the lease IDs.
    """
    shown = ", ".join(shorten_lease(lease_id) for lease_id in lease_ids[:_LISTED_IN_TEXT])
    more = len(lease_ids) - _LISTED_IN_TEXT
    return f"{shown} and {more} more" if more > 0 else shown


@dataclass(frozen=True, kw_only=True)
class Progress:
    """
    How far a call that takes several requests had come when one of them failed for good.

    :param kind: what the items are: ``leases`` (their IDs) or ``messages`` (their positions in the list sent).
    :param done: items that the API confirmed.
    :param unconfirmed: items of requests that the API answered without confirming them.
    :param unknown: items of the failed request, if it may have been applied all the same.
    :param not_done: items that were certainly not settled or sent.
    :param result: what the answered requests reported, merged (``AckResult`` or ``SendResult``).
    """

    kind: str
    done: tuple[Any, ...]
    unconfirmed: tuple[Any, ...] = ()
    unknown: tuple[Any, ...]
    not_done: tuple[Any, ...]
    result: Any

    @property
    def open(self) -> dict[str, tuple[Any, ...]]:
        """The items that are not known to be done, by what is known of them."""
        return {
            "answered, but not confirmed": self.unconfirmed,
            "unknown": self.unknown,
            "certainly not done": self.not_done,
        }

    def __str__(self) -> str:
        count = sum(map(len, self.open.values()))
        parts = [f"{label}: {list_leases([*map(str, items)])}" for label, items in self.open.items() if items]
        return f"{count} of {len(self.done) + count} {self.kind} not confirmed ({'; '.join(parts)})."


@dataclass(eq=False, repr=False, kw_only=True)
class CloudflareQueuesError(Exception):
    """
    Root of all errors of this provider.

    :param message: what failed.
    :param conn_id: the Airflow connection in use.
    :param queue: ID or name of the queue.
    :param status: HTTP status of the answer.
    :param codes: the API's error codes (``errors[].code``; 0 occurs).
    :param messages: the API's error texts (``errors[].message``).
    :param pointers: what in the request the API objects to (``errors[].source.pointer``).
    :param documentation_urls: ``errors[].documentation_url``.
    :param ray_id: the ``cf-ray`` header, which Cloudflare's support asks for.
    :param retry_after: seconds that the API asked to wait before the next try.
    :param progress: for a call of several requests: what is done, unknown and not done.
    :param details: what may be long, such as the IDs of many messages; it comes after the remedy.
    :param queue_name: name of the queue, if ``queue`` is its ID and the hook has looked it up.
    """

    remedy: ClassVar[str] = "Read the messages of the API above."
    repeatable: ClassVar[bool] = False
    """Whether the same request may work a little later."""
    worth_another_try: ClassVar[bool] = True
    """Whether another try of the task may work although nothing was changed."""
    maybe_applied: bool = field(default=False, init=False)
    """Whether the API may have carried out the request although it failed."""

    message: str = field(kw_only=False)
    conn_id: str | None = None
    queue: str | None = None
    status: int | None = None
    codes: Sequence[int] = ()
    messages: Sequence[str] = ()
    pointers: Sequence[str] = ()
    documentation_urls: Sequence[str] = ()
    ray_id: str | None = None
    retry_after: float | None = None
    progress: Progress | None = None
    details: str = ""
    queue_name: str | None = None

    def __post_init__(self) -> None:
        super().__init__(self.message)
        vars(self).update(_with_tuples(vars(self)))

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.brief(), printable(self.details), self.progress) if part)

    def brief(self) -> str:
        """Return the text without ``details`` and ``progress``, which may list many items."""
        facts = f" ({', '.join(self._facts())})" if self._facts() else ""
        remedy = self.remedy.replace("QUEUE_NAME", self.queue_name) if self.queue_name else self.remedy
        return printable(f"{self.message.rstrip('.')}{facts}. {remedy}")

    def add(self, more: str = "", /, **facts: Any) -> None:
        """
        Add facts that were not known when the error was made. Nothing else changes an error.

        :param more: a further sentence about what failed.
        :param facts: attributes by name, such as ``conn_id`` or ``progress``.
        """
        if more:
            facts["message"] = f"{self.message.rstrip('.')}. {more}"
        vars(self).update(facts)
        self.args = (self.message,)

    def hide(self, secret: str) -> None:
        """
        Remove a secret from all facts: the answer of the API may have repeated it.

        :param secret: the secret.
        """
        vars(self).update({name: _without(secret, fact) for name, fact in vars(self).items()})
        self.args = (self.message,)

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain JSON values: a trigger's event brings it to the task, which raises it."""
        facts: dict[str, Any] = json.loads(json.dumps(vars(self), default=_plain))
        return {"class": type(self).__name__, "facts": facts}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> CloudflareQueuesError:
        """
        Return the error that :meth:`to_dict` stored: its class and facts, with ``progress.result`` as a mapping.

        :param plain: what it returned. A class that this version does not know becomes the root class.
        """
        found = globals().get(plain["class"])
        kind = found if isinstance(found, type) and issubclass(found, CloudflareQueuesError) else CloudflareQueuesError
        facts = _with_tuples(plain["facts"])
        if facts.get("progress"):
            facts["progress"] = Progress(**_with_tuples(facts["progress"]))
        error = kind(facts["message"])
        vars(error).update(facts)
        return error

    def _facts(self) -> list[str]:
        named = {
            "connection": self.conn_id and repr(self.conn_id),
            "queue": f"{self.queue_name!r} (ID {self.queue})" if self.queue_name else self.queue and repr(self.queue),
            "HTTP": self.status,
            "code": ", ".join(map(str, self.codes)),
            "at": ", ".join(self.pointers),
            "asked to wait": None if self.retry_after is None else f"{self.retry_after:g} s",
            "see": ", ".join(self.documentation_urls),
            "cf-ray": self.ray_id,
        }
        return [f"{name} {value}" for name, value in named.items() if value]


def _without(secret: str, fact: Any) -> Any:
    if isinstance(fact, tuple):
        return tuple(_without(secret, item) for item in fact)
    return fact.replace(secret, "***") if isinstance(fact, str) else fact


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _with_tuples(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}


class ConfigurationError(CloudflareQueuesError, ValueError):
    """A field of the Airflow connection, or a proxy or certificate variable of the environment, cannot be used."""

    remedy = (
        "Fix what the message names: a field of the connection (Admin → Connections, or your secrets backend), or a "
        "variable of the environment."
    )
    worth_another_try = False


class TransportError(CloudflareQueuesError):
    """
    No complete answer arrived: DNS, connect, TLS, time-out, or a connection that broke.

    ``maybe_applied`` is False only if there never was a connection.
    """

    remedy = "Check network, proxy and firewall between this machine and the API, then try again."
    repeatable = True
    maybe_applied = True


class ResponseTooSlowError(TransportError):
    """Some of the answer arrived, but not all of it within 30 seconds."""

    remedy = (
        "Check network and proxy between this machine and the API. If messages are large, ask for fewer at once. "
        "Messages that the request leased are delivered again when their leases end."
    )
    repeatable = False


class ApiError(CloudflareQueuesError):
    """The API answered, and the answer is not a success."""


class AuthenticationError(ApiError):
    """The API does not accept the credentials (HTTP 401, or 400 with code 6003)."""

    remedy = (
        "Check the API token (or e-mail and Global API Key) of the connection: is it complete, active, "
        "not expired, and made for this account?"
    )
    worth_another_try = False


class PermissionDeniedError(ApiError):
    """The credentials are valid, but may not do this (HTTP 403)."""

    remedy = (
        "Give the API token 'Queues Write' or 'Workers Scripts Write' on this account. ('Queues Read' is enough for "
        "listing and metrics.) Check that the account ID is the token's account."
    )
    worth_another_try = False


class NotFoundError(ApiError):
    """The queue, its consumer or the account does not exist (HTTP 404, codes 7003, 10104, 10105, 11000, 11006)."""

    remedy = (
        "Check the argument that names this queue (queue_id, queue_name, dead_letter_queue, …), and the account ID of "
        "the connection; for code 7003 also that its 'host', if it has one, ends in /client/v4."
    )


class AlreadyExistsError(ApiError):
    """A queue has this name already (code 11009), or the queue has a consumer already (code 11004)."""

    remedy = (
        "Use what is there (get_queue_id, ensure_pull_consumer, or if_exists='ignore' of the operator), or choose "
        "another name. Remove a Worker consumer before you add a pull consumer: `npx wrangler queues consumer worker "
        "remove QUEUE_NAME SCRIPT_NAME`."
    )
    worth_another_try = False


class PullNotEnabledError(ApiError):
    """The queue has no HTTP pull consumer, or not yet (HTTP 405)."""

    remedy = (
        "Enable it once, with a task QueueEnsurePullConsumerOperator or, on Cloudflare, `npx wrangler queues consumer "
        "http add QUEUE_NAME` (a Worker consumer must be removed first). Right after that the API may still answer 405 "
        "for some seconds: try again."
    )


class QueuePausedError(ApiError):
    """Delivery of the queue is paused (HTTP 409, ``queue_delivery_paused``)."""

    remedy = "Resume it, with QueueResumeOperator or `npx wrangler queues resume-delivery QUEUE_NAME`."


class RateLimitedError(ApiError):
    """Too many requests (HTTP 429); ``retry_after`` says how long the API asked to wait, if it did."""

    remedy = "Wait, then run the task again; ask less often or from fewer tasks at once."
    repeatable = True


class OverQuotaError(ApiError):
    """A daily or storage quota is used up (HTTP 429, codes 10251 and 10253): repeating does not help."""

    remedy = (
        "Code 10253: the free plan's operations of today are used up; upgrade, or poll less. Code 10251: the queue's "
        "storage is full; process or purge messages."
    )
    worth_another_try = False


class QueueDisabledError(ApiError):
    """The queue is disabled (HTTP 429, code 10252): repeating does not help."""

    remedy = "Unpause the queue in the Cloudflare dashboard."
    worth_another_try = False


class InvalidRequestError(ApiError):
    """The API objects to the request itself (other HTTP 4xx); ``pointers`` names the part."""

    remedy = "Correct the argument that the message names; repeating the same request does not help."
    worth_another_try = False


class ServerError(ApiError):
    """The API or a gateway before it failed or timed out (HTTP 408, 5xx)."""

    remedy = "Run the task again later; https://www.cloudflarestatus.com tells whether Cloudflare has a known problem."
    repeatable = True
    maybe_applied = True


class RefusedError(ApiError):
    """HTTP 2xx, but the envelope says ``success: false``."""

    remedy = "Read the API's messages. The request may have been applied."
    maybe_applied = True


class MalformedResponseError(ApiError):
    """The answer is not what the API sends: HTML, cut JSON, a redirect, a result of the wrong shape."""

    remedy = (
        "Something between this worker and the API may have answered instead (proxy, captive portal): check 'host' "
        "of the connection."
    )
    maybe_applied = True


class ResponseTooLargeError(MalformedResponseError):
    """The answer is larger than 80 MB, which no answer of the API is: it was not read to its end."""

    remedy = (
        "Something between this worker and the API may have answered instead: check proxy and 'host' of the connection."
    )


class PurgeTimeoutError(CloudflareQueuesError):
    """A purge was started, and the API did not say within ``completion_timeout`` that it is done."""

    remedy = (
        "Raise completion_timeout. On Airflow 3.3, another try of the task goes on waiting. Before 3.3, it purges "
        "again, and deletes what was sent since."
    )


@dataclass(eq=False, repr=False, kw_only=True)
class ProcessingFailedError(CloudflareQueuesError):
    """
    More messages failed, or could not be moved, than ``fail_on`` allows, or the task was killed.

    :param message: what failed.
    :param failures: the messages, each with ``message_id``, ``attempts`` and ``reason``; the first hundred.
    """

    remedy = (
        "Fix the cause, then run the task again: messages that failed are delivered again after their delay, messages "
        "that are not confirmed when their leases end. Rejected messages are in the dead-letter queue: look at them "
        "(peek), and redrive them once the cause is fixed."
    )

    failures: Sequence[Any] = ()


@dataclass(eq=False, repr=False, kw_only=True)
class UnconfirmedLeasesError(CloudflareQueuesError):
    """
    The API answered, but did not confirm all leases.

    :param message: what failed.
    :param lease_ids: the leases that are not confirmed.
    """

    remedy = (
        "A message that is not acked is delivered again when its lease ends, unless this was its last delivery. If "
        "this happens often, raise visibility_timeout, and look for another consumer of the queue. An earlier try of "
        "this task may also have settled the messages."
    )
    worth_another_try = False

    lease_ids: Sequence[str] = ()


@dataclass(eq=False, repr=False, kw_only=True)
class MatchFailedError(CloudflareQueuesError):
    """
    A ``match`` raised an error for a message, so it is unknown whether the message is wanted.

    :param message: what failed.
    :param message_id: ID of the message.
    """

    remedy = "Fix the function or path of match. It must accept any message of the queue."

    message_id: str | None = None


class LossyMatchError(CloudflareQueuesError, ValueError):
    """A ``match`` would let Cloudflare delete the messages that it does not want, so nothing was pulled."""

    remedy = (
        "Set a dead-letter queue on the queue's consumer, or give dead_letter_queue=. Or choose: unmatched='ack' "
        "discards them, unmatched='retry' accepts that Cloudflare may delete them."
    )
    worth_another_try = False
