"""A router with a slow path to one cell costs no cell its instance: the others, and the leader, find nothing."""

from __future__ import annotations

import pytest

from router.core.models import Rung
from tests.support.fake_clock import play
from tests.support.path_world import FAR, PathWorld
from tests.support.sick_world import VICTIM, WARM_S


@pytest.mark.parametrize("extra_s", [0.15, 1.0])
def test_a_slow_path_of_one_of_two_routers_is_named_and_nothing_is_done(extra_s: float) -> None:
    """Half of the cell's events take several times as long, and so do this router's canaries."""
    world = PathWorld()
    world.warm_up_s = 15

    async def story() -> None:
        async with world.under_load(80):
            before = world.generations()
            await world.clock.sleep(2 * WARM_S)
            assert {found.assessment.canary_points for found in world.control.contents.conditions.values()} == {3}
            world.far.extra_s = extra_s
            await world.clock.sleep(30)
            said = world.control.contents.conditions[VICTIM].assessment.slow_paths
            assert any(path.startswith(f"{FAR} → {VICTIM}: ") for path in said)
            assert world.rungs() == {Rung.WELL}
            assert world.generations() == before

    play(world.clock, story())
