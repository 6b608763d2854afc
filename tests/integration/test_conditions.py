"""How the cells are, as the leader says it on a real server: cell by cell, and which of them shall be cushioned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.detection.assessment import Assessment
from router.core.detection.minutes.observation import Observation, Pattern
from router.core.errors import NotLeaderError
from router.core.models import CellRecord
from router.core.registry import Change, Condition
from tests.support.aio import until
from tests.support.bad_registry import CELL, OTHER, World, on

STALLS = Observation(Pattern.STALLS, "it stalls")
CUSHIONED = {
    name: Condition(1, 1, Assessment(name, observations=(STALLS,)), cushion="it looks slow") for name in (CELL, OTHER)
}


def test_what_is_said_of_a_cell_stands_until_its_leader_says_otherwise(redis_url: str) -> None:
    """What is not said any more goes, and what another leader said goes with that one."""

    async def story(world: World) -> None:
        registry, epoch = world.registry, await world.lead()
        await registry.note_conditions(epoch, CUSHIONED)
        now_ms, found = (await registry.snapshot()).now_ms, await world.another().conditions()
        assert all(now_ms - 5000 < each.at_ms <= now_ms for each in found.values())
        assert {name: replace(each, at_ms=1) for name, each in found.items()} == CUSHIONED
        await registry.note_conditions(epoch, {CELL: replace(CUSHIONED[CELL], cushion=None)})
        found = await registry.conditions()
        assert (list(found), found[CELL].cushion) == ([CELL], None)
        await registry.resign("a")
        other = world.another()
        second = await other.lead("b", 30, 0)
        assert second is not None
        await other.note_conditions(second, {})
        assert await registry.conditions() == {}
        with pytest.raises(NotLeaderError):
            await registry.note_conditions(epoch, CUSHIONED)

    on(redis_url, story)


def test_a_cushion_lasts_as_long_as_a_leader_wants_it(redis_url: str) -> None:
    """Without one, or with another, nobody says that the cell is well again."""

    async def story(world: World) -> None:
        async def cushioned() -> frozenset[str]:
            return (await world.another().snapshot()).cushioned

        async def has_ended() -> bool:
            return not (await world.registry.snapshot()).leader

        first = await world.registry.lead("a", 0.3, 0)
        assert first is not None
        await world.registry.write(first, Change([CellRecord(CELL)]))
        await world.registry.note_conditions(first, CUSHIONED)
        assert await cushioned() == {CELL}  # there is no cell of the other name
        await world.registry.note_conditions(first, {CELL: replace(CUSHIONED[CELL], cushion=None)})
        assert await cushioned() == set()
        await world.registry.note_conditions(first, CUSHIONED)
        await until(has_ended, "the lead has ended")
        assert await cushioned() == set()
        assert await world.registry.lead("b", 30, 0)
        assert await cushioned() == set()

    on(redis_url, story)
