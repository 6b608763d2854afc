"""Releases on virtual time: images that are good, crash, are slow or fail events, while leaders die and cells come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from router.core.errors import PolicyRefusedError
from router.core.models import Outcome, Rung
from router.core.policy import Policy
from router.core.release import Phase, Release, ReleaseAction, Wave
from tests.support.control_world import DEFAULT_IMAGE, Process, actions
from tests.support.fake_cells import Sickness
from tests.support.memory_registry import Contents
from tests.support.sick_world import RATES, WARM_S, SickWorld, in_sick_world

NEW = "worker:2"
WAVES = (Wave(cells=1), Wave(percent=50.0), Wave(percent=100.0))
CELLS = 6
WARM_UP_S = 2.0  # of new instances: the worlds here are quick
BAKE_S = 25.0
WAVE_S = BAKE_S + 10  # in which a wave is changed and judged
FAULTS: dict[str, tuple[Sickness | None, str]] = {
    "crashes": (None, "2 launches have failed: .*exit code 1"),
    "is slow": (Sickness(factor=3), "is slow|its canary takes"),
    "is a little slow": (Sickness(factor=1.8), r"its canary takes \d+ ms, 1\.[789] times as long"),
    "has a slow handler": (Sickness(event_extra_s=0.4), r"its events take \d+ ms, more than 4 times as long|is slow"),
    "fails 20 % of events": (Sickness(fails_every=5), r"of \d+ events fail, usually 0\.0%"),
    "fails all": (Sickness(outcome=Outcome.FAILED), "is failing|canary|launches have failed"),
}


def released(image: str = NEW, **options: object) -> Callable[[Policy], Policy]:
    """The edit by which a person proposes a release."""
    release = replace(Release(image, WAVES, bake_s=BAKE_S), **options)  # type: ignore[arg-type] # a test's own
    return lambda policy: replace(policy, release=release)


def last(world: SickWorld) -> Release:
    """The last release, as the registry has it."""
    found = world.control.contents.policy.release
    assert found is not None
    return found


def images(world: SickWorld) -> dict[str, str]:
    """The image of each cell's admitted instance, by the word of what launched it."""
    return {cell: world.machines.images[cell, generation] for cell, generation in world.generations().items()}


def touched(world: SickWorld, image: str = NEW) -> set[str]:
    """The cells that ever had an instance of the image."""
    return {cell for (cell, _), has in world.machines.images.items() if has == image}


def in_phase(world: SickWorld, *phases: Phase) -> Callable[[], bool]:
    """Whether the release is in one of these phases."""
    return lambda: last(world).phase in phases


def loaded(world: SickWorld, seconds: float, controllers: int = 1) -> AbstractAsyncContextManager[list[Process]]:
    """Load the world with a third of the usual events."""
    return world.under_load(seconds, controllers, {tenant: rate / 3 for tenant, rate in RATES.items()})


def at(world: SickWorld, wave: int, phase: Phase) -> Callable[[], bool]:
    """Whether the release is at this wave, from 0, in this phase."""
    return lambda: (last(world).wave, last(world).phase) == (wave, phase)


def play(story: Callable[[SickWorld], object], cells: int = CELLS) -> SickWorld:
    """Play a story in a world whose events are tried often enough that none becomes a dead letter."""

    async def patient(world: SickWorld) -> None:
        world.max_attempts = 100
        await story(world)  # type: ignore[misc] # each story is a coroutine function

    return in_sick_world(patient, cells, WARM_UP_S)


def test_a_good_image_goes_out_wave_by_wave() -> None:
    """One cell, half of them, all: each wave is judged before the next one; no key moves, and no event is lost."""

    async def story(world: SickWorld) -> None:
        async with loaded(world, 3 * WAVE_S):
            await world.decide(released())
            counts = []
            for wave in range(3):
                await world.until(at(world, wave, Phase.BAKING), f"wave {wave} bakes")
                counts.append(list(images(world).values()).count(NEW))
            assert counts == [1, 3, 6]
            await world.until(in_phase(world, Phase.DONE), "done", WAVE_S)
            assert set(images(world).values()) == {NEW}
            assert set(world.generations().values()) == {2}
            assert world.control.contents.policy.image == NEW
            assert world.rungs() == {Rung.WELL}
            assert not any(record.replaced_at_ms for record in world.control.contents.cells.values())
        assert "canary" in next(e.why for e in world.control.contents.audit if e.action == ReleaseAction.WAVE)

    play(story)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_image_is_taken_back_in_its_first_wave(fault: str) -> None:
    """The one cell that had it has the image before again, the others never had it, and the audit says why."""
    sickness, why = FAULTS[fault]

    async def story(world: SickWorld) -> None:
        world.machines.faulty[NEW] = sickness
        async with loaded(world, 2 * WAVE_S):
            await world.decide(released())
            await world.until(in_phase(world, Phase.ROLLED_BACK), "rolled back", 2 * WAVE_S)
            assert len(touched(world)) == 1
            assert set(images(world).values()) == {DEFAULT_IMAGE}
            assert world.control.contents.policy.image == DEFAULT_IMAGE
            await world.until(lambda: world.rungs() == {Rung.WELL}, "all are well", 30)
            assert not any(record.replaced_at_ms for record in world.control.contents.cells.values())
        [entry] = [e for e in world.control.contents.audit if e.action == ReleaseAction.ROLL_BACK]
        assert re.search(why, entry.why), entry.why
        assert entry.why.startswith("wave 1 of 3")

    play(story)


@pytest.mark.parametrize(
    ("sickness", "why"),
    [(Sickness(event_extra_s=0.6), r"its events take \d+ ms"), (Sickness(fails_every=8), r"of \d+ events fail")],
    ids=["slow handler", "fails an eighth"],
)
def test_a_bad_image_is_taken_back_by_few_events(sickness: Sickness, why: str) -> None:
    """The cell that had it answers one in two seconds, too few within the detector's window to say anything."""

    async def story(world: SickWorld) -> None:
        world.machines.faulty[NEW] = sickness
        rates = {tenant: rate / 20 for tenant, rate in RATES.items()}
        async with world.under_load(180, 1, rates):
            await world.decide(released(bake_s=90.0))
            await world.until(in_phase(world, Phase.ROLLED_BACK), "rolled back", 150)
            assert len(touched(world)) == 1
        [entry] = [e for e in world.control.contents.audit if e.action == ReleaseAction.ROLL_BACK]
        assert re.search(why, entry.why), entry.why

    play(story)


@pytest.mark.parametrize("wipe", [False, True], ids=["leader dies", "leader dies and Redis is emptied"])
def test_a_release_survives_its_leader_at_every_step(wipe: bool) -> None:
    """Whoever leads next goes on from where it was; what Redis has lost, controllers and routers remember."""

    async def story(world: SickWorld) -> None:
        async with loaded(world, 7 * WAVE_S) as control:
            await world.decide(released())
            steps = [(wave, phase) for wave in range(3) for phase in (Phase.CHANGING, Phase.BAKING)]
            for wave, phase in steps:
                await world.until(at(world, wave, phase), f"{phase} of wave {wave}", 2 * WAVE_S)
                leader = world.control.contents.leader[0]
                number = int(leader.rpartition("-")[2]) if leader else 0
                control.append(world.controller(f"controller-{len(control)}"))
                await world.clock.sleep(0.3)  # by then the new one has read the registry, as one that waits has
                control[number].kill()
                if wipe:
                    world.control.contents = Contents(audit=world.control.contents.audit)
                await world.clock.sleep(1)
            await world.until(in_phase(world, Phase.DONE), "done", 2 * WAVE_S)
            assert set(images(world).values()) == {NEW}

    play(story)


def test_a_rollback_survives_its_leader() -> None:
    """What was decided is carried out by the next one."""

    async def story(world: SickWorld) -> None:
        world.machines.faulty[NEW] = Sickness(fails_every=5)
        async with loaded(world, 3 * WAVE_S) as control:
            await world.decide(released(waves=(Wave(percent=50.0), Wave(percent=100.0)), at_once=1))
            await world.until(in_phase(world, Phase.ROLLING_BACK), "rolls back", 2 * WAVE_S)
            control.append(world.controller("controller-1"))
            control[0].kill()
            await world.until(in_phase(world, Phase.ROLLED_BACK), "rolled back", 60)
            assert set(images(world).values()) == {DEFAULT_IMAGE}

    play(story)


def test_cells_come_and_go_while_a_release_runs() -> None:
    """A cell that is added gets the image before and joins the last wave; one that goes is not waited for."""

    async def story(world: SickWorld) -> None:
        async with world.running(routers=2):
            loading = asyncio.create_task(world.send_steadily(RATES, 5 * WAVE_S))
            await world.clock.sleep(WARM_S)
            await world.decide(released())
            await world.until(in_phase(world, Phase.BAKING), "bakes", 60)
            await world.decide(lambda policy: policy.with_cells(7, 6))
            await world.until(lambda: world.serving() == 7, "the seventh serves", 60)
            assert images(world)["cell-0006"] == DEFAULT_IMAGE
            await world.until(world.at_rest, "it has its slots", 120)
            await world.decide(lambda policy: policy.with_cells(6, 7))
            await world.until(in_phase(world, Phase.DONE), "done", 6 * WAVE_S)
            assert {image for cell, image in images(world).items() if cell != "cell-0006"} == {NEW}
            await loading
            await world.until(lambda: set(world.cells.effects()) == world.sent, "every event had its effect", 120)
            assert max(world.cells.effects().values()) == 1

    play(story)


def test_a_release_can_be_taken_back_and_no_second_one_begins_meanwhile() -> None:
    """A person takes it out of the policy; every cell has the image before again."""

    async def story(world: SickWorld) -> None:
        async with loaded(world, 3 * WAVE_S):
            await world.decide(released())
            await world.until(lambda: last(world).wave == 1 and in_phase(world, Phase.BAKING)(), "second wave", 99)
            with pytest.raises(PolicyRefusedError, match=f"a release of {NEW} is under way"):
                await world.decide(released("worker:3"))
            await world.decide(lambda policy: replace(policy, release=None))
            assert last(world).phase is Phase.ROLLING_BACK
            await world.until(in_phase(world, Phase.ROLLED_BACK), "rolled back", 60)
            assert set(images(world).values()) == {DEFAULT_IMAGE}
            assert len(touched(world)) == 3
            assert last(world).why == "a person has taken it back"

    play(story)


def test_trouble_that_all_cells_share_is_waited_for() -> None:
    """When all are slow alike, no image is to blame; the wave is judged anew when it is over."""

    async def story(world: SickWorld) -> None:
        async with loaded(world, 4 * WAVE_S):
            await world.decide(released())
            await world.until(in_phase(world, Phase.BAKING), "bakes", 60)
            for cell_id in world.generations():
                world.fall_ill(cell_id, Sickness(factor=4))
            await world.until(lambda: last(world).waits is not None, "it waits", 60)
            await world.clock.sleep(10)
            assert (last(world).phase, bool(last(world).waits)) == (Phase.BAKING, True)
            for cell in world.cells.cells.values():
                cell.sick.clear()
            await world.until(lambda: last(world).waits is None, "it goes on", 60)
            since = world.clock.now
            await world.until(lambda: last(world).wave == 1, "next wave", 90)
            assert world.clock.now - since > BAKE_S - 1
        assert ReleaseAction.ROLL_BACK not in actions(world.control.contents.audit)

    play(story)


def test_a_sick_cell_is_treated_beside_a_release_and_waited_for() -> None:
    """A cell on the image before that falls ill gets another instance of that image by the ladder, as ever."""

    async def story(world: SickWorld) -> None:
        async with loaded(world, 5 * WAVE_S):
            await world.decide(released())
            await world.until(in_phase(world, Phase.BAKING), "bakes", 60)
            victim = next(cell for cell, image in images(world).items() if image != NEW)
            world.fall_ill(victim, Sickness(hangs=True))
            world.instances.on_restart = lambda address, _: world.machines.end(*_instance(address))
            await world.until(lambda: world.record(victim).generation == 2, "replaced", 60)
            assert images(world)[victim] == DEFAULT_IMAGE
            assert world.record(victim).replaced_at_ms
            await world.until(in_phase(world, Phase.DONE), "done", 5 * WAVE_S)
            assert set(images(world).values()) == {NEW}

    play(story)


def test_a_frozen_cell_is_left_out_and_gets_the_image_with_its_next_instance() -> None:
    """The release ends without it, and says so."""

    async def story(world: SickWorld) -> None:
        async with loaded(world, 4 * WAVE_S):
            await world.decide(lambda policy: policy.with_frozen("cell-0000", frozen=True))
            await world.decide(released())
            await world.until(in_phase(world, Phase.DONE), "done", 4 * WAVE_S)
            assert images(world)["cell-0000"] == DEFAULT_IMAGE
            assert "cell-0000 (frozen by hand): left out" in (last(world).why or "")
            await world.decide(lambda policy: policy.with_order("cell-0000", 1, evict=False))
            await world.until(lambda: world.record("cell-0000").generation == 2, "replaced", 30)
            assert images(world)["cell-0000"] == NEW

    play(story)


def test_without_traffic_the_canaries_judge_alone_and_it_is_said() -> None:
    """A slow image is taken back all the same."""

    async def story(world: SickWorld) -> None:
        async with world.running(routers=1):
            await world.decide(released())
            await world.until(in_phase(world, Phase.DONE), "done", 4 * WAVE_S)
            assert "judged by canaries alone: 0 events" in (last(world).why or "")
            world.machines.faulty["worker:3"] = Sickness(factor=3)
            await world.decide(released("worker:3"))
            await world.until(in_phase(world, Phase.ROLLED_BACK), "rolled back", 2 * WAVE_S)
            assert len(touched(world, "worker:3")) == 1

    play(story)


def _instance(address: str) -> tuple[str, int]:
    cell_id, _, generation = address.partition(":")
    return cell_id, int(generation)
