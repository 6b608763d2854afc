"""A trouble that cells share is no cell's fault, also where one of them shows it first."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import pytest

from router.core.control.guards import why_renewed
from router.core.detection.announcements import Announced, Occasion
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.baseline import Baseline
from router.core.models import Rung, Vitals
from tests.support.fake_cells import Sickness
from tests.support.sick_world import VICTIM, SickWorld, in_sick_world


def test_cells_whose_dependency_hangs_are_left_alone_though_one_shows_it_first() -> None:
    """Their canaries are out of step, by up to a second, so one of the cells is the first to hang."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(40):
            for cell_id in world.generations():
                world.fall_ill(cell_id, Sickness(hangs=True))
                await world.clock.sleep(0.3)
            await world.clock.sleep(20)
            assert world.taken("restart instance", "replace") == []
            assert world.rungs() == {Rung.GUARDED}
            assert not any(record.treatment.ejected for record in world.control.contents.cells.values())
            for cell in world.cells.cells.values():
                cell.sick.clear()
            await world.until(lambda: world.rungs() == {Rung.WELL}, "well again", 60)

    in_sick_world(story)


def starving(*cells: str) -> dict[str, Vitals]:
    """What the instances of these cells say that wait for a core half of the time."""
    return dict.fromkeys(cells, Vitals(1.0, 0.3, 0.5, None, 0.01, 0.0, 0.001, 0.002))


def test_instances_that_say_they_starve_are_replaced_all_the_same_when_they_are_slow() -> None:
    """Their word is evidence and no excuse: the twin, on a machine as starved, tells whether it is the instance."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            world.machines.vitals = starving(VICTIM, "cell-0002")
            world.fall_ill(VICTIM, Sickness(factor=3))
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 25)
            entry = next(each for each in world.control.contents.audit if each.action == "replace")
            assert "waits 500 ms a second for a core" in entry.why

    in_sick_world(story)


async def renew(world: SickWorld, sickness: Sickness) -> None:
    """Have two of six instances end, and those that come in their place fall ill: one as told, the other always."""
    for cell_id, sick in {VICTIM: Sickness(factor=4), "cell-0002": sickness}.items():
        world.cells.cells[cell_id].sick[2] = sick
        world.machines.end(cell_id, 1)
    both = [VICTIM, "cell-0002"]
    await world.until(lambda: [world.record(cell_id).generation for cell_id in both] == [2, 2], "renewed", 20)


def test_new_instances_that_are_all_slower_than_those_before_them_are_left_alone() -> None:
    """It is what is new in them: the next ones would have it too, and a person has to look."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(90):
            await renew(world, Sickness(factor=4))
            await world.until(lambda: world.rung() is world.rung("cell-0002") is Rung.GUARDED, "both guarded", 50)
            why = {world.record(cell_id).treatment.why for cell_id in (VICTIM, "cell-0002")}
            assert len(why) == 1
            assert "it is what is new in them, and not this instance alone" in str(why)
            await world.clock.sleep(20)
            assert world.taken("restart instance", "replace") == []

    in_sick_world(story, cells=6)


def test_of_two_new_instances_the_one_that_is_slow_is_replaced() -> None:
    """The verdict says when it came, and its successor is not spared when it is slow again."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(90):
            await renew(world, Sickness())
            await world.until(lambda: world.record(VICTIM).generation == 3, "replaced", 50)
            entry = next(each for each in world.control.contents.audit if each.action == "replace")
            assert "another instance got its traffic" in entry.why

    in_sick_world(story, cells=6)


@pytest.mark.parametrize(
    ("others", "spared"),
    [
        ([{"canary_s": 0.06}], True),
        ([{"canary_s": 0.014, "baseline": Baseline(canary_s=0.005)}], False),  # 9 ms more are noise
        ([{"deviation": log(2), "latency_s": 0.2}], True),
        ([{"deviation": log(2), "latency_s": 0.02}], False),  # 10 ms more are noise
        ([{"deviation": log(1.4), "latency_s": 2.0}], False),
        ([{"canary_s": 0.06}, {}], False),  # half of them are not most
        ([{"canary_s": 0.06}, {"canary_s": 0.06}, {}], True),
        ([{"canary_s": 0.06, "announced": ()}], False),
        ([{"canary_s": 0.06, "announced": (Announced(Occasion.TREATED, 9.0),)}], False),
        ([], False),
    ],
)
def test_what_is_new_is_to_blame_where_most_that_have_it_got_clearly_slower(
    others: list[dict[str, Any]], spared: bool
) -> None:
    """A few milliseconds are no release's fault, and what was replaced as sick is nothing new."""
    renewed = (Announced(Occasion.RELEASED, 70.0),)
    slow = Assessment("cell", verdict=Verdict.SLOW, announced=renewed)
    usual = Assessment("", announced=renewed, canary_s=0.02, baseline=Baseline(canary_s=0.02))
    found = {str(number): replace(usual, cell_id=str(number), **more) for number, more in enumerate(others)}
    found["cell"] = slow
    assert (why_renewed(slow, found) is not None) == spared
    assert why_renewed(replace(slow, announced=()), found) is None
    assert why_renewed(replace(slow, verdict=Verdict.HUNG), found) is None
