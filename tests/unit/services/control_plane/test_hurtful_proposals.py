"""Whatever is proposed as a policy, the leader answers it and goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.errors import PolicyRefusedError
from router.core.policy import Policy, TenantLimit
from tests.support.control_world import ControlWorld
from tests.support.fake_clock import play

HURTFUL = {
    "a rate that can't be divided by": Policy(default=TenantLimit(1e-310)),
    "a negative limit": Policy(default=TenantLimit(concurrency=-1)),
    "more cells than fit in memory": Policy(cells=10**12),
    "a number of cells too long to write": Policy(cells=10**5000),
    "fewer cells than none": Policy(cells=-1),
    "fewer cells than none to go back to": Policy(scaling_from=-5),
    "an order that no instance outlives": Policy().with_order("cell-0000", 2**63 - 1, evict=True),
    "every cell drained without a cordon": Policy(draining=frozenset({"cell-0000", "cell-0001"})),
    "a weight that is no number": Policy(weights={"cell-0000": float("nan")}),
}


@pytest.mark.parametrize("hurtful", HURTFUL.values(), ids=HURTFUL)
def test_a_hurtful_proposal_is_refused_and_the_next_one_is_judged(hurtful: Policy) -> None:
    """The leader goes on with its cells, and so do the routers."""
    world = ControlWorld(2)

    async def story() -> None:
        async with world.running() as ((controller,), _):
            with pytest.raises(PolicyRefusedError, match=r".{10}"):
                await world.decide(lambda now: replace(hurtful, version=now.version))
            await world.decide(lambda now: now.with_limit("k", TenantLimit(5.0)))
            await world.send(20)
            await world.settled()
            assert not controller.task.done()
            assert {cell.generation for cell in (await world.look()).cells.values()} == {1}

    play(world.clock, story())


def test_a_scaling_that_fails_beside_drained_cells_does_not_end_the_leader() -> None:
    """Back at the cells that were there, none may own slots: they keep what they have until a person decides."""
    world = ControlWorld(2)

    async def story() -> None:
        async with world.running() as ((controller,), _):
            await world.decide(lambda now: now.with_cells(3, 2))
            await world.decide(lambda now: now.with_cordon("cell-0000", drain=True))
            await world.decide(lambda now: now.with_cordon("cell-0001", drain=True))
            world.control.contents.policy = replace(world.control.contents.policy, cells=2, scaling_from=0)
            await world.send(20)
            await world.settled()
            await world.clock.sleep(30)
            assert not controller.task.done()

    play(world.clock, story())
