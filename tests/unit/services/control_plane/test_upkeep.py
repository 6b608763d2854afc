"""What belongs to cells and has gone is made anew by the leader, and it says so once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from router.core.errors import NotYetError, ProvisionError
from router.core.models import Reason, cell_ids
from router.core.telemetry import ActionTaken
from router.services.control_plane.upkeep import LEFT_OVER_S, PAUSE_S, ROUND_S, LedCells, Upkeep
from tests.support.control_world import actions
from tests.support.fake_clock import FakeClock, play
from tests.support.memory_registry import MemoryRegistry
from tests.support.router_world import Notes


class Rig:
    """An upkeep of two cells, as the leader; it is the CellResources port too."""

    def __init__(self, cells: int = 2) -> None:
        self.clock = FakeClock()
        self.notes = Notes()
        self.registry = MemoryRegistry(self.clock)
        self.cells = cell_ids(cells)
        self.missing: dict[str, list[str]] = {}
        self.fault = ""
        self.waits = False  # the fault is only that something takes its time
        self.bug: Exception | None = None
        self.looks: list[tuple[float, str]] = []
        self.found: list[Collection[str]] = []
        self.refused = ""
        self.retired: list[str] = []
        self.left: dict[str, str] = {}  # what remove() says of a cell
        self.removes: list[str] = []
        self.epoch: int | None = None
        self.upkeep = Upkeep("me", self.registry, self, self.led, self.found.append, self.clock, self.notes)

    async def ensure(self, cell_id: str) -> Sequence[str]:
        self.looks.append((self.clock.now, cell_id))
        if self.bug is not None:
            raise self.bug
        if self.fault:
            raise (NotYetError if self.waits else ProvisionError)(self.fault)
        return self.missing.pop(cell_id, [])

    async def remove(self, cell_id: str) -> Reason | None:
        self.removes.append(cell_id)
        return self.left.get(cell_id)

    async def with_hold_queues(self) -> Collection[str]:
        if self.refused:
            raise ProvisionError(self.refused)
        return {"cell-0009"}

    def led(self) -> LedCells | None:
        return LedCells(self.epoch, self.cells, self.retired) if self.epoch is not None else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let it lead and make its rounds."""
        self.epoch = await self.registry.lead("me", 10_000, 0)
        running = asyncio.create_task(self.upkeep.run())
        yield
        running.cancel()

    def told(self) -> list[tuple[str, str, str]]:
        return [(r.cell_id, r.action, r.why) for r in self.notes.records if isinstance(r, ActionTaken)]


def test_what_has_gone_is_made_anew_and_told_once() -> None:
    """The log and the audit say what it was; of what is there nothing is said."""
    rig = Rig()

    async def story() -> None:
        async with rig.running():
            await rig.clock.sleep(3 * ROUND_S)
            assert rig.told() == []
            rig.missing["cell-0001"] = ["hold queue", "stream"]
            await rig.clock.sleep(3 * ROUND_S)

    play(rig.clock, story())
    assert rig.told() == [("cell-0001", "reprovisioned", "made anew: hold queue, stream")]
    [entry] = rig.registry.contents.audit
    assert (entry.who, entry.cell_id, entry.action, entry.why) == (
        "me",
        "cell-0001",
        "reprovisioned",
        "made anew: hold queue, stream",
    )


def test_a_controller_that_does_not_lead_looks_at_nothing() -> None:
    """Once another leads, it does not finish its round either."""
    rig = Rig(4)

    async def story() -> None:
        running = asyncio.create_task(rig.upkeep.run())
        await rig.clock.sleep(3 * ROUND_S)
        assert rig.looks == []
        rig.epoch = await rig.registry.lead("me", 10_000, 0)
        while not rig.looks:
            await rig.clock.sleep(0.1)
        rig.epoch = None
        await rig.clock.sleep(3 * ROUND_S)
        running.cancel()

    play(rig.clock, story())
    assert [cell_id for _, cell_id in rig.looks] == ["cell-0000"]


def test_a_cell_that_left_during_a_round_is_let_be() -> None:
    """What people remove together with the cell is not made anew behind their back."""
    rig = Rig(4)

    async def story() -> None:
        async with rig.running():
            while not rig.looks:
                await rig.clock.sleep(0.1)
            rig.cells = rig.cells[:2]
            await rig.clock.sleep(ROUND_S)

    play(rig.clock, story())
    assert {cell_id for _, cell_id in rig.looks} == {"cell-0000", "cell-0001"}


def test_a_failure_is_told_once_and_tried_again() -> None:
    """It is tried until it is made, and the next failure is told again."""
    rig = Rig(1)

    async def story() -> None:
        async with rig.running():
            rig.fault = "denied"
            await rig.clock.sleep(5 * ROUND_S)
            assert rig.told() == [("cell-0000", "reprovision failed", "denied")]
            rig.fault, rig.missing = "", {"cell-0000": ["bucket"]}
            await rig.clock.sleep(2 * ROUND_S)
            rig.fault = "denied"
            await rig.clock.sleep(2 * ROUND_S)

    play(rig.clock, story())
    assert [action for _, action, _ in rig.told()] == ["reprovision failed", "reprovisioned", "reprovision failed"]
    assert actions(rig.registry.contents.audit) == ["reprovisioned"]


def test_an_error_that_nobody_foresaw_is_a_failure_too() -> None:
    """The upkeep goes on with the next cell, and makes what is missing once it can."""
    rig = Rig(2)

    async def story() -> None:
        async with rig.running():
            rig.bug = KeyError("Arn")
            await rig.clock.sleep(3 * ROUND_S)
            rig.bug, rig.missing = None, {"cell-0001": ["bucket"]}
            await rig.clock.sleep(2 * ROUND_S)

    play(rig.clock, story())
    assert [told[:2] for told in rig.told()] == [
        ("cell-0000", "reprovision failed"),
        ("cell-0001", "reprovision failed"),
        ("cell-0001", "reprovisioned"),
    ]


def test_few_cells_are_all_looked_at_in_a_round_and_many_not_all_at_once() -> None:
    """Firehose allows few calls a second."""
    for count in (1, 3, 200):
        rig = Rig(count)

        async def story(rig: Rig = rig) -> None:
            async with rig.running():
                await rig.clock.sleep(ROUND_S - 0.1)

        play(rig.clock, story())
        cells = [cell_id for _, cell_id in rig.looks]
        assert cells == list(rig.cells[: round(ROUND_S / PAUSE_S)])
        times = [at for at, _ in rig.looks]
        assert all(after - before >= PAUSE_S for before, after in itertools.pairwise(times))


def test_without_the_registry_it_is_made_anew_all_the_same() -> None:
    """It is in the log, though not in the audit, and the next one is in both."""
    rig = Rig(1)

    async def story() -> None:
        async with rig.running():
            rig.registry.down = True
            rig.missing["cell-0000"] = ["bucket"]
            await rig.clock.sleep(2 * ROUND_S)
            rig.registry.down = False
            rig.missing["cell-0000"] = ["stream"]
            await rig.clock.sleep(2 * ROUND_S)

    play(rig.clock, story())
    assert [why for *_, why in rig.told()] == ["made anew: bucket", "made anew: stream"]
    assert [entry.why for entry in rig.registry.contents.audit] == ["made anew: stream"]


def test_hold_queues_that_nobody_may_know_are_looked_for_now_and_then() -> None:
    """A refusal is told once, and keeps no cell from being looked at."""
    rig = Rig(1)

    async def story() -> None:
        async with rig.running():
            await rig.clock.sleep(3 * LEFT_OVER_S)
            assert 3 <= len(rig.found) <= 4
            assert rig.told() == []
            rig.refused = "AccessDenied"
            await rig.clock.sleep(3 * LEFT_OVER_S)

    play(rig.clock, story())
    assert set(map(tuple, rig.found)) == {("cell-0009",)}
    assert rig.told() == [("", "reprovision failed", "AccessDenied")]
    assert len(rig.looks) >= 5 * LEFT_OVER_S / ROUND_S


def test_what_is_being_made_is_no_failure() -> None:
    """It takes minutes, and nothing is said until it is there."""
    rig = Rig(1)

    async def story() -> None:
        async with rig.running():
            rig.fault, rig.waits = "CREATE_IN_PROGRESS", True
            await rig.clock.sleep(3 * ROUND_S)
            rig.fault, rig.missing = "", {"cell-0000": ["stack"]}
            await rig.clock.sleep(2 * ROUND_S)

    play(rig.clock, story())
    assert rig.told() == [("cell-0000", "reprovisioned", "made anew: stack")]


def test_what_a_removed_cell_has_left_goes_step_by_step_and_each_step_is_told_once() -> None:
    """Nothing is removed of a cell that is there, nor of one that comes back in between."""
    rig = Rig(1)

    async def story() -> None:
        async with rig.running():
            await rig.clock.sleep(2 * LEFT_OVER_S)
            assert rig.removes == []
            rig.retired, rig.left = ["cell-0005"], {"cell-0005": "events wait in its hold queue"}
            await rig.clock.sleep(3 * LEFT_OVER_S)
            rig.left = {"cell-0005": "its stack is being deleted"}
            await rig.clock.sleep(2 * LEFT_OVER_S)
            rig.left = {}
            await rig.clock.sleep(3 * LEFT_OVER_S)
            rig.retired = []
            asked = len(rig.removes)
            await rig.clock.sleep(3 * LEFT_OVER_S)
            assert len(rig.removes) == asked

    play(rig.clock, story())
    assert set(rig.removes) == {"cell-0005"}
    steps = ["events wait in its hold queue", "its stack is being deleted", "what it had is gone"]
    assert rig.told() == [("cell-0005", "remove", step) for step in steps]
    assert [entry.why for entry in rig.registry.contents.audit] == steps
