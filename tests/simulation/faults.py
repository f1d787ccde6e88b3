"""What can go wrong with a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from airflow_provider_cfqueues.client.repeating import RepeatPolicy

TIMEOUT = RepeatPolicy().answer_timeout
DEFECT = -1
"""Stands for an exception that is no TransportError: of a library, or of ours."""
_HTML = b"<!DOCTYPE html><html><body>One moment please</body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """
    What happens to one request.

    :param up: seconds until it reaches the server.
    :param down: seconds until its answer is back.
    :param is_applied: whether the server carries it out.
    :param breaks: the connection breaks instead of an answer; ``refused`` is a connection that was never made.
    :param status: an answer that is not the server's.
    :param content: its body.
    :param headers: its headers.
    :param cut: the answer arrives cut in half, as if it were whole.
    :param share: a pull gives this share of what it was asked for; of leases, the API settles this share, and its
        counts fall short.
    """

    up: float = 0.0
    down: float = 0.0
    is_applied: bool = True
    breaks: str = ""
    status: int = 0
    content: bytes = b""
    headers: Mapping[str, str] | None = None
    cut: bool = False
    share: float = 1.0
    name: str = ""


def draw_fault(random: Random, rate: float, latency: float) -> Fault:
    """
    Decide what happens to the next request.

    :param random: decides.
    :param rate: how likely it is that anything goes wrong.
    :param latency: seconds that a good request takes at the most.
    """
    up, down = latency * random.random(), latency * random.random()
    if random.random() >= rate:
        return Fault(up, down)
    match random.choices(_FAULTS, _WEIGHTS)[0]:
        case "refused":
            return Fault(up, is_applied=False, breaks="refused", name="connection refused")
        case "request lost" | "answer lost" as name:
            return Fault(up, random.choice((0.0, TIMEOUT)), name == "answer lost", breaks="lost", name=name)
        case "slow":
            return Fault(up + 40 * random.random() ** 3, down + 40 * random.random() ** 3, name="slow")
        case "status":
            status = random.choice((408, 429, 500, 503))
            wait = {"retry-after": str(random.choice((0, 1, 5, 40)))} if random.random() < 0.3 else {}
            return Fault(up, down, False, status=status, headers=wait, name=f"HTTP {status}, not applied")
        case "status after":
            return Fault(up, down, status=random.choice((500, 502, 504)), name="HTTP 5xx, applied")
        case "cut":
            return Fault(up, down, cut=True, name="answer cut")
        case "html":
            is_applied, status = random.random() < 0.5, random.choice((200, 502))
            return Fault(up, down, is_applied, status=status, content=_HTML, name=f"HTML {status}")
        case "defect":
            return Fault(up, down, random.random() < 0.5, status=DEFECT, name="the HTTP library's own failure")
        case _:
            return Fault(up, down, share=random.random(), name="only a part")


_FAULTS = ("refused", "request lost", "answer lost", "slow", "status", "status after", "cut", "html", "defect", "few")
_WEIGHTS = (10, 15, 20, 20, 15, 10, 2, 2, 1, 10)
