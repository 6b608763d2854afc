"""A worker process whose store can't be used: its controller gets to know why, and a way out is there."""

from __future__ import annotations

from pathlib import Path

from router.adapters.provisioners.last_words import LAST_LINES, MAX_WORDS
from router.core.models import InstanceView
from router.ports import Provisioner
from tests.support.aio import run, until
from tests.support.provisioner_rigs import SubprocessRig

CELL = "cell-0000"


async def ended(provisioner: Provisioner, generation: int) -> InstanceView:
    """Wait until an instance has ended, and return how."""
    found: list[InstanceView] = []

    async def has() -> bool:
        found[:] = [view for view in await provisioner.observe() if view.generation == generation and not view.running]
        return bool(found)

    await until(has, f"generation {generation} has ended", 60)
    return found[0]


def test_a_damaged_store_is_told_and_a_cell_whose_store_was_moved_aside_starts(tmp_path: Path) -> None:
    """The last words of the instance name the file and the page; the next one makes an empty store."""

    async def story() -> None:
        rig = SubprocessRig(tmp_path)
        store = tmp_path / "cells" / CELL / "store.db"
        store.parent.mkdir(parents=True)
        store.write_bytes(b"no database" * 100)
        try:
            provisioner = await rig.provisioner()
            await provisioner.launch(CELL, 1)
            detail = (await ended(provisioner, 1)).detail
            assert detail.startswith("exit code 1; its last words:\n")
            last = f"cell-worker: the cell's store {store}: file is not a database: docs/how-to/repair-a-store.md"
            assert last in detail.splitlines()[-1]
            store.rename(tmp_path / "broken.db")
            await provisioner.launch(CELL, 2)

            async def started() -> bool:
                return '"started"' in rig.log(CELL, 2)

            await until(started, "the next one has started", 60)
        finally:
            await rig.close()

    run(story(), 150)


def test_the_last_words_of_a_worker_that_said_much_are_few(tmp_path: Path) -> None:
    """An audit entry holds some lines; a log without an end must not fill it, whatever its bytes are."""

    async def story() -> None:
        rig = SubprocessRig(tmp_path)
        try:
            provisioner = await rig.provisioner()
            log = tmp_path / "run" / f"{CELL}.g1.log"
            log.write_bytes(b"\xff\xfe" * 100_000 + b"\n" + b"a line of the log\n" * 1000)
            await provisioner.launch(CELL, 1)
            rig.kill(CELL, 1)
            how, _, words = (await ended(provisioner, 1)).detail.partition("; its last words:\n")
            assert how == "killed by signal 9"
            assert len(words) <= MAX_WORDS
            assert 0 < len(words.splitlines()) <= LAST_LINES
        finally:
            await rig.close()

    run(story(), 100)
