"""Redis and the routers have forgotten everything, and something lies in the hold queue of a cell beyond the count."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from router.core.messages.parser import held_draft
from router.core.models import Event
from router.services.control_plane.upkeep import LEFT_OVER_S, LedCells, Upkeep
from tests.support.attribute_keys import KEYS
from tests.support.control_world import ControlWorld, actions
from tests.support.fake_clock import play


def test_what_lies_in_a_forgotten_cells_hold_queue_is_processed_by_its_keys_cell() -> None:
    """The leader finds the queue and writes the cell down as retired; the routers empty it."""
    world = ControlWorld(2)

    async def story() -> None:
        async with world.running():
            (leader,) = world.controllers

            def found(cells: Collection[str]) -> None:
                leader.hold_queues = cells

            def led() -> LedCells | None:
                return LedCells(leader.epoch, ()) if leader.epoch is not None else None

            await world.holds["cell-0003"].send([held_draft(Event("left over", "tenant-1", b"{}"), 0, KEYS)])
            await world.clock.sleep(LEFT_OVER_S)
            assert len(world.holds["cell-0003"]) == 1  # nobody reads it before it is found
            looking = asyncio.create_task(
                Upkeep("me", world.control, world, led, found, world.clock, world.notes).run()
            )
            await world.settled(60)
            looking.cancel()

    play(world.clock, story())
    assert world.cells.effects() == {"left over": 1}
    assert world.control.contents.cells["cell-0003"].retired
    assert actions([entry for entry in world.control.contents.audit if entry.cell_id == "cell-0003"]) == ["retire"]
