"""Several controllers on one environment: one leads, and when it dies, sleeps or is cut off, another does."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from cell_worker.contract import protocol
from cell_worker.contract.redis_client import connect
from cell_worker.lease import Heartbeat
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry
from router.core.control.lease_trust import TOGETHER_MS
from router.core.errors import NotLeaderError
from router.core.models import CellRecord
from router.core.registry import AuditEntry, Change
from router.core.slot_map.slots import SlotMap, assign
from tests.support.aio import run, until
from tests.support.keys import SECRET, lease_key, ring
from tests.support.leadership_world import World, logged, pid_of, world
from tests.support.servers import valkey
from tests.support.system import System
from tests.support.watcher import Watcher

pytestmark = pytest.mark.one_kind  # it is about who leads

LIMIT_S: Final = 240
IN_A_WRITE: Final = r"hung at \"launch\""  # the audit's JSON, as it is quoted in the JSON of a write
OWNERS: Final = ("a", "b", "c")
SHORT_S: Final = 0.003  # a lease that ends during the story
LONG_S: Final = 50.0  # a lease that never ends during a story; Redis believes none of more than a minute


@asynccontextmanager
async def silent(world: World, pid: int) -> AsyncIterator[None]:
    """Check by the audit and by its own log that this controller does nothing in the block."""
    role, seen = world.controllers[pid], world.watcher.looks

    async def up_to_date() -> bool:
        return world.watcher.looks >= seen + 2

    def doings() -> list[Any]:
        written = [entry for entry in world.watcher.audit if f"/{pid}/" in entry.who]
        return [*written, *(line for line in logged(role) if line["event"] in ("stop", "create failed"))]

    await until(up_to_date, "the watcher has seen what was done before")
    before = doings()
    yield
    assert doings() == before


async def until_more(world: World) -> None:
    """Wait until both cells have done an event after this call."""
    seen = len(world.system.deeds())

    async def both() -> bool:
        return len({deed["cell"] for deed in world.system.deeds()[seen:]}) == 2

    await until(both, "both cells work", 60)


async def load(system: System, enough: asyncio.Event) -> None:
    """Send four events at a time, until `enough` is set."""
    number = 0
    while not enough.is_set():
        number += 1
        await system.send([{"key": f"tenant-{4 * number + i}"} for i in range(4)])
        await asyncio.sleep(0.2)  # noqa: TID251 - real processes, open loop


def test_a_killed_leader_is_followed_and_its_cells_go_on(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """After SIGKILL both cells work without a leader; the next epoch is higher; only a dead instance is replaced."""

    async def story() -> None:
        async with world(redis_url, aws_endpoint, tmp_path, controllers=3) as w:
            first, started, enough = w.watcher.leaderships[-1], w.starts(), asyncio.Event()
            loading = asyncio.create_task(load(w.system, enough))
            await until_more(w)
            killed_ms = SystemClock().time_ms()
            os.kill(w.leader, signal.SIGKILL)
            second = await w.leads_after(pid_of(first))
            await until_more(w)
            enough.set()
            await loading
            await w.system.done(set(w.system.sent))
            assert second.epoch > first.epoch
            assert w.starts() == started == {"cell-0000.g1": 1, "cell-0001.g1": 1}
            leaderless = [deed for deed in w.system.deeds() if killed_ms < deed["at_ms"] < second.since_ms]
            assert {deed["cell"] for deed in leaderless} == {"cell-0000", "cell-0001"}
            assert Counter(deed["event"] for deed in w.system.deeds()) == Counter(w.system.sent)
            w.kill_worker("cell-0001")
            await w.serving({"cell-0000": 1, "cell-0001": 2})
            os.kill(pid_of(second), signal.SIGKILL)
            assert (await w.leads_after(pid_of(second))).epoch > second.epoch

    run(story(), LIMIT_S)


@pytest.mark.parametrize("midway", [False, True], ids=["at rest", "in the middle of a launch"])
def test_a_leader_that_was_stopped_past_its_lease_does_nothing(
    redis_url: str, aws_endpoint: str, tmp_path: Path, *, midway: bool
) -> None:
    """After SIGSTOP another leads, and replaces what has died. After SIGCONT the first writes nothing and follows."""

    async def story() -> None:
        async with world(redis_url, aws_endpoint, tmp_path, controllers=3) as w:
            first = w.leader
            if midway:
                w.kill_worker("cell-0001")
                await w.noted("launch", "cell-0001")
            os.kill(first, signal.SIGSTOP)
            async with silent(w, first):
                if not midway:
                    w.kill_worker("cell-0001")
                second = await w.leads_after(first)
                await w.serving({"cell-0000": 1, "cell-0001": 2})
                os.kill(first, signal.SIGCONT)
                await w.follows(first)
                await w.done("afterwards")
            assert w.leader == pid_of(second)
            done = {entry.action for entry in w.watcher.audit if entry.who == second.owner}
            assert done >= ({"admit"} if midway else {"launch", "admit"})

    run(story(), LIMIT_S)


@pytest.mark.parametrize("fault", ["cut", IN_A_WRITE])
def test_a_leader_without_redis_does_nothing_and_leads_again(
    redis_url: str, aws_endpoint: str, tmp_path: Path, fault: str
) -> None:
    """Cut off alone, it keeps running and steps down. Another controller leads and replaces what has died.

    Once its connection has healed, its delayed writes come too late and change nothing. It follows, and can lead again.
    """

    async def story() -> None:
        async with world(redis_url, aws_endpoint, tmp_path, controllers=4) as w:
            first = w.leader
            os.kill(first, signal.SIGKILL)  # only the controller: its cells still reach Redis through its proxy
            lonely = pid_of(await w.leads_after(first))
            await w.proxies[lonely].break_off(fault)
            async with silent(w, lonely):
                w.kill_worker("cell-0001")
                second = await w.leads_after(lonely)
                await w.serving({"cell-0000": 1, "cell-0001": 2})
                assert w.controllers[lonely].process.poll() is None
                assert (w.proxies[lonely].kept > 0) is (fault != "cut")
                await w.deposed(lonely)
                await w.proxies[lonely].heal()
                await w.follows(lonely)
                await w.done("afterwards")
            assert w.leader == pid_of(second)
            for pid in w.controllers.keys() - {first, lonely}:
                os.kill(pid, signal.SIGKILL)
            assert pid_of(await w.leads_after(pid_of(second))) == lonely
            w.kill_worker("cell-0000")
            await w.serving({"cell-0000": 2, "cell-0001": 2})

    run(story(), LIMIT_S)


def test_a_leader_without_redis_is_replaced_and_all_its_cells_go_on(
    redis_url: str, aws_endpoint: str, tmp_path: Path
) -> None:
    """No cell can renew its lease and all answer: the next leader stops none, and no event is lost."""

    async def story() -> None:
        async with world(redis_url, aws_endpoint, tmp_path, controllers=3) as w:
            first, enough = w.leader, asyncio.Event()
            loading = asyncio.create_task(load(w.system, enough))
            await w.proxies[first].break_off("hung")
            async with silent(w, first):
                await w.leads_after(first)
                await asyncio.sleep(TOGETHER_MS / 1000 + 5)  # noqa: TID251 - real processes, which do nothing meanwhile
                await until_more(w)
                await w.proxies[first].heal()
                await w.follows(first)
                enough.set()
                await loading
                await w.done("afterwards")
            assert w.leader != first
            assert {deed["generation"] for deed in w.system.deeds()} == {1}

    run(story(), LIMIT_S)


class Model:
    """A model of three owners and one registry: it does each step on a real registry, and knows the right result."""

    refused = 0
    accepted = 0

    def __init__(self, redis: Redis) -> None:
        self.registry = RedisRegistry(
            redis, f"t-{uuid.uuid4().hex[:8]}", ring(f"t-{uuid.uuid4().hex[:8]}"), SystemClock()
        )
        self.redis = redis
        self.believed = dict.fromkeys(OWNERS, 1)  # the epoch in which each owner believes it leads
        self.newest = 0  # the highest epoch ever given out
        self.owner = ""  # the owner of the newest epoch, while the registry knows it
        self.lease = "ended"  # or "long", or "short", of which nobody can say whether it has ended
        self.generation = 0  # the last one given out since the registry was emptied
        self.written = 0

    async def lead(self, owner: str, lease: str = "long") -> None:
        """Take or renew the leadership; an emptied registry gets the highest epoch as a hint."""
        seconds = LONG_S if lease == "long" else SHORT_S
        epoch = await self.registry.lead(owner, seconds, self.believed[owner] if self.owner else self.newest)
        if epoch is None:
            assert self.owner != owner
            assert self.lease != "ended"
            return
        if epoch == self.newest:
            assert self.owner == owner
            assert self.lease != "ended"
        else:
            assert epoch > self.newest
            assert self.lease != "long"
        self.newest, self.owner, self.lease, self.believed[owner] = epoch, owner, lease, epoch

    async def lead_shortly(self, owner: str) -> None:
        """Lead with a lease that ends after a few milliseconds."""
        await self.lead(owner, "short")

    async def resign(self, owner: str) -> None:
        """Resign, which ends no other owner's lease."""
        await self.registry.resign(owner)
        if owner == self.owner:
            self.lease = "ended"

    async def wait(self, owner: str) -> None:
        """Wait until a short lease has ended."""
        await asyncio.sleep(2 * SHORT_S)  # noqa: TID251 - a lease in a real server ends
        self.lease = "ended" if self.lease == "short" else self.lease

    async def empty(self, owner: str) -> None:
        """Empty the registry with FLUSHALL, as a restart of Redis would."""
        await self.redis.flushall()
        self.owner, self.lease, self.generation, self.written = "", "ended", 0, 0

    async def write(self, owner: str) -> None:
        """Write a cell and an audit entry: both are taken with the newest epoch, and neither with any other."""
        value, may = self.written + 1, owner == self.owner and self.believed[owner] == self.newest
        entry = AuditEntry(value, owner, "write", "cell-0000", "")
        assert may is await self._taken(
            self.registry.write(self.believed[owner], Change([CellRecord("cell-0000", launched=value)], audit=[entry]))
        )
        self.written += may
        cells = (await self.registry.snapshot()).cells.values()
        assert [cell.launched for cell in cells] == [self.written] * bool(self.written)
        assert [entry.at_ms for entry in await self.registry.audit(1)] == [self.written] * bool(self.written)

    async def next_generation(self, owner: str) -> None:
        """Ask for a generation: only the newest epoch gets one, and each is higher than the last."""
        before, may = self.generation, owner == self.owner and self.believed[owner] == self.newest
        assert may is await self._taken(self._count_up(owner))
        assert self.generation == before + may

    async def _count_up(self, owner: str) -> None:
        self.generation = await self.registry.next_generation(self.believed[owner], "cell-0000")

    async def _taken(self, call: Awaitable[None]) -> bool:
        try:
            await call
        except NotLeaderError:
            Model.refused += 1
            return False
        Model.accepted += 1
        return True


STEPS: Final = (*("lead", "lead_shortly", "write", "next_generation") * 3, "resign", "wait", "wait", "empty")


def test_only_the_newest_epoch_writes_whatever_the_order() -> None:
    """Three owners lead, resign, let leases end and write in any order, on a real server that is emptied in between."""

    async def story(url: str, steps: list[tuple[str, str]]) -> None:
        async with connect(url) as redis:
            await redis.flushall()
            model = Model(redis)
            for name, owner in steps:
                await getattr(model, name)(owner)

    with valkey() as url:

        @settings(max_examples=100, deadline=None)
        @given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(OWNERS)), min_size=20, max_size=60))
        def holds(steps: list[tuple[str, str]]) -> None:
            run(story(url, steps))

        holds()
    assert Model.accepted > 100
    assert Model.refused > 100


def test_the_watcher_notes_every_violation(redis_url: str) -> None:
    """It notes two leaders at once, numbers that go back, a generation's second instance, and past leaders' writes."""

    async def story() -> None:
        environment = f"t-{uuid.uuid4().hex[:8]}"
        async with connect(redis_url) as redis:
            registry = RedisRegistry(redis, environment, ring(environment), SystemClock())
            watcher = Watcher(redis, environment, SECRET)
            epoch = await registry.lead("a", LONG_S, 0) or 0
            for number in (9, 8):
                slot_map = SlotMap(epoch + number, assign(None, {"cell-0000": 1}))
                await registry.write(epoch, Change([CellRecord("cell-0000", number)], slot_map))
                who = protocol.InstanceRecord(environment, "cell-0000", 9, f"i{number}", "127.0.0.1:1", 16, 0)
                heartbeat = Heartbeat(redis, who, lease_key(who), LONG_S)
                await heartbeat._renew()
                await watcher.look()
                await heartbeat.release()
            leader = protocol.redis_key(environment, "leader")
            await redis.hset(leader, "owner", "b")
            await watcher.look()
            await redis.hset(leader, "epoch", str(epoch - 1))
            await registry.write(epoch - 1, Change(audit=[AuditEntry(1, "a", "x", "", "y")]))
            await watcher.look()
            faults = (
                "the map's epoch went",
                "cell-0000 generation went",
                "the leader's epoch went",
                "cell-0000/9 was i9",
            )
            for fault in (*faults, "both led", "and the lease of a to", "was written at"):
                assert any(fault in violation for violation in watcher.violations), (fault, watcher.violations)

    run(story())
