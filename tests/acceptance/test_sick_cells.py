"""Sick cells on real processes (P4, P5): workload and shared trouble, slow answers, garbage, a component, deaths.

One system serves all tests: each fault strikes another cell, or one that has not been replaced. Time limits are
generous; `script/bench promises` measures how fast treatment really is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.aio import until
from tests.support.sick_stories import TO_SERVE_S, ladder, replaced
from tests.support.sick_system import COST_S, SickSystem, now_ms, pause

pytestmark = [pytest.mark.one_kind, pytest.mark.alone]  # it is about sick cells, and how soon they are found

Play = Callable[[Callable[[SickSystem], Awaitable[None]]], None]

LONG_ENOUGH_S = 25.0  # a sick cell is found within this time, so a cell without treatment was not found sick


async def nobody_is_evicted(world: SickSystem, trouble: Callable[[], Awaitable[object]]) -> None:
    """Check that a trouble leads to no treatment and to no new instance."""
    before, began_ms = await world.generations(), now_ms()
    await trouble()
    await pause(LONG_ENOUGH_S)
    assert await world.generations() == before
    assert ladder(await world.audit(began_ms)) == []


def test_a_tenant_whose_events_become_slow_evicts_nobody(in_sick_system: Play) -> None:
    """Its events now take fifteen times as long and use most of its cell's time, but the cell keeps its instance."""

    async def story(world: SickSystem) -> None:
        heavy = world.keys[0]

        async def gets_heavy() -> None:
            world.cost_s[heavy] = 15 * COST_S

        await nobody_is_evicted(world, gets_heavy)
        world.cost_s.clear()

    in_sick_system(story)


def test_cells_that_are_all_slow_evict_nobody(in_sick_system: Play) -> None:
    """Each of them takes 300 ms more, so the cause must be something that they share."""

    async def story(world: SickSystem) -> None:
        async def all_slow() -> None:
            cells = await world.generations()
            slow = ("slow", "--ms", "300", "--for", "25")
            await asyncio.gather(*(world.cli("chaos", slow[0], cell_id, *slow[1:]) for cell_id in cells))

        await nobody_is_evicted(world, all_slow)

    in_sick_system(story)


def test_a_component_that_fails_is_restarted_and_the_instance_stays(in_sick_system: Play) -> None:
    """Its cell is ejected meanwhile. The audit names the component, and later says that the cell has recovered."""

    async def story(world: SickSystem) -> None:
        victim, before, slot_map, began_ms = (
            "cell-0000",
            await world.generations(),
            await world.map(),
            now_ms(),
        )
        await world.cli("chaos", "component", victim, "store", "--for", "300")

        async def recovered() -> bool:
            return "recovered" in [entry.action for entry in await world.audit(began_ms, victim)]

        await until(recovered, "it has recovered", TO_SERVE_S)
        audit = await world.audit(began_ms, victim)
        assert ladder(audit) == ["treat", "restart components", "recovered"]
        assert any(entry.why.startswith("ejected: ") for entry in audit)
        why = next(entry.why for entry in audit if entry.action == "restart components")
        assert "store (InjectedError: injected: it fails until it is restarted)" in why
        assert await world.generations() == before
        assert await world.map() == slot_map

    in_sick_system(story)


def test_an_instance_with_latency_is_replaced_by_one_that_was_verified_before(in_sick_system: Play) -> None:
    """Every event takes 300 ms more. The instance keeps its traffic until its twin is faster."""

    async def story(world: SickSystem) -> None:
        episode = await replaced(world, "cell-0001", "slow", "--ms", "300")
        assert ladder(episode.audit) == ["treat", "replace", "launch", "admit"]
        assert "ms" in episode.why("treat")
        assert "its twin" in episode.why("admit")

    in_sick_system(story)


def test_an_instance_that_answers_garbage_is_ejected_and_restarted(in_sick_system: Play) -> None:
    """The events that it did are not done again, although nobody understood its answers."""

    async def story(world: SickSystem) -> None:
        episode = await replaced(world, "cell-0002", "garbage")
        assert ladder(episode.audit) == ["treat", "restart instance", "launch", "admit"]
        assert episode.why("treat").startswith("ejected: ")
        assert "in a row" in episode.why("treat")

    in_sick_system(story)


def test_a_hung_instance_is_replaced(in_sick_system: Play) -> None:
    """After SIGSTOP it loses its lease or is found to be silent. Another takes over, and the hung one never goes on."""

    async def story(world: SickSystem) -> None:
        async def stop() -> None:
            world.system.hang("cell-0003")

        episode = await replaced(world, "cell-0003", stop)
        assert episode.actions()[-2:] == ["launch", "admit"]
        assert "lost its lease" in episode.why("launch")

    in_sick_system(story)


def test_a_killed_instance_is_replaced(in_sick_system: Play) -> None:
    """After SIGKILL the controller sees that the instance has ended, which is reason enough."""

    async def story(world: SickSystem) -> None:
        async def kill() -> None:
            world.system.kill("cell-0000")

        episode = await replaced(world, "cell-0000", kill)
        assert episode.actions()[-2:] == ["launch", "admit"]
        assert "exited" in episode.why("launch")

    in_sick_system(story)
