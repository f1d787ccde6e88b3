"""Lease ids and message refs: sealed strings that look like the compact JWE of the real API."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Literal, NamedTuple

# {"alg":"dir","enc":"A256CBC-HS512"}, then the empty key segment of direct encryption.
_PREFIX = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIn0.."
_PAYLOAD = struct.Struct(">cIQIQ7x")

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

    :param secret: 16 to 64 random bytes; a string sealed with another secret does not open.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, ticket: Ticket) -> str:
        """Return the string of a ticket; the same ticket always gives the same string."""
        plain = _PAYLOAD.pack(_KINDS[ticket.kind], *ticket[1:])
        nonce = self._digest(plain, 16)
        sealed = self._mask(plain, nonce)
        return _join(nonce, sealed, self._digest(nonce + sealed, 32))

    def open(self, text: str) -> Ticket | None:
        """Return the ticket of a string, or None where this sealer never made that string."""
        try:
            nonce, sealed, tag = _split(text)
            if tag != self._digest(nonce + sealed, 32) or _join(nonce, sealed, tag) != text:
                return None
            kind, *numbers = _PAYLOAD.unpack(self._mask(sealed, nonce))
            return Ticket(_KIND_OF[kind], *numbers)
        except ValueError:
            return None

    def _mask(self, data: bytes, nonce: bytes) -> bytes:
        stream = int.from_bytes(self._digest(nonce, len(data)), "big")
        return (int.from_bytes(data, "big") ^ stream).to_bytes(len(data), "big")

    def _digest(self, data: bytes, size: int) -> bytes:
        return hashlib.blake2b(data, digest_size=size, key=self._secret).digest()


# Padded to groups of three bytes the segments share one base64 run: a pull seals and an ack opens 100.
def _join(nonce: bytes, sealed: bytes, tag: bytes) -> str:
    run = base64.urlsafe_b64encode(nonce + b"\0\0" + sealed + b"\0" + tag).decode("ascii")
    return f"{_PREFIX}{run[:22]}.{run[24:67]}.{run[68:111]}"


def _split(text: str) -> tuple[bytes, bytes, bytes]:
    nonce, sealed, tag = text.removeprefix(_PREFIX).split(".")
    run = base64.urlsafe_b64decode(f"{nonce}AA{sealed}A{tag}A")
    return run[:16], run[18:50], run[51:83]
