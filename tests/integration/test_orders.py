"""People's orders about cells, by commands on real processes under load: obeyed and undone, without a lost event."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cell_worker.contract.redis_client import connect
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry
from router.core.registry import Snapshot
from router.core.slot_map.slots import SlotMap
from tests.support.aio import until
from tests.support.keys import ring
from tests.support.system import Role, System

pytestmark = pytest.mark.one_kind  # the controller does the same whatever the servers

KEYS = [f"tenant-{i}" for i in range(24)]


async def cli(system: System, *arguments: str, code: int = 0) -> str:
    """Run a command that has to end with this exit code; return all that it prints."""
    done = await asyncio.to_thread(system.cli, *arguments, check=False)
    assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def in_line(text: str) -> str:
    """Return a text without frames and line breaks."""
    return " ".join(text.replace("│", " ").split())


async def order(system: System, action: str, cell_id: str, *options: str, code: int = 0) -> str:
    """Run one of the commands about a cell, with a reason."""
    return await cli(system, action, cell_id, "--why", "a test", *options, code=code)


@asynccontextmanager
async def registry(system: System) -> AsyncIterator[RedisRegistry]:
    """Open the system's own registry."""
    async with connect(system.environ["CELLROUTER_REDIS_URL"]) as redis:
        yield RedisRegistry(redis, system.name, ring(system.name), SystemClock())


async def look(system: System) -> Snapshot:
    """Read the whole registry as it is now."""
    async with registry(system) as found:
        return await found.snapshot()


async def load(system: System, stop: asyncio.Event) -> None:
    """Send a dozen events a second, over all keys in turn, until told to stop."""
    for number in range(1000):
        if stop.is_set():
            return
        await system.send([{"key": KEYS[(6 * number + i) % len(KEYS)], "sleep": 0.05} for i in range(6)])
        await asyncio.sleep(0.5)  # noqa: TID251 - real processes, open loop


async def serving(system: System, cell_id: str, generation: int) -> None:
    """Wait until this generation has the cell's traffic, and a live lease."""

    async def serves() -> bool:
        snapshot = await look(system)
        lease = snapshot.lease(cell_id, generation)
        return snapshot.cells[cell_id].generation == generation and lease is not None and lease.live and lease.ready

    await until(serves, f"{cell_id} is served by generation {generation}")


async def unserved(system: System, cell_id: str, stop: asyncio.Event) -> int:
    """Count, until told to stop, how often the admitted instance has no live lease."""
    gaps = 0
    async with registry(system) as found:
        while not stop.is_set():
            snapshot = await found.snapshot()
            lease = snapshot.lease(cell_id, snapshot.cells[cell_id].generation)
            gaps += lease is None or not lease.live
            await asyncio.sleep(0.05)  # noqa: TID251 - real processes
    return gaps


def kill(system: System, cell_id: str) -> None:
    """End the cell's newest instance by SIGKILL."""
    newest = max((system.directory / "data" / "run").glob(f"{cell_id}.*.pid"))
    os.kill(json.loads(newest.read_bytes())["pid"], signal.SIGKILL)


def keys_of(cell_id: str, slot_map: SlotMap | None) -> list[str]:
    """List those of KEYS that belong to the cell."""
    assert slot_map is not None
    return [key for key in KEYS if slot_map.cell_of(key) == cell_id]


async def interrupted(system: System, *arguments: str) -> str:
    """Run a command that follows its order, and press Ctrl-C before that is done; return what it prints."""
    command = [sys.executable, "-m", "router", *arguments]
    process = await asyncio.create_subprocess_exec(*command, env=system.environ, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    said = [await process.stdout.readline()]
    system.leader.process.send_signal(signal.SIGSTOP)  # the leader has seen the order, and now does nothing about it
    said.append(await process.stdout.readline())
    process.send_signal(signal.SIGINT)
    said.append(await process.stdout.read())
    system.leader.process.send_signal(signal.SIGCONT)
    assert await process.wait() == 0
    return b"".join(said).decode()


async def explained(system: System, cell_id: str) -> dict[str, Any]:
    """Return what `explain --json` says of a cell."""
    return dict(json.loads(await cli(system, "explain", cell_id, "--json")))


def test_an_instance_is_replaced_and_evicted_by_a_command(on_system: Callable[..., System]) -> None:
    """`replace` leaves no gap, `evict` ends the old instance first; no key moves; both show in history and explain."""

    async def story(system: System) -> None:
        await system.router()
        replaced, enough = asyncio.Event(), asyncio.Event()
        loading = asyncio.create_task(load(system, enough))
        gaps = asyncio.create_task(unserved(system, "cell-0001", replaced))
        before = (await look(system)).slot_map
        unknown = await order(system, "replace", "cell-0009", code=2)
        assert "there is no cell cell-0009; there are: cell-0000, cell-0001" in in_line(unknown)
        assert "--why" in await cli(system, "replace", "cell-0001", code=2)
        said = await order(system, "replace", "cell-0001")
        assert "In force within a second: cell-0001: another instance; generation 1 serves until then" in said
        assert "generation 1 serves; generation 2 is launched" in said
        assert said.endswith("cell-0001 is served by generation 2\n")
        replaced.set()
        assert await gaps == 0
        assert (await look(system)).slot_map == before
        said = await order(system, "evict", "cell-0001", "--wait", "0")
        assert said == "In force within a second: cell-0001: another instance; generation 2 ends now\n"
        await serving(system, "cell-0001", 3)
        assert "generation 2 is gone already, and generation 3 stays" in await cli(system, "undo")
        said = await order(system, "evict", "cell-0000")
        assert said.endswith("cell-0000 is served by generation 2\n")
        said = await order(system, "replace", "cell-0000", "--wait", "0.1", code=1)
        assert "No other instance has taken over within 0.1 s" in said
        await serving(system, "cell-0000", 3)
        enough.set()
        await loading
        await system.done(set(system.sent))
        history = await cli(system, "policy", "history")
        assert "evict cell-0000" in history.replace("\n", " ")
        found = await explained(system, "cell-0000")
        assert {"replace", "evict", "launch", "admit"} <= {entry["action"] for entry in found["audit"]}
        assert (await look(system)).slot_map == before

    system = on_system(story)
    assert Counter(deed["event"] for deed in system.deeds()) == Counter(system.sent)


def controllers_show_the_orders(leader: Role, follower: Role) -> None:
    """Assert that pages and metrics show cell-0000 frozen and cell-0001 ejected, metrics only those of the leader."""
    assert [view["frozen"] for view in json.loads(leader._get("/cells"))] == [True, False]
    assert leader.metric("cellrouter_cell_frozen", cell="cell-0000") == 1
    assert leader.metric("cellrouter_cell_ejected", cell="cell-0001") == 1
    assert leader.metric("cellrouter_cell_rung", cell="cell-0001", rung="well") == 1
    assert "cellrouter_cell_rung{" not in follower._get("/metrics")
    assert "cellrouter_automation_suspended{" not in follower._get("/metrics")
    assert json.loads(follower._get("/cells"))[1]["verdict"] == "healthy"


def test_a_cell_is_frozen_and_ejected_by_a_command(on_system: Callable[..., System]) -> None:
    """A frozen cell that dies stays dead until `unfreeze`; an ejected one's events wait for `readmit`, none is lost."""

    async def story(system: System) -> None:
        router, follower = await system.router(), await system.controller()
        slot_map = (await look(system)).slot_map
        await order(system, "freeze", "cell-0000")
        assert "in force already" in await order(system, "freeze", "cell-0000")
        kill(system, "cell-0000")
        await order(system, "eject", "cell-0001")
        assert "not ejected" in await order(system, "readmit", "cell-0000", code=1)
        assert "frozen" in await cli(system, "policy", "show")
        own = keys_of("cell-0001", slot_map)
        await system.send([{"key": key} for key in own])

        async def held() -> bool:
            return await system.size(system.hold("cell-0001")) == len(own)

        await until(held, "the ejected cell's events are in its hold queue")
        assert (await asyncio.to_thread(json.loads, router._get("/cells")))[1]["state"] == "ejected"
        place = json.loads(await cli(system, "where", own[0], "--json"))
        assert (place["state"], place["by_hand"]) == ("ejected", "ejected")
        found = await explained(system, "cell-0000")
        assert (found["state"], found["generation"], found["launching"]) == ("down", 1, 0)
        assert found["by_hand"] == "frozen"
        controllers_show_the_orders(system.leader, follower)
        assert system.deeds() == []
        await order(system, "readmit", "cell-0001")
        await system.done(set(system.sent))
        assert (await look(system)).cells["cell-0000"].launched == 1
        await order(system, "unfreeze", "cell-0000")
        await serving(system, "cell-0000", 2)
        assert "Taken back: unfreeze cell-0000" in await cli(system, "undo")
        said = await interrupted(system, "replace", "cell-0001", "--why", "a test")
        assert said.endswith("It goes on without you; cellrouter explain cell-0001 tells how far it is\n")
        await serving(system, "cell-0001", 2)
        assert (await look(system)).policy.frozen == {"cell-0000"}
        assert "no cell cell-7" in await cli(system, "explain", "cell-7", code=2)
        text = await cli(system, "explain", "cell-0001")
        assert all(part in text for part in ("healthy", "its baseline canary", "MAX_FAILURES", "→ cell-0001"))
        assert "No controller leads" not in text
        await follower.signalled(signal.SIGTERM)
        await system.leader.signalled(signal.SIGTERM)
        assert "No controller leads" in await cli(system, "explain", "cell-0001")

    system = on_system(story)
    assert Counter(deed["event"] for deed in system.deeds()) == Counter(system.sent)
