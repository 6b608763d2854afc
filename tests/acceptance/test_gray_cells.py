"""Cells that are sick although their health checks say that all is well (P4, P5), on real processes.

/readyz answers 200 and the lease is renewed, but events hang, take three times as long, or fail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.support.sick_stories import ladder, replaced
from tests.support.sick_system import SickSystem

pytestmark = [pytest.mark.one_kind, pytest.mark.alone]  # it is about sick cells, and how soon they are found

Play = Callable[[Callable[[SickSystem], Awaitable[None]]], None]


def test_an_instance_three_times_as_slow_is_replaced(in_sick_system: Play) -> None:
    """Only its latency shows it, some 80 ms more. It keeps its traffic until its twin is faster."""

    async def story(world: SickSystem) -> None:
        episode = await replaced(world, "cell-0000", "slow", "--factor", "3", gray=True)
        assert ladder(episode.audit) == ["treat", "replace", "launch", "admit"]
        assert "ejected" not in episode.why("treat")

    in_sick_system(story)


def test_an_instance_that_answers_nothing_but_health_checks_is_ejected_and_restarted(in_sick_system: Play) -> None:
    """No event and no canary gets an answer; the next instance does its events."""

    async def story(world: SickSystem) -> None:
        episode = await replaced(world, "cell-0001", "hang", gray=True)
        assert ladder(episode.audit) == ["treat", "restart instance", "launch", "admit"]
        assert episode.why("guard").startswith("ejected: ")  # until the others have had time to show the same

    in_sick_system(story)


def test_an_instance_whose_handler_fails_is_ejected_and_restarted(in_sick_system: Play) -> None:
    """Every event fails. No key is quarantined and no event is a dead letter: the next instance does them all."""

    async def story(world: SickSystem) -> None:
        episode = await replaced(world, "cell-0002", "errors", gray=True)
        assert ladder(episode.audit) == ["treat", "restart instance", "launch", "admit"]
        assert "in a row" in episode.why("treat")

    in_sick_system(story)
