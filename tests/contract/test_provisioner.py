"""The Provisioner port: one suite for processes, for containers and for tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from router.core.errors import ProvisionError
from router.core.models import InstanceView
from router.ports import Provisioner
from tests.support.aio import run, until
from tests.support.ministack_rig import MiniStackRig
from tests.support.provisioner_rigs import DockerRig, EcsRig, Rig, SubprocessRig

pytestmark = pytest.mark.alone  # an instance has two seconds to end in order

CELL = "cell-0000"
LAST_WORDS = "last words"
Rigs = Callable[[], AbstractAsyncContextManager[Rig]]


@pytest.fixture(params=["subprocess", "docker", "ecs", "ministack"])
def rigs(request: pytest.FixtureRequest, tmp_path: Path) -> Rigs:
    """Makes installations, and removes all that they leave behind."""

    @asynccontextmanager
    async def made() -> AsyncIterator[Rig]:
        kinds: dict[str, Callable[[], Rig]] = {
            "subprocess": lambda: SubprocessRig(tmp_path),
            "docker": DockerRig,
            "ecs": EcsRig,
            "ministack": MiniStackRig,
        }
        rig = kinds[request.param]()
        try:
            yield rig
        finally:
            await rig.close()

    return made


async def view(provisioner: Provisioner, generation: int = 1, cell_id: str = CELL) -> InstanceView | None:
    """What the provisioner says about one instance."""
    found = [v for v in await provisioner.observe() if (v.cell_id, v.generation) == (cell_id, generation)]
    assert len(found) <= 1
    return found[0] if found else None


async def ended(provisioner: Provisioner, generation: int = 1) -> InstanceView:
    """Wait until the provisioner says that an instance has ended."""
    last: list[InstanceView] = []

    async def has() -> bool:
        seen = await view(provisioner, generation)
        assert seen is not None
        last[:] = [seen]
        return not seen.running

    await until(has, f"generation {generation} has ended", 30)
    return last[0]


async def why_not_launched(provisioner: Provisioner, generation: int, image: str) -> str:
    """Return why an instance isn't launched, or has ended before it began."""
    try:
        await provisioner.launch(CELL, generation, image)
    except ProvisionError as error:
        return str(error)
    return (await ended(provisioner, generation)).detail


async def serving(rig: Rig, cell_id: str = CELL, generation: int = 1) -> None:
    """Wait until an instance has started in full; before that a SIGTERM ends Python itself."""

    async def started() -> bool:
        return '"started"' in rig.log(cell_id, generation)

    await until(started, f"{cell_id} generation {generation} has started", 40)


def test_what_is_launched_runs_and_is_known_by_cell_and_generation(rigs: Rigs) -> None:
    """Two cells, one of them with two generations, and none is mistaken for another."""

    async def story() -> None:
        async with rigs() as rig:
            provisioner = await rig.provisioner()
            assert provisioner.can_launch
            assert await provisioner.observe() == []
            launched = [("cell-0000", 1), ("cell-0000", 7), ("cell-0001", 1)]
            for cell_id, generation in launched:
                await provisioner.launch(cell_id, generation)
            seen = await provisioner.observe()
            assert sorted((v.cell_id, v.generation) for v in seen if v.running) == launched

    run(story())


def test_an_instance_is_asked_to_end_and_does_so_in_order(rigs: Rigs) -> None:
    """stop() returns before that; it exits with 0, without last words, is listed as ended, and no other one ends."""

    async def story() -> None:
        async with rigs() as rig:
            provisioner = await rig.provisioner()
            await provisioner.launch(CELL, 1)
            await provisioner.launch("cell-0001", 1)
            await serving(rig)
            await provisioner.observe()
            await provisioner.stop(CELL, 1)
            await provisioner.stop(CELL, 1)
            for _ in range(2):
                detail = (await ended(provisioner)).detail
                assert detail.partition(";")[0] == "exit code 0"
                assert LAST_WORDS not in detail
            other = await view(provisioner, cell_id="cell-0001")
            assert other is not None
            assert other.running

    run(story(), 120)


def test_an_instance_that_does_not_hear_is_killed_after_its_grace(rigs: Rigs) -> None:
    """A stopped process gets SIGKILL too."""

    async def story() -> None:
        async with rigs() as rig:
            provisioner = await rig.provisioner()
            await provisioner.launch(CELL, 1)
            await serving(rig)
            rig.hang(CELL, 1)
            await provisioner.stop(CELL, 1)
            seen = await view(provisioner)
            assert seen is not None
            runs, how = rig.stopped_hung
            assert seen.running is runs
            assert (await ended(provisioner)).detail.startswith(how)

    run(story(), 120)


def test_an_instance_that_dies_is_told_of(rigs: Rigs) -> None:
    """It is listed with how it ended, and nothing starts it again."""

    async def story() -> None:
        async with rigs() as rig:
            provisioner = await rig.provisioner()
            await provisioner.launch(CELL, 1)
            await provisioner.observe()
            rig.kill(CELL, 1)
            assert (await ended(provisioner)).detail.startswith("killed by signal 9")
            assert [v.running for v in await provisioner.observe()] == [False]

    run(story(), 120)


def test_another_controller_finds_what_runs_and_ends_it(rigs: Rigs) -> None:
    """As after a crash, when the first controller could not say anything."""

    async def story() -> None:
        async with rigs() as rig:
            await (await rig.provisioner()).launch(CELL, 3)
            await serving(rig, generation=3)
            second = await rig.provisioner()
            seen = await view(second, 3)
            assert seen is not None
            assert seen.running
            await second.stop(CELL, 3)
            await ended(second, 3)

    run(story(), 120)


def test_ending_what_is_not_there_does_nothing(rigs: Rigs) -> None:
    """A controller may ask late, when the instance is gone already."""

    async def story() -> None:
        async with rigs() as rig:
            provisioner = await rig.provisioner()
            await provisioner.stop(CELL, 1)
            assert await provisioner.observe() == []

    run(story())


def test_a_launch_that_fails_says_so(rigs: Rigs) -> None:
    """The error names cell and generation, so that the controller can count it."""

    async def story() -> None:
        async with rigs() as rig:
            with pytest.raises(ProvisionError, match="cell-0000 generation 1 can't be"):
                await (await rig.broken()).launch(CELL, 1)

    run(story())


def test_an_instance_is_of_the_image_that_was_asked_for_or_none_is_launched(rigs: Rigs) -> None:
    """Without one it is of the provisioner's own, and each says which it is. A process has no image, and says so."""

    async def story() -> None:
        async with rigs() as rig:
            provisioner = await rig.provisioner()
            if not provisioner.takes_images:
                with pytest.raises(ProvisionError, match="worker:2 is an image, and a process has none"):
                    await provisioner.launch(CELL, 1, "worker:2")
                assert await provisioner.observe() == []
                return
            own, other = rig.images()
            await provisioner.launch(CELL, 1)
            await provisioner.launch(CELL, 2, other)
            found = {v.generation: v.image for v in await (await rig.provisioner()).observe()}
            assert found == {1: own, 2: other}
            assert rig.no_image in await why_not_launched(provisioner, 3, "worker:of-nowhere")

    run(story(), 120)
