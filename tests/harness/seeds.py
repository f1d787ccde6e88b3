"""Few seeds of the simulation, as tests for ``scripts/mutate``. pytest does not find them by itself."""

from __future__ import annotations

import pytest

from simulation.redriving.world import World as Redrives
from simulation.run import play
from simulation.watching.world import World as Watchers


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_the_engine_loses_hides_and_acks_nothing(first):
    assert [result for result in play(range(first, first + 50)) if result.violation] == []


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_watchers_lose_hide_and_ack_nothing(first):
    assert [result for result in play(range(first, first + 10), Watchers) if result.violation] == []


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_redrives_lose_hide_and_delete_nothing(first):
    assert [result for result in play(range(first, first + 10), Redrives) if result.violation] == []
