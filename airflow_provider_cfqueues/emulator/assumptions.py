"""
What nobody knows about the real API, and what this emulator does instead of knowing.

Each one is a guess that no published schema, page or recorded answer settles. Code should not depend on them.
docs/emulator.md shows them.
"""

from __future__ import annotations

ASSUMPTIONS: dict[str, str] = {
    "json-encoding": (
        "The documentation says that JSON bodies are pulled as base64; several projects have seen them"
        " arrive as plain JSON text. Base64 is the default here; plain can be chosen for all messages or"
        " for one."
    ),
    "lease-refused": (
        "A lease that is unknown, malformed, of another queue or used up does not fail the call: it is"
        " not counted, and `warnings` says why. A lease is used up once it has been acknowledged or"
        " retried."
    ),
    "first-use-wins": (
        "Acks are applied before retries, in the order of the request; a lease that is named twice is"
        " honoured the first time and has a warning for the second."
    ),
    "late-ack": (
        "An unused lease can acknowledge after it has ended, also when the message has been delivered"
        " again: the message is gone then, and the later lease can still acknowledge it without a warning."
        " If the message was dead-lettered, expired or purged meanwhile, the lease is refused."
    ),
    "late-retry": (
        "An unused lease can give a message back after it has ended, with its delay. Where the message"
        " has been delivered again since, the retry is counted and changes nothing."
    ),
    "lease-count": "An ack call takes any number of leases.",
    "attempts": (
        "`attempts` counts deliveries. A message is delivered at most `max_retries` + 1 times: when the"
        " last delivery is retried or its lease ends, the message goes to the dead-letter queue, or is"
        " deleted where none is set."
    ),
    "lease-end": ("The consumer's `retry_delay` holds for retries only: a lease that ends makes its message ready."),
    "dead-letter": (
        "A dead-lettered message keeps its id and body; its timestamp, attempts and retention start"
        " again. The queue is made together with the consumer that names it, and again when it is missing."
    ),
    "retention": (
        "A message older than the retention period is deleted whatever its state, and not dead-lettered."
        " A changed period holds for the messages that are there already."
    ),
    "order": "A pull gives the messages first that have been ready for longest.",
    "batch-size": "A pull without `batch_size` takes that of the consumer, which is 5 where it is not set.",
    "sizes": (
        "The limits of 128,000 bytes a message and 256,000 bytes a batch count bodies only, JSON without white space."
    ),
    "fractions": "Delays may have fractions of a second; they hold to the millisecond.",
    "json-bodies": ("A JSON body is an object or an array; a string, number, boolean or null is refused with 10207."),
    "null": "An explicit null is no number: a key that is not wanted has to be left out.",
    "settling-needs-no-consumer": "Ack works without an http_pull consumer and while delivery is paused.",
    "peek": (
        "Peek and preview show what a pull would take, also without a consumer and while delivery is"
        " paused, and 5 messages where `batch_size` is not given. Deleting by them ends a message even"
        " while it is leased."
    ),
    "preview-retries": "Retries in a preview/ack call change nothing, since nothing was leased.",
    "extend": (
        "An extended lease has a new id, returned as `leases`, old to new; the old id goes on naming it,"
        " since the published schema returns none. A lease that has ended is refused."
    ),
    "purge": (
        "A purge is complete when its call answers, and deletes leased messages too; `completed` is then"
        " `true`, and empty before the first purge."
    ),
    "put": (
        "PUT of a queue sets what is not named back to its default, except the name. PUT of a consumer"
        " does the same, and adds one to a queue that has none, whatever its id."
    ),
    "pages": ("The list of queues has 20 a page; `per_page` takes 1 to 100, and the totals ignore the name filter."),
    "status": (
        "Where only an error's code is known: 404 for what is missing, 409 for what exists already, 413"
        " for what is too large, 401 for wrong credentials, 403 for a wrong account, and 400 for the rest."
        " Paused delivery (409) has code 0. An unknown method of a known path is 405 with code 7001."
    ),
    "missing-queue": "A queue that does not exist has code 11000, and 10104 under /messages.",
    "verify": (
        "A token is verified by the path of its kind; one that no account owns is accepted by both. A"
        " wrong one has code 1000, and so has an API key."
    ),
}
