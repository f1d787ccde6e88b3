"""
What is not known about the real API, and what this emulator assumes.

Each one is a guess that no published schema, page or recorded answer settles, or where two of them disagree. Code
should not depend on them. If two behaviours are plausible, the assumption is a switch. docs/emulator.md shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Assumption(NamedTuple):
    """
    One of them.

    :param text: what the emulator does, for the documentation.
    :param choices: what it can do instead, the default first; empty if there is nothing to choose.
    """

    text: str
    choices: tuple[str, ...] = ()


ASSUMPTIONS: dict[str, Assumption] = {
    "json-encoding": Assumption(
        "The documentation says that JSON bodies are pulled as base64; several projects have seen them"
        " arrive as plain JSON text. Base64 is the default here; plain can be chosen for all messages or"
        " for one.",
        ("base64", "plain"),
    ),
    "lease-refused": Assumption(
        "A lease, or a ref of a peek, that is unknown, malformed, of another queue or used up does not fail"
        " the call: it is not counted, and `warnings` says why. A lease is used up once it has been"
        " acknowledged or retried.",
        ("warning", "silence", "error"),
    ),
    "first-use-wins": Assumption(
        "Acks are applied before retries, in the order of the request; a lease that is named twice is"
        " honoured the first time and has a warning for the second.",
        ("acks-first", "retries-first"),
    ),
    "late-ack": Assumption(
        "An unused lease can acknowledge after it has ended, also when the message has been delivered"
        " again: the message is gone then, and the later lease can still acknowledge it without a warning."
        " If the message was dead-lettered, expired or purged meanwhile, the lease is refused.",
        ("accepted", "refused"),
    ),
    "late-retry": Assumption(
        "An unused lease can give a message back after it has ended, with its delay. If the message"
        " has been delivered again since, the retry is counted and changes nothing.",
        ("accepted", "refused"),
    ),
    "lease-count": Assumption("An ack call takes any number of leases.", ("any", "100")),
    "attempts": Assumption(
        "`attempts` counts deliveries. A message is delivered at most `max_retries` + 1 times, as the"
        " pricing page counts; the page on pull consumers says `max_retries` times. When the last delivery is"
        " retried or its lease ends, the message goes to the dead-letter queue, or is deleted if none is set.",
        ("max-retries-plus-1", "max-retries"),
    ),
    "last-delivery": Assumption(
        "Whether a delivery was the last is decided when it fails: raising `max_retries` before the lease ends"
        " saves the message.",
        ("when-it-fails", "when-it-is-pulled"),
    ),
    "lease-end": Assumption(
        "The consumer's `retry_delay` holds for a lease that ends, as the documentation says of every implicit"
        " failure: the message is ready that many seconds after the end of its lease.",
        ("retry-delay", "at-once"),
    ),
    "dead-letter-id": Assumption("A dead-lettered message keeps its id and body.", ("kept", "new")),
    "dead-letter-timestamp": Assumption(
        "The timestamp of a dead-lettered message is the time of its dead-lettering, and its retention starts again.",
        ("new", "kept"),
    ),
    "dead-letter-attempts": Assumption("The attempts of a dead-lettered message start again.", ("restart", "continue")),
    "dead-letter-queue": Assumption(
        "The dead-letter queue is created together with the consumer that names it, and again if it is missing."
    ),
    "retention": Assumption(
        "A message older than the retention period is deleted whatever its state, and not dead-lettered."
        " A changed period holds for the messages that are there already.",
        ("existing", "new-messages"),
    ),
    "order": Assumption(
        "A pull gives the messages first that have been ready for longest.", ("ready-first", "sent-first")
    ),
    "consumer-defaults": Assumption(
        "A consumer without settings has a `batch_size` of 10, a `max_retries` of 3, a `retry_delay` of 0 and a"
        " `visibility_timeout_ms` of 30,000, as in the fixtures of Cloudflare's Terraform provider.",
        ("batch-size-10", "batch-size-5"),
    ),
    "batch-size": Assumption(
        "A pull without `batch_size` takes that of the consumer; the documentation says 5.", ("consumer", "5")
    ),
    "sizes": Assumption(
        "The limits of 128,000 bytes a message and 256,000 bytes a batch count bodies only, JSON without white"
        " space; the documentation says that about 100 bytes of metadata per message count as well.",
        ("bodies", "with-metadata"),
    ),
    "fractions": Assumption(
        "Delays may have fractions of a second; they hold to the millisecond.", ("accepted", "refused")
    ),
    "json-bodies": Assumption(
        "A JSON body is an object or an array; a string, number, boolean or null is refused with 10207.",
        ("containers", "any"),
    ),
    "null": Assumption(
        "An explicit null is not a number: leave out a key that you do not set.", ("refused", "ignored")
    ),
    "settling-needs-no-consumer": Assumption(
        "Ack works without an http_pull consumer. (While delivery is paused, it works with either choice.)",
        ("accepted", "refused"),
    ),
    "peek": Assumption(
        "Peek and preview show what a pull would take, also without a consumer and while delivery is"
        " paused, and 5 messages if `batch_size` is not given. A message that is deleted by its"
        " ref is gone, even while it is leased.",
        ("ready", "leased-too"),
    ),
    "preview": Assumption(
        "Preview is available to everybody; one caller got 405 with code 10405.", ("available", "refused")
    ),
    "preview-retries": Assumption("Retries in a preview/ack call change nothing, since nothing was leased."),
    "extend": Assumption(
        "An extended lease has a new id, returned as `leases`, old to new; the old id keeps working,"
        " since the published schema returns no new one. A lease that has ended is refused.",
        ("available", "missing"),
    ),
    "purge": Assumption(
        "A purge is complete when its call answers, and deletes leased messages too; `completed` is then"
        " `true`, and empty before the first purge.",
        ("leased-too", "spares-leased"),
    ),
    "metrics": Assumption(
        "The backlog counts every message that has not left the queue, delayed and leased ones too.",
        ("all", "not-delayed"),
    ),
    "put": Assumption(
        "PUT of a queue sets what is not named back to its default, except the name. PUT of a consumer"
        " does the same, and adds one to a queue that has none, whatever its id.",
        ("resets", "keeps"),
    ),
    "pages": Assumption(
        "The list of queues has 20 a page; `per_page` takes 1 to 100, and the totals ignore the name filter.",
        ("20", "all"),
    ),
    "status": Assumption(
        "If only an error's code is known: 404 for what is missing, 409 for what exists already, 413"
        " for what is too large, 401 for wrong credentials, 403 for a wrong account, and 400 for the rest."
        " An unknown method of a known path is 405 with code 7001."
    ),
    "wrong-token": Assumption("A wrong token is refused with 401; both 401 and 403 have been seen.", ("401", "403")),
    "paused": Assumption(
        "A pull while delivery is paused is refused with 409, as the page on pausing says, and with code 0; the"
        " list of error codes has 10252, queue disabled, among those of 429.",
        ("409", "429"),
    ),
    "missing-queue": Assumption(
        "A call about a queue that does not exist fails with code 11000; on paths under /messages, with 10104.",
        ("10104", "11000"),
    ),
    "verify": Assumption(
        "A token is verified by the path of its kind; a token that no account owns is accepted by both. A wrong"
        " one has code 1000, and so has an API key.",
        ("by-kind", "account-only"),
    ),
    "rate-limit": Assumption(
        "Pulls and acks count towards the limit of 1,200 API requests in five minutes: the page on limits no"
        " longer excepts them, only a changelog of April 2025 does.",
        ("all-calls", "not-pull-and-ack"),
    ),
    "subscriptions": Assumption(
        "Subscriptions have names of their own, and a resource has one subscription: a second is 405. Deleting a"
        " queue deletes those that send to it. The emulator has no events to send."
    ),
    "notification-consumers": Assumption(
        "A `notification` consumer keeps its settings as they were sent, and nothing is sent: the messages stay in"
        " the queue, and a pull is refused as if there were no consumer."
    ),
}


def choose(given: Mapping[str, str]) -> dict[str, str]:
    """
    Return what holds for every switch.

    :param given: the name of an assumption and what to assume, where that is not its default.
    """
    for name, choice in given.items():
        choices = ASSUMPTIONS[name].choices if name in ASSUMPTIONS else ()
        if not choices:
            known = ", ".join(known for known, assumption in ASSUMPTIONS.items() if assumption.choices)
            raise ValueError(f"there is no assumption {name!r}; known: {known}")
        if choice not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, not {choice!r}")
    return {name: given.get(name, item.choices[0]) for name, item in ASSUMPTIONS.items() if item.choices}
