"""The slot map on real processes: commands plan, make and undo changes, under load and while processes die."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from cell_worker.contract.redis_client import connect
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry
from router.core.registry import Snapshot
from router.core.slot_map.slots import SlotMap
from tests.support.aio import until
from tests.support.keys import ring
from tests.support.system import System

pytestmark = pytest.mark.one_kind  # about the controller's moves, which are the same on all servers

KEYS = [f"tenant-{i}" for i in range(24)]
BURSTS = 2  # a second


async def load(system: System, seconds: float) -> None:
    """Send a dozen events a second for some seconds, over all keys in turn."""
    for number in range(round(seconds * BURSTS)):
        await system.send([{"key": KEYS[(6 * number + i) % len(KEYS)], "sleep": 0.1} for i in range(6)])
        await asyncio.sleep(1 / BURSTS)  # noqa: TID251 - real processes, open loop


async def cli(system: System, *arguments: str, code: int = 0) -> str:
    """Run a command while the load goes on; return all that it prints."""
    done = await asyncio.to_thread(system.cli, *arguments, check=False)
    assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


async def snapshot(system: System) -> Snapshot:
    """Read the whole registry as it is now."""
    async with connect(system.environ["CELLROUTER_REDIS_URL"]) as redis:
        registry = RedisRegistry(redis, system.name, ring(system.name), SystemClock())
        return await registry.snapshot()


async def look(system: System) -> SlotMap:
    """Return the slot map in force."""
    found = (await snapshot(system)).slot_map
    assert found is not None
    return found


async def generations(system: System) -> dict[str, int]:
    """Return the admitted generation of each cell."""
    return {cell_id: record.generation for cell_id, record in (await snapshot(system)).cells.items()}


async def place(system: System, key: str) -> dict[str, Any]:
    """Return what `where --json` says of a key."""
    return dict(json.loads(await cli(system, "where", key, "--json")))


def test_cells_are_added_and_taken_away_by_a_command(on_system: Callable[..., System]) -> None:
    """`scale` says what it would do, does it under load, and goes back; every event has its effect once."""

    async def story(system: System) -> None:
        await system.router()
        loading = asyncio.create_task(load(system, 25))
        said = await cli(system, "scale", "--cells", "3", "--dry-run")
        assert "2 → 3 cells: would move 5461 of 16384 slots (33.3% of the keys) in 11 moves" in said
        assert "There are 3 cells" in await cli(system, "scale", "--cells", "3")
        assert "100.0%" in await cli(system, "blast-radius", "--by", "zone")
        shares = json.loads(await cli(system, "blast-radius", "--json", "--assert", "max=0.9"))
        assert sum(share["keys"] for share in shares) == 1
        assert sum(share["events"] for share in shares) == pytest.approx(1)
        too_much = await cli(system, "blast-radius", "--what-if", "cell=cell-0002", "--assert", "max=0.4", code=1)
        assert "with it, more than 40.0%" in too_much
        assert "give cell=NAME" in await cli(system, "blast-radius", "--what-if", "cell-0002", code=2)
        assert sorted((await look(system)).counts().values()) == [5461, 5461, 5462]
        assert "There are 2 cells" in await cli(system, "scale", "--cells", "2")
        await loading
        await system.done(set(system.sent))
        history = await cli(system, "policy", "history")
        assert history.count("end scaling") == 1
        assert system.cli("scale", "--cells", "0", check=False).returncode == 2

    system = on_system(story)
    assert Counter(deed["event"] for deed in system.deeds()) == Counter(system.sent)


def test_a_key_is_pinned_and_unpinned_and_what_makes_no_sense_is_refused(on_system: Callable[..., System]) -> None:
    """`plan` shows the pin, `apply` makes it, `where` sees it, `undo` takes it back; a wrong cell is refused."""

    async def story(system: System) -> None:
        await system.router()
        before = await place(system, "tenant-1")
        other = ({"cell-0000", "cell-0001"} - {before["cell"]}).pop()
        assert f"key tenant-1: {before['cell']} → {other}" in await cli(system, "plan", "pin", "tenant-1", other)
        assert await place(system, "tenant-1") == before
        await cli(system, "apply", "pin", "tenant-1", other, "--why", "a test")

        async def pinned() -> bool:
            return bool((await place(system, "tenant-1"))["cell"] == other)

        await until(pinned, "the key is in its other cell")
        await system.send([{"key": "tenant-1"}])
        await system.done(set(system.sent))
        assert (system.directory / "data" / "cells" / other).exists()
        refused = await cli(system, "apply", "pin", "tenant-1", "cell-0009", code=2)
        assert "there is no cell cell-0009" in refused
        assert "is not pinned" in await cli(system, "apply", "unpin", "tenant-2", code=1)
        assert "Taken back: pin tenant-1: pinned to" in await cli(system, "undo")

        async def back() -> bool:
            return await place(system, "tenant-1") == before | {"epoch": (await place(system, "tenant-1"))["epoch"]}

        await until(back, "the key is where it was")
        system.leader.process.kill()
        assert "no controller leads" in await cli(system, "apply", "cordon", "cell-0000", code=1)

    on_system(story)


def test_a_cell_that_dies_takes_nothing_of_another_with_it(on_system: Callable[..., System]) -> None:
    """One of four is killed twice under load: the map stays the same, and every cell does its own keys (P4).

    The other cells get no new generation; none of their events is done elsewhere, twice or only at a second attempt.
    """
    victim, maps, admitted = "cell-0002", [], []

    async def story(system: System) -> None:
        await system.router()
        maps.append(await look(system))
        loading = asyncio.create_task(load(system, 15))
        for generation in (2, 3):
            await asyncio.sleep(2)  # noqa: TID251 - some load
            system.kill(victim)

            async def replaced(generation: int = generation) -> bool:
                return (await generations(system))[victim] == generation

            await until(replaced, f"generation {generation} has the cell", 60)
        await loading
        await system.done(set(system.sent))
        maps.append(await look(system))
        admitted.append(await generations(system))

    system = on_system(story, cells=4)
    assert maps[0] == maps[1]
    assert admitted == [{"cell-0000": 1, "cell-0001": 1, victim: 3, "cell-0003": 1}]
    deeds = system.deeds()
    assert {deed["cell"] for deed in deeds} == maps[0].cells()
    assert all(deed["cell"] == maps[0].cell_of(deed["key"]) for deed in deeds)
    others = [deed for deed in deeds if deed["cell"] != victim]
    assert {(deed["generation"], deed["attempt"]) for deed in others} == {(1, 1)}
    assert max(Counter(deed["event"] for deed in others).values()) == 1
