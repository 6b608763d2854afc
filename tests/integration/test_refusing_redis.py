"""Redis answers reads and refuses writes, in seven ways, under load: the data plane goes on and the fleet stays (P14).

REFUSED_S sets for how many seconds each way lasts, and TABLE names a file for the table of what was measured.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from cell_worker.contract import protocol
from cell_worker.contract.redis_client import connect
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry, Told
from router.core.errors import RegistryUnavailableError
from tests.support.aio import run, until
from tests.support.keys import ring
from tests.support.refusing_redis import RefusingRedis, refusing_redis
from tests.support.system import Role, System

pytestmark = pytest.mark.one_kind  # it is about Redis' faults, on servers of its own

REFUSED_S = float(os.environ.get("REFUSED_S", "6"))
CELLS = 3
EVERY_S = 0.25
AT_ONCE = 10  # so many events each time
KEYS = [f"tenant-{i}" for i in range(60)]
CLOCK = SystemClock()


@dataclass
class Measured:
    """What one way of refusing has done."""

    mode: str
    share: float = 0.0  # of the events that were done before in as long a time
    lost: int = 0  # looks at the router that found a cell without a target
    stopped: int = 0
    leader_s: float = 0.0  # from the end to the leader's first write
    told: int = 0  # lines of the router's log about the registry or its leases

    def __str__(self) -> str:
        figures = f"{self.share:8.1%} | {self.lost:12} | {self.stopped:17} | {self.leader_s:13.1f} | {self.told:5}"
        return f"| {self.mode:26} | {figures} |"


HEAD = "| mode                       | through- | targets lost | instances stopped | leader wrote  | lines |"


class Story:
    """A system on a Redis that can be made to refuse."""

    def __init__(self, system: System, router: Role, redis: RefusingRedis) -> None:
        self.system = system
        self.router = router
        self.redis = redis

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Send events at a fixed rate."""

        async def send() -> None:
            number = 0
            while True:
                sending = asyncio.create_task(
                    self.system.send([{"key": KEYS[(number + i) % 60]} for i in range(AT_ONCE)])
                )
                await CLOCK.sleep(EVERY_S)
                await sending
                number += AT_ONCE

        task = asyncio.create_task(send())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def done(self, since_ms: int, until_ms: int) -> int:
        """Count the events that were done in that time."""
        return sum(since_ms <= deed["at_ms"] < until_ms for deed in self.system.deeds())

    def instances(self) -> set[str]:
        """Name the instances that run."""
        return {path.name for path in (self.system.directory / "data" / "run").glob("*.pid")}

    def lines(self) -> int:
        """Count the router's lines about the registry and its leases."""
        words = ("the registry can", "leases have ended", "leases count again")
        return sum(any(word in line for word in words) for line in self.router.log.read_text().splitlines())

    async def lost(self) -> int:
        """Look at the router until cancelled; returns how often a cell had no target."""
        found = 0
        with suppress(asyncio.CancelledError):
            while True:
                lanes = json.loads(await asyncio.to_thread(self.router._get, "/cells") or "[]")
                found += sum(not lane["address"] for lane in lanes)
                await CLOCK.sleep(0.2)
        return found

    async def leader_wrote(self, since_ms: int) -> bool:
        """Tell whether the leader has said how cells are since then."""
        key = protocol.redis_key(self.system.name, "conditions")
        return int(await self.redis.master.hget(key, "at") or 0) > since_ms

    async def refuse(self, mode: str, usual: float) -> Measured:
        """Have Redis refuse in this way for a while, and measure; `usual` is the events done in a second before."""
        begin, end = self.redis.modes[mode]
        measured, before, lines = Measured(mode), self.instances(), self.lines()
        looking = asyncio.create_task(self.lost())
        await begin()
        begun = CLOCK.time_ms()
        await CLOCK.sleep(REFUSED_S)
        ready = json.loads(await asyncio.to_thread(self.router._get, "/readyz"))
        assert ready["ready"]
        assert ready["status"] == "degraded", (mode, ready)
        ended = CLOCK.time_ms()
        await end()
        await until(lambda: self.leader_wrote(ended), f"the leader writes after: {mode}")
        measured.leader_s = (CLOCK.time_ms() - ended) / 1000
        measured.share = self.done(begun, ended) / (usual * (ended - begun) / 1000)
        await until(self.well, f"all is well after: {mode}")
        looking.cancel()
        measured.lost, measured.stopped = await looking, len(before ^ self.instances())
        measured.told = self.lines() - lines
        return measured

    async def well(self) -> bool:
        """Tell whether the router says so."""
        return bool('"status":"ready"' in await asyncio.to_thread(self.router._get, "/readyz"))


class FastClock(SystemClock):
    """A clock that a test can put forward."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


FAULTS = {
    "read-only after a failover": "read-only",
    "out of memory": "full",
    "can't save": "cannot save",
    "too few replicas": "too few replicas",
    "another password": "login refused",
    "cells' user off": "",
    "writes hang": "unreachable",
}


def test_each_way_is_told_once_and_ends_on_the_same_client() -> None:
    """A client whose connection leads to what was the master lets go of it, and writes to the new one."""

    async def story() -> None:
        clock, told = FastClock(), list[Told]()
        async with refusing_redis() as redis, connect(redis.url) as client:
            registry = RedisRegistry(client, "test", ring("test"), clock, tell=told.append)
            for mode, fault in FAULTS.items():
                assert await registry.lead("me", 5, 0)
                begin, end = redis.modes[mode]
                await begin()
                for _ in range(3 if fault else 0):
                    with pytest.raises(RegistryUnavailableError):
                        await registry.lead("me", 5, 0)
                await end()
                clock.ahead_s += 5
                assert await registry.lead("me", 5, 0), mode
                faults = [getattr(record, "fault", "well") for record in told]
                assert faults[-2:] == ([fault, "well"] if fault else []), mode
                assert len([fault for fault in faults if fault != "unreachable"]) <= 2, mode  # a cut connection is one
                told.clear()

    run(story(), 90)


def test_while_redis_refuses_writes_the_data_plane_goes_on(aws_endpoint: str, tmp_path: Path) -> None:
    """No target is lost, no instance stopped, each event done once, and the leader writes again soon."""
    found: list[Measured] = []

    async def story() -> None:
        async with refusing_redis() as redis:
            system = System(redis.url, aws_endpoint, tmp_path, cells=CELLS, fifo=False)
            system.environ["CELLROUTER_CELLS_REDIS_URL"] = redis.cells_url
            async with system.running():
                told = Story(system, await system.router(), redis)
                await until(told.well, "the router is ready")
                async with told.load():
                    await CLOCK.sleep(5)
                    begun = CLOCK.time_ms()
                    await CLOCK.sleep(REFUSED_S)
                    usual = told.done(begun, now := CLOCK.time_ms()) / ((now - begun) / 1000)
                    for mode in redis.modes:
                        measured = await told.refuse(mode, usual)
                        found.append(measured)
                await system.done(set(system.sent))
                assert Counter(deed["event"] for deed in system.deeds()) == Counter(system.sent)

    try:
        run(story(), 180 + 10 * REFUSED_S)
    finally:
        table = "\n".join([HEAD, *map(str, found)])
        print(table)  # noqa: T201 - pytest -s shows it
        if "TABLE" in os.environ:
            Path(os.environ["TABLE"]).write_text(table + "\n")
    assert [(m.mode, m.lost, m.stopped) for m in found if m.lost or m.stopped] == []
    assert [str(m) for m in found if m.share < 0.8] == []
    assert len(found) == 7
