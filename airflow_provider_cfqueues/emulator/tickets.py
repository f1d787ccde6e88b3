"""Lease ids and message refs: sealed strings that look like the compact JWE of the real API."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Literal, NamedTuple

# {"alg":"dir","enc":"A256CBC-HS512"}, then the empty key segment of direct encryption.
_PREFIX = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIn0.."
_PAYLOAD = struct.Struct(">cIQIQ7x")
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

    :param secret: 16 to 64 random bytes; a string sealed with another secret does not open.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._recent: dict[str, Ticket] = {}

    def seal(self, ticket: Ticket) -> str:
        """Return the string of a ticket; the same ticket always gives the same string."""
        kind, *numbers = ticket
        plain = _PAYLOAD.pack(_KINDS[kind], *numbers)
        text = _join(self._sign(plain), plain)
        self._recent[text] = ticket
        if len(self._recent) > _MAX_RECENT:
            del self._recent[next(iter(self._recent))]
        return text

    def open(self, text: str) -> Ticket | None:
        """Return the ticket of a string, or None where this sealer never made that string."""
        return self._recent.pop(text, None) or self._unseal(text)

    def _unseal(self, text: str) -> Ticket | None:
        try:
            plain = _plain(text)
            if _join(self._sign(plain), plain) != text:
                return None
            kind, *numbers = _PAYLOAD.unpack(plain)
            return Ticket(_KIND_OF[kind], *numbers)
        except ValueError:
            return None

    def _sign(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, digest_size=48, key=self._secret).digest()


# Padded to groups of three bytes the segments share one base64 run: a pull seals and an ack opens 100.
def _join(signature: bytes, plain: bytes) -> str:
    padded = signature[:16] + b"\0\0" + plain + b"\0" + signature[16:]
    run = base64.urlsafe_b64encode(padded).decode("ascii")
    return f"{_PREFIX}{run[:22]}.{run[24:67]}.{run[68:111]}"


def _plain(text: str) -> bytes:
    _, plain, _ = text.removeprefix(_PREFIX).split(".")
    return base64.urlsafe_b64decode(f"{plain}A")[:32]
