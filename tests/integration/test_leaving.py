"""A controller that ends leaves the cells to the next one; only the last one that is asked to stop ends them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil
import pytest

from cell_worker.contract.redis_client import connect
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry
from router.ports import CellRegistry
from tests.support.aio import run, until
from tests.support.fake_clock import FakeClock
from tests.support.keys import ring
from tests.support.leadership_world import is_gone, nothing_left, pid_of, workers, world
from tests.support.memory_registry import MemoryRegistry
from tests.support.system import System

pytestmark = pytest.mark.one_kind  # it is about the controllers' processes

LIMIT_S: Final = 240
TTL_S: Final = 600.0


@pytest.fixture(autouse=True)
def long_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no instance lose its lease because the machine is busy: these tests are about who ends instances."""
    monkeypatch.setenv("CELLROUTER_CELLS_LEASE_TTL_S", "20")


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_who_resigns_learns_whether_no_controller_is_left(kind: str, redis_url: str) -> None:
    """A leader that has an heir is not the last, nor is who waits while another leads, nor who knows of no leader."""

    async def story(registry: CellRegistry) -> None:
        assert not await registry.resign("a")  # no leader was ever there: nobody can know who has the cells
        assert await registry.lead("a", TTL_S, 0)
        assert await registry.lead("b", TTL_S, 0) is None
        assert not await registry.resign("c")
        assert not await registry.resign("a")  # b waits
        assert await registry.lead("b", TTL_S, 0)
        assert await registry.lead("a", TTL_S, 0) is None
        assert not await registry.resign("a")  # b leads
        assert await registry.resign("b")
        assert await registry.lead("a", TTL_S, 0)
        assert await registry.lead("b", TTL_S, 0) is None
        assert not await registry.resign("a")
        assert await registry.resign("b")  # the leader left the cells to it, and it ends before it has led

    async def on_redis() -> None:
        async with connect(redis_url) as redis:
            await story(
                RedisRegistry(redis, f"t-{uuid.uuid4().hex[:8]}", ring(f"t-{uuid.uuid4().hex[:8]}"), SystemClock())
            )

    run(on_redis() if kind == "redis" else story(MemoryRegistry(FakeClock())))


def test_a_lead_that_ran_out_is_no_sign_that_a_controller_has_left(redis_url: str) -> None:
    """Its owner may be cut off from the registry, and its cells serve."""

    async def story() -> None:
        async with connect(redis_url) as redis:
            registry = RedisRegistry(
                redis, f"t-{uuid.uuid4().hex[:8]}", ring(f"t-{uuid.uuid4().hex[:8]}"), SystemClock()
            )
            assert await registry.lead("a", 0.05, 0)

            async def over() -> bool:
                return not (await registry.snapshot()).leader

            await until(over, "a's lead has run out")
            assert not await registry.resign("b")
            assert not await registry.resign("a")

    run(story())


def test_a_rolling_restart_of_controllers_restarts_no_cell(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """Each leader in turn is asked to stop, as is one that led once and no longer does; the same processes serve."""

    async def story() -> None:
        async with world(redis_url, aws_endpoint, tmp_path, controllers=2) as w:
            before = pids(w.system.name)
            first = w.leader
            os.kill(first, signal.SIGSTOP)
            second = pid_of(await w.leads_after(first))
            os.kill(first, signal.SIGCONT)
            await w.deposed(first)
            assert (await w.controllers[first].signalled(signal.SIGTERM))[0] == 0
            await w.join(w.proxies[first])
            third = next(pid for pid in w.controllers if pid not in (first, second))

            async def waits() -> bool:
                return '"ready":true' in await asyncio.to_thread(w.controllers[third]._get, "/readyz")

            await until(waits, "the third one reaches the registry, where it waits for the lead")
            assert (await w.controllers[second].signalled(signal.SIGTERM))[0] == 0
            assert pid_of(await w.leads_after(second)) == third
            await w.done("with the third")
            assert pids(w.system.name) == before

    run(story(), LIMIT_S)


def test_the_last_controller_that_is_asked_to_stop_ends_its_cells(
    redis_url: str, aws_endpoint: str, tmp_path: Path
) -> None:
    """As on a laptop, where nothing else would end them."""
    system = System(redis_url, aws_endpoint, tmp_path, cells=2, fifo=False)

    async def story() -> None:
        async with system.running():
            left = list(workers(system.name))
            assert len(left) == 2
            assert (await system.leader.signalled(signal.SIGTERM))[0] == 0
            assert all(map(is_gone, left))

    with nothing_left(system):
        run(story(), LIMIT_S)


FAILS: Final = """
import asyncio, pathlib, sys
from router.services.control_plane import upkeep

async def run(self):
    while not pathlib.Path("fail").exists():
        await asyncio.sleep(0.1)
    raise MemoryError("on purpose")

upkeep.Upkeep.run = run
sys.argv = ["cellrouter", "controller"]
from router.cli.main import main
main()
"""


def test_a_controller_that_fails_leaves_its_cells_running(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """The next one adopts them, and starts none anew."""
    system = System(redis_url, aws_endpoint, tmp_path, cells=2, fifo=False)

    async def story() -> None:
        async with system.running():
            assert (await system.leader.signalled(signal.SIGKILL))[0] == -signal.SIGKILL
            before = pids(system.name)
            failing = failing_controller(system.environ, tmp_path)
            system._processes.append(failing)

            async def leads() -> bool:
                return '"leads": true' in (tmp_path / "failing.log").read_text()

            await until(leads, "the one that will fail leads")
            (tmp_path / "fail").touch()
            assert await asyncio.to_thread(failing.wait, 60) == 1
            assert "MemoryError: on purpose" in (tmp_path / "failing.log").read_text()
            assert pids(system.name) == before
            last = await system.controller()
            await until(last.serves_all, "the next one has them")
            assert pids(system.name) == before

    with nothing_left(system):
        run(story(), LIMIT_S)


def failing_controller(environ: Mapping[str, str], directory: Path) -> subprocess.Popen[bytes]:
    """Start a controller of which a task dies when there is a file `fail`."""
    with (directory / "failing.log").open("wb") as log:
        command = [sys.executable, "-c", FAILS]
        environ = {**environ, "CELLROUTER_API_PORT": "0"}
        return subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=directory)


def pids(environment: str) -> set[int]:
    """The process ids of the workers that run."""
    return {process.pid for process in workers(environment) if process.status() != psutil.STATUS_ZOMBIE}
