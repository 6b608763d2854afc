"""A controller that starts assumes nothing of what the registry holds: any part of it may be missing."""

from __future__ import annotations

import asyncio
from collections import Counter
from copy import copy
from dataclasses import replace
from typing import Any

import pytest

from router.core.models import CellRecord
from router.core.slot_map.slots import Move
from router.core.telemetry import AttemptFailed
from tests.support.control_world import ControlWorld
from tests.support.fake_clock import play
from tests.support.memory_registry import Contents


def in_a_move(contents: Contents) -> None:
    """Leave a move under way in the map, and a scaling in the policy, as a leader that died may have done."""
    assert contents.slot_map is not None
    slot = contents.slot_map.owners.index("cell-0000")
    contents.slot_map = replace(
        contents.slot_map, move=Move({slot: "cell-0001"}, {}), epoch=contents.slot_map.epoch + 1
    )
    contents.policy = replace(contents.policy, version=contents.policy.version + 1, cells=3, scaling_from=2)


LOSSES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the cells": {"cells": {}},
    "one cell": {"cells": {"cell-0000": CellRecord("cell-0000", generation=1, launched=1, verified=1)}},
    "the leases": {"leases": {}},
    "the generations": {"generations": {}},
    "the routers": {"routers": {}},
    "the map": {"slot_map": None},
    "cells, leases and generations": {"cells": {}, "leases": {}, "generations": {}},
}


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("lost", LOSSES)
def test_a_controller_that_starts_makes_the_registry_whole(lost: str, moving: bool) -> None:
    """Whatever is lost, also in the middle of a move and of a scaling, it serves again, and no event is lost."""
    world = ControlWorld(2)

    async def story() -> None:
        async with world.running(routers=1) as ((first,), _):
            first.kill()
            await world.clock.sleep(1)
            contents = world.control.contents
            if moving:
                in_a_move(contents)
            for name, value in LOSSES[lost].items():
                setattr(contents, name, copy(value))
            await world.send(40)
            second = world.controller("controller-1")
            count = 3 if moving else 2
            await world.until(lambda: world.serving() == count and world.at_rest(), "all serve")
            await world.settled()
            assert not second.task.done()
            second.task.cancel()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert [r for r in world.notes.records if isinstance(r, AttemptFailed)] == []


def test_a_controller_that_starts_without_a_registry_waits_for_it() -> None:
    """It decides nothing until it can read, and then begins."""
    world = ControlWorld(2)

    async def story() -> None:
        world.control.down = True
        controller = world.controller("controller")
        await world.clock.sleep(60)
        assert not controller.task.done()
        assert world.machines.launches == []
        world.control.down = False
        await world.until(lambda: world.serving() == 2, "all serve")
        controller.task.cancel()
        for instance in world.machines.running.values():
            instance.cancel()
        await asyncio.gather(controller.task, return_exceptions=True)

    play(world.clock, story())
