"""What the controller's eyes see of one instance never counts for another; what is usual for a cell is remembered."""

from __future__ import annotations

from dataclasses import replace

from router.core.detection.assessment import Assessment
from router.core.detection.baseline import Baseline
from router.core.models import CellRecord, LeaseView
from router.core.registry import Condition, Snapshot
from router.services.control_plane.health import HealthMonitor
from router.services.loop_lag import LoopLag
from tests.support.fake_clock import FakeClock, play
from tests.support.memory_registry import MemoryRegistry

CELL = "cell-0000"
LEASES = tuple(LeaseView(CELL, generation, "i", "a:1", 8, ready=True, live=True) for generation in (1, 2))


async def no_canary(record: CellRecord, snapshot: Snapshot, within_s: float) -> str:
    """Refused at once."""
    return "refused"


def test_the_verdict_on_an_instance_goes_with_it() -> None:
    """Its successor, just admitted, isn't sick by what was seen of it, not even until the next look at all cells."""
    clock = FakeClock()

    async def story() -> None:
        eyes = HealthMonitor(MemoryRegistry(clock), no_canary, LoopLag(clock), clock)
        snapshot = Snapshot(1, None, {CELL: CellRecord(CELL, generation=1)}, LEASES, "c")
        for _ in range(40):
            await eyes.look(snapshot)
            await clock.sleep(0.25)
        assert eyes.health[CELL].assessment.verdict == "failing"
        after = replace(snapshot, cells={CELL: CellRecord(CELL, generation=2)})
        while not await eyes.look(snapshot):
            await clock.sleep(0.25)
        await clock.sleep(0.25)
        assert not await eyes.look(after)
        assert CELL not in eyes.health
        await clock.sleep(1)
        assert await eyes.look(after)
        assert eyes.health[CELL].assessment.verdict == "healthy"

    play(clock, story())


def test_what_is_usual_outlives_the_leader() -> None:
    """A new one begins with what the one before knew, each time that it takes the lead."""
    clock = FakeClock()

    async def story() -> None:
        registry = MemoryRegistry(clock)
        epoch = await registry.lead("another", 5.0, 0)
        assert epoch is not None
        eyes = HealthMonitor(registry, no_canary, LoopLag(clock), clock)
        snapshot = Snapshot(1, None, {CELL: CellRecord(CELL, generation=1)}, LEASES, "c")
        for rate in (5.0, 7.0):
            known = Baseline(canary_s=0.01, canary_learned_s=900, rate=rate, work=0.5, learned_s=600)
            await registry.note_conditions(epoch, {CELL: Condition(1, 1, Assessment(CELL, usual=known))})
            while not await eyes.look(snapshot):
                await clock.sleep(0.25)
            assert eyes.health[CELL].assessment.usual == known
            eyes.close()
            await clock.sleep(2)

    play(clock, story())
