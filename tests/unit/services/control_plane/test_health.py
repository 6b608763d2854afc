"""What is measured of one instance never counts for another, and the baselines of cells are remembered."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from router.core.detection.assessment import Assessment
from router.core.detection.baseline import Baseline
from router.core.errors import NoDescriptorError
from router.core.models import CellRecord, LeaseView, Reason, Vitals, cell_ids
from router.core.registry import Condition, Snapshot
from router.services.canary import MAX_RATE
from router.services.control_plane.health import HealthMonitor
from router.services.loop_lag import LoopLag
from tests.support.fake_clock import FakeClock, play
from tests.support.memory_registry import MemoryRegistry

CELL = "cell-0000"
LEASES = tuple(LeaseView(CELL, generation, "i", "a:1", 8, ready=True, live=True) for generation in (1, 2))


async def no_canary(record: CellRecord, snapshot: Snapshot, within_s: float) -> Reason:
    """Every canary is refused at once."""
    return "refused"


def test_the_verdict_on_an_instance_goes_with_it() -> None:
    """The next instance is not sick for what was seen of the last one, not even before the next assessment."""
    clock = FakeClock()

    async def story() -> None:
        monitor = HealthMonitor(MemoryRegistry(clock), no_canary, LoopLag(clock), clock, 60.0)
        snapshot = Snapshot(1, None, {CELL: CellRecord(CELL, generation=1)}, LEASES, "c")
        for _ in range(40):
            await monitor.look(snapshot)
            await clock.sleep(0.25)
        assert monitor.health[CELL].assessment.verdict == "failing"
        after = replace(snapshot, cells={CELL: CellRecord(CELL, generation=2)})
        while not await monitor.look(snapshot):
            await clock.sleep(0.25)
        await clock.sleep(0.25)
        assert not await monitor.look(after)
        assert CELL not in monitor.health
        await clock.sleep(1)
        assert await monitor.look(after)
        assert monitor.health[CELL].assessment.verdict == "healthy"

    play(clock, story())


async def cannot_send(record: CellRecord, snapshot: Snapshot, within_s: float) -> Reason:
    """No canary can be sent."""
    raise NoDescriptorError("no file descriptor is left")


def test_a_controller_that_can_send_no_canary_blames_no_cell() -> None:
    """What it lacks itself says nothing of the cell, for however long."""
    clock = FakeClock()

    async def story() -> None:
        monitor = HealthMonitor(MemoryRegistry(clock), cannot_send, LoopLag(clock), clock, 60.0)
        snapshot = Snapshot(1, None, {CELL: CellRecord(CELL, generation=1)}, LEASES, "c")
        for _ in range(400):
            await monitor.look(snapshot)
            await clock.sleep(0.25)
            assert all(health.assessment.verdict == "healthy" for health in monitor.health.values())
        assert CELL in monitor.health

    play(clock, story())


def test_what_is_usual_outlives_the_leader() -> None:
    """A controller begins with the baselines that the last leader knew, each time that it takes the lead."""
    clock = FakeClock()

    async def story() -> None:
        registry = MemoryRegistry(clock)
        epoch = await registry.lead("another", 5.0, 0)
        assert epoch is not None
        monitor = HealthMonitor(registry, no_canary, LoopLag(clock), clock, 60.0)
        snapshot = Snapshot(1, None, {CELL: CellRecord(CELL, generation=1)}, LEASES, "c")
        for rate in (5.0, 7.0):
            known = Baseline(canary_s=0.01, canary_learned_s=900, rate=rate, work=0.5, learned_s=600)
            await registry.note_conditions(epoch, {CELL: Condition(1, 1, Assessment(CELL, baseline=known))})
            while not await monitor.look(snapshot):
                await clock.sleep(0.25)
            assert monitor.health[CELL].assessment.baseline == known
            monitor.close()
            await clock.sleep(2)

    play(clock, story())


def test_what_an_instance_says_in_its_lease_is_evidence_while_it_says_it() -> None:
    """That of the next generation, which has no traffic yet, is not taken for it."""
    clock = FakeClock()

    async def story() -> None:
        monitor = HealthMonitor(MemoryRegistry(clock), no_canary, LoopLag(clock), clock, 60.0)
        own, other = (Vitals(1.0, cpu, None, None, 0.0, 0.0, 0.0, 0.0) for cpu in (0.5, 0.75))
        leases = replace(LEASES[0], vitals=own, beat=1), replace(LEASES[1], vitals=other, beat=2)
        snapshot = Snapshot(1, None, {CELL: CellRecord(CELL, generation=1)}, leases, "c")
        for _ in range(5):
            await monitor.look(snapshot)
            await clock.sleep(0.25)
        assert monitor.health[CELL].assessment.vitals == own
        for _ in range(80):
            await monitor.look(snapshot)
            await clock.sleep(0.25)
        assert monitor.health[CELL].assessment.vitals is None

    play(clock, story())


def test_the_leader_sends_fifty_canaries_a_second_however_many_cells_there_are() -> None:
    """In turns, so that each gets its own; one that fails gets one every second."""
    clock, sent = FakeClock(), list[str]()
    ids = cell_ids(10 * round(MAX_RATE))

    async def canary(record: CellRecord, snapshot: Snapshot, within_s: float) -> Reason | None:
        sent.append(record.cell_id)
        return "refused" if record.cell_id == CELL and clock.now > 1020 else None

    async def story() -> None:
        monitor = HealthMonitor(MemoryRegistry(clock), canary, LoopLag(clock), clock, 60.0)
        leases = tuple(replace(LEASES[0], cell_id=cell_id) for cell_id in ids)
        snapshot = Snapshot(1, None, {cell_id: CellRecord(cell_id, generation=1) for cell_id in ids}, leases, "c")
        for _ in range(240):
            await monitor.look(snapshot)
            await clock.sleep(0.25)
            assert clock.now > 1005 or len(sent) <= (clock.now - 999) * MAX_RATE

    play(clock, story())
    counts = Counter(sent)
    assert len(sent) <= 62 * MAX_RATE + counts[CELL]
    assert {counts[cell_id] for cell_id in ids[1:]} == {6}
    assert counts[CELL] > 20
