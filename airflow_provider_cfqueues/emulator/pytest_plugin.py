"""The fixture ``cloudflare_queues``; importing this costs next to nothing until a test asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_cfqueues.emulator import Emulator


@pytest.fixture(scope="session")
def _cloudflare_queues_server() -> Iterator[Emulator]:
    from airflow_provider_cfqueues.emulator import Emulator

    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def cloudflare_queues(_cloudflare_queues_server: Emulator) -> Emulator:
    """Give an ``Emulator`` with one queue, ``my-queue``, as new for each test; one server runs for all."""
    _cloudflare_queues_server.reset()
    return _cloudflare_queues_server
