"""
What is not known about the real API, and what this emulator can assume.

Each one is a guess that no published schema, page or recorded answer settles, or where two of them disagree. Code
should not depend on them. docs/emulator.md says what each is about; a test compares it with this list.
"""

from __future__ import annotations

from collections.abc import Mapping

ASSUMPTIONS: dict[str, tuple[str, ...]] = {
    "json-encoding": ("base64", "plain"),
    "lease-refused": ("warning", "silence", "error"),
    "first-use-wins": ("acks-first", "retries-first"),
    "late-ack": ("accepted", "refused"),
    "late-retry": ("accepted", "refused"),
    "lease-count": ("any", "100"),
    "attempts": ("max-retries-plus-1", "max-retries"),
    "last-delivery": ("when-it-fails", "when-it-is-pulled"),
    "lease-end": ("retry-delay", "at-once"),
    "dead-letter-id": ("kept", "new"),
    "dead-letter-timestamp": ("new", "kept"),
    "dead-letter-attempts": ("restart", "continue"),
    "dead-letter-queue": (),
    "retention": ("existing", "new-messages"),
    "order": ("ready-first", "sent-first"),
    "consumer-defaults": ("batch-size-10", "batch-size-5"),
    "batch-size": ("consumer", "5"),
    "sizes": ("bodies", "with-metadata"),
    "fractions": ("accepted", "refused"),
    "json-bodies": ("containers", "any"),
    "null": ("refused", "ignored"),
    "settling-needs-no-consumer": ("accepted", "refused"),
    "peek": ("ready", "leased-too"),
    "preview": ("available", "refused"),
    "preview-retries": (),
    "extend": ("available", "missing"),
    "purge": ("leased-too", "spares-leased"),
    "metrics": ("all", "not-delayed"),
    "put": ("resets", "keeps"),
    "pages": ("20", "all"),
    "status": (),
    "wrong-token": ("401", "403"),
    "paused": ("409", "429"),
    "missing-queue": ("10104", "11000"),
    "verify": ("by-kind", "account-only"),
    "rate-limit": ("all-calls", "not-pull-and-ack"),
    "subscriptions": (),
    "notification-consumers": (),
}
"""What each can be, the default first; nothing where only one behaviour is plausible."""


def choose(given: Mapping[str, str]) -> dict[str, str]:
    """
    Return what holds for every switch.

    :param given: the name of an assumption and what to assume, where that is not its default.
    """
    switches = {name: choices for name, choices in ASSUMPTIONS.items() if choices}
    for name, choice in given.items():
        if name not in switches:
            raise ValueError(f"there is no assumption {name!r}; known: {', '.join(switches)}")
        if choice not in switches[name]:
            raise ValueError(f"{name} must be one of {', '.join(switches[name])}, not {choice!r}")
    return {name: given.get(name, choices[0]) for name, choices in switches.items()}
