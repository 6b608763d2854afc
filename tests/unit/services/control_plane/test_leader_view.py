"""What a controller shows as the leader is shown no longer than it surely leads."""

from __future__ import annotations

from router.core.telemetry import LeadGoesOn
from router.services.canary import canary_through
from router.services.control_plane.controller import TELL_EVERY_S, Controller, ControllerConfig
from router.services.unforeseen import Unforeseen
from tests.support.control_world import ControlWorld
from tests.support.fake_clock import play
from tests.support.router_world import LEASE_TTL_S


def test_a_leader_that_hangs_until_its_lease_may_have_ended_shows_nothing() -> None:
    """Another controller may lead by then. When it turns out that none does, it shows the cells again."""
    world = ControlWorld(2)
    config = ControllerConfig("controller-0", 2, launch_timeout_s=10, lease_ttl_s=LEASE_TTL_S)
    canary, clock = canary_through(world.cells, Unforeseen(world.notes, world.clock)), world.clock
    controller = Controller(config, world.control, world.machines, world, canary, world.instances, clock, world.notes)

    async def story() -> None:
        assert controller.view is None
        await controller.tick()
        assert controller.view is not None
        await clock.sleep(config.leader_ttl_s * 0.7)
        assert controller.view is not None
        await clock.sleep(config.leader_ttl_s * 0.2)
        assert controller.view is None
        await controller.tick()
        assert controller.view is not None

    play(clock, story())


def test_a_leader_says_each_minute_that_it_leads_and_nobody_else_does() -> None:
    """Where only logs are counted, the alarm NoLeader goes by these lines."""
    world = ControlWorld(2)

    async def story() -> None:
        leader, other = world.controller("controller-0"), world.controller("controller-1")
        await world.clock.sleep(5 * TELL_EVERY_S + 10)
        told = world.notes.count(LeadGoesOn)
        assert 5 <= told <= 6
        leader.kill()
        other.kill()
        await world.clock.sleep(5 * TELL_EVERY_S)
        assert world.notes.count(LeadGoesOn) == told

    play(world.clock, story())
