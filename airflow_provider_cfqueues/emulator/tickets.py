"""Lease ids and message refs: sealed strings that look like the compact JWE of the real API."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Sequence
from typing import Literal, NamedTuple

# {"alg":"dir","enc":"A256CBC-HS512"}, then the empty key segment of direct encryption.
_PREFIX = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIn0.."
_PAYLOAD = struct.Struct(">cIQIQ7x")
# Nonce, payload and tag, each padded to groups of three bytes: so one run of base64 holds the segments of many tickets.
_SEALED = struct.Struct("16s2x32sx32sx")
_SEGMENTS = struct.Struct("22s2x43sx43sx")
_MAX_RECENT = 10_000
"""Tickets remembered until they are opened: most are opened once, soon, and unsealing was half the time of an ack."""

Kind = Literal["lease", "ref", "preview"]
_KINDS: dict[Kind, bytes] = {"lease": b"L", "ref": b"R", "preview": b"P"}
_KIND_OF = {code: kind for kind, code in _KINDS.items()}


class Ticket(NamedTuple):
    """
    What a sealed string says.

    ``lease`` counts the deliveries of the message, so that each delivery has a string of its own; ``ends_ms``
    makes an extended lease a new string that names the same delivery.
    """

    kind: Kind
    queue: int
    message: int
    lease: int = 0
    ends_ms: int = 0


class Sealer:
    """
    Turns tickets into opaque strings and back, so that a lease needs no row of its own.

    Nonce and tag are a keyed digest of the ticket: the string cannot be made up, and what it says is no secret.

    :param secret: random bytes; a string sealed with another secret does not open.
    """

    def __init__(self, secret: bytes) -> None:
        self._digest = hashlib.blake2b(secret, digest_size=48)
        self._recent: dict[str, Ticket] = {}

    def seal(self, tickets: Sequence[Ticket]) -> list[str]:
        """Return the string of each ticket; the same ticket always gives the same string."""
        texts = self._texts(
            [_PAYLOAD.pack(_KINDS[kind], queue, message, lease, end) for kind, queue, message, lease, end in tickets]
        )
        if len(self._recent) > _MAX_RECENT:
            self._recent.clear()
        self._recent.update(zip(texts, tickets, strict=True))
        return texts

    def open(self, text: str) -> Ticket | None:
        """Return the ticket of a string, or None where this sealer never made that string."""
        return self._recent.pop(text, None) or self._unseal(text)

    def _unseal(self, text: str) -> Ticket | None:
        try:
            plain = _plain(text)
            if self._texts([plain]) != [text]:
                return None
            kind, *numbers = _PAYLOAD.unpack(plain)
            return Ticket(_KIND_OF[kind], *numbers)
        except ValueError:
            return None

    def _texts(self, plains: Sequence[bytes]) -> list[str]:
        run = base64.urlsafe_b64encode(b"".join(map(self._sealed, plains)))
        return [_PREFIX + b".".join(segments).decode("ascii") for segments in _SEGMENTS.iter_unpack(run)]

    def _sealed(self, plain: bytes) -> bytes:
        digest = self._digest.copy()
        digest.update(plain)
        signature = digest.digest()
        return _SEALED.pack(signature[:16], plain, signature[16:])


def _plain(text: str) -> bytes:
    _, plain, _ = text.removeprefix(_PREFIX).split(".")
    return base64.urlsafe_b64decode(f"{plain}A")[:32]
