"""Somebody attacks a cell's lease on a real Redis all the time, under the eyes of a controller: no cell is replaced."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis

from cell_worker.contract import protocol
from cell_worker.contract.keys import CellKeys, cell_secret
from cell_worker.contract.redis_client import connect
from cell_worker.lease import Heartbeat
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry
from router.core.models import CellRecord, InstanceView, LeaseView, cell_ids
from router.core.registry import Snapshot
from router.services.control_plane.controller import Controller, ControllerConfig
from tests.support import redis_kinds as kinds
from tests.support.aio import run, until
from tests.support.fake_cells import Instances
from tests.support.keys import SECRET, field_of, lease_key, ring
from tests.support.router_world import Notes

pytestmark = pytest.mark.one_kind  # what each kind of Redis allows is in test_stolen_cell

CELLS: Final = cell_ids(3)
VICTIM, STOLEN = CELLS[:2]
TTL_S: Final = 1.0  # a controller that looks four times a second trusts ended leases then
LOOKS: Final = 40
LOOK_EVERY_S: Final = 0.1  # so an attack lasts for four leases' lives
STEAL_EVERY_S: Final = 0.002


class Thief:
    """Attacks the leases in some fields, again and again."""

    def __init__(self, redis: Redis, environment: str, fields: Sequence[str]) -> None:
        self._redis = redis
        self._leases = protocol.redis_key(environment, "leases")
        self._fields = fields
        self._kept: dict[str, bytes] = {}
        self._seen = frozenset[bytes]()  # leases that it could read

    @property
    def found(self) -> int:
        """Count the leases that it could read."""
        return len(self._seen)

    async def steal(self, way: str) -> None:
        """Attack in this way until cancelled."""
        while True:
            for field in self._fields:
                await getattr(self, way)(field)
            await SystemClock().sleep(STEAL_EVERY_S)

    async def write_over(self, field: str) -> None:
        """Put nonsense in its place."""
        await self._redis.hset(self._leases, field, b"x")

    async def delete(self, field: str) -> None:
        """Take it away."""
        await self._redis.hdel(self._leases, field)

    async def put_back(self, field: str) -> None:
        """Put a lease back as soon as another is there, so that no heartbeat is seen, and the instance seems to end."""
        await self._put_back(field, after=0)

    async def put_back_an_old_one(self, field: str) -> None:
        """Put a lease back after later ones were seen."""
        await self._put_back(field, after=10)

    async def _put_back(self, field: str, after: int) -> None:
        found = await self._redis.hget(self._leases, field)
        if not isinstance(found, bytes):
            return
        first, self._seen = self._kept.setdefault(field, found), self._seen | {found}
        if found != first and len(self._seen) > after:
            await self._redis.hset(self._leases, field, first)


class Machines:
    """Provisioner and CellResources: an instance is a real heartbeat, as the cells' user of Redis."""

    can_launch = True
    takes_images = False

    def __init__(self, redis: Redis, environment: str) -> None:
        self._redis = redis
        self._environment = environment
        self.launches: list[tuple[str, int]] = []
        self.running: dict[tuple[str, int], asyncio.Task[None]] = {}

    async def launch(self, cell_id: str, generation: int, image: str | None = None) -> None:
        self.launches.append((cell_id, generation))
        place = (self._environment, cell_id, generation)
        record = protocol.InstanceRecord(*place, uuid.uuid4().hex, "127.0.0.1:1", 16, 0)
        heartbeat = Heartbeat(self._redis, record, lease_key(record), TTL_S)
        heartbeat.ready = True
        self.running[cell_id, generation] = asyncio.create_task(heartbeat.run())

    async def stop(self, cell_id: str, generation: int) -> None:
        self.running.pop((cell_id, generation)).cancel()

    async def observe(self) -> list[InstanceView]:
        return [InstanceView(*key, running=True) for key in self.running]

    async def ensure(self, cell_id: str) -> Sequence[str]:
        return ()

    async def remove(self, cell_id: str) -> None:
        return None

    async def with_hold_queues(self) -> Sequence[str]:
        return ()


async def well(cell: CellRecord, snapshot: Snapshot, within_s: float) -> str | None:
    """A canary that always succeeds."""
    return None


def guesses(environment: str) -> list[str]:
    """List all the names for its neighbour's lease that a stolen cell can make of what it knows."""
    name, own = protocol.instance_name(VICTIM, 1), cell_secret(SECRET, environment, STOLEN)
    keys = [CellKeys.of(secret).lease for secret in (own, own.replace(STOLEN, VICTIM))]
    return [name, f"{name}/", f"{name}/*", *(protocol.lease_field(name, key) for key in keys)]


async def attacked(way: str, environment: str, *, by: str, fields: Sequence[str], port: int) -> list[LeaseView]:
    """Attack the victim for a while, and return its leases as they were seen; no cell was replaced meanwhile."""
    async with AsyncExitStack() as stack:
        cell, thief, own = [
            await stack.enter_async_context(connect(kinds.url_of(port, user=user)))
            for user in ("cellrouter-cell", by, kinds.ADMIN)
        ]
        registry = RedisRegistry(own, environment, ring(environment), SystemClock())
        watching = RedisRegistry(own, environment, ring(environment), SystemClock())
        machines, attack = Machines(cell, environment), Thief(thief, environment, fields)
        config = ControllerConfig("a", len(CELLS), launch_timeout_s=20, lease_ttl_s=TTL_S)
        ports = (registry, machines, machines, well, Instances(), SystemClock(), Notes())
        controller = Controller(config, *ports)
        controlling = asyncio.create_task(controller.run())

        async def all_serve() -> bool:
            cells = (await watching.snapshot()).cells.values()
            return len(cells) == len(CELLS) and all(0 < cell.verified == cell.generation for cell in cells)

        await until(all_serve, "all cells serve")
        stealing, seen = asyncio.create_task(attack.steal(way)), list[LeaseView]()

        async def look() -> bool:
            lease = (await watching.snapshot()).lease(VICTIM, 1)
            assert lease is not None
            seen.append(lease)
            return controller._leases.trusted and (by != kinds.ADMIN or (lease.missing and not lease.live))

        await until(look, "the attack has its effect, and an ended lease means an instance that is gone")
        for _ in range(LOOKS):
            await SystemClock().sleep(LOOK_EVERY_S)
            await look()
        assert not stealing.done()
        assert not controlling.done()
        assert sorted(machines.launches) == [(cell_id, 1) for cell_id in CELLS]
        assert not any(beating.done() for beating in machines.running.values())
        assert attack.found == 0 or by == kinds.ADMIN
        await ended(stealing, controlling, *machines.running.values())
        return seen


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their end, so that none opens a connection any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def story(way: str, environment: str, *, by: str, fields: Sequence[str]) -> list[LeaseView]:
    """Run an attack by this user of Redis on these fields, on a server with the users that are shipped."""
    with tempfile.TemporaryDirectory(prefix="redis-") as name:
        folder = Path(name)
        with kinds.valkey(folder, "--aclfile", str(kinds.users_file(folder, environment))) as port:
            return run(attacked(way, environment, by=by, fields=fields, port=port))


@pytest.mark.parametrize("way", ["write_over", "put_back"])
def test_a_stolen_cell_finds_no_lease_of_another(way: str) -> None:
    """It may list no fields, and the name of its neighbour's follows from a secret that it does not have."""
    environment = f"test-{uuid.uuid4().hex[:8]}"
    seen = story(way, environment, by="cellrouter-cell", fields=guesses(environment))
    assert not any(lease.missing for lease in seen)


@pytest.mark.parametrize("way", ["write_over", "put_back_an_old_one", "delete"])
def test_a_lease_that_is_taken_away_replaces_no_cell(way: str) -> None:
    """Whoever knows the field, as who may list all: what the controller doesn't find there says nothing."""
    environment = f"test-{uuid.uuid4().hex[:8]}"
    assert story(way, environment, by=kinds.ADMIN, fields=[field_of(environment, VICTIM, 1)])
