"""A registry on a real server into which a test writes what nobody should, and what it tells of that."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from cell_worker.contract import protocol
from cell_worker.contract.redis_client import connect
from cell_worker.lease import Heartbeat
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry, Told
from router.core.telemetry import BadInput
from tests.support.aio import run
from tests.support.keys import field_of, lease_key, ring

CELL, OTHER = "cell-0002", "cell-0000"


class World:
    """A registry of an environment of its own, and what it has told."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.environment = f"test-{uuid.uuid4().hex[:8]}"
        self.told: list[Told] = []
        self.registry = RedisRegistry(
            redis, self.environment, ring(self.environment), SystemClock(), tell=self.told.append
        )

    def told_of(self, source: str) -> list[str]:
        """Return the names of the bad things of one source that were told, in order."""
        return [bad.name for bad in self.told if isinstance(bad, BadInput) and bad.source == source]

    def another(self) -> RedisRegistry:
        """Make the registry of a process that has just started."""
        return RedisRegistry(self.redis, self.environment, ring(self.environment), SystemClock(), tell=self.told.append)

    def key(self, name: str) -> str:
        """Return the full name of one of the registry's keys."""
        return protocol.redis_key(self.environment, name)

    def field(self, generation: int) -> str:
        """Return where the lease of an instance of CELL lies."""
        return field_of(self.environment, CELL, generation)

    async def put(self, name: str, field: bytes | str, value: bytes) -> None:
        """Write an entry as anybody can who reaches Redis."""
        await self.redis.hset(self.key(name), field, value)

    async def lead(self) -> int:
        """Take the lead, or renew it."""
        epoch = await self.registry.lead("a", 30, 0)
        assert epoch is not None
        return epoch

    def heartbeat(self, generation: int) -> Heartbeat:
        """Make the heartbeat of an instance of CELL."""
        record = protocol.InstanceRecord(self.environment, CELL, generation, uuid.uuid4().hex, "127.0.0.1:1", 16, 0)
        return Heartbeat(self.redis, record, lease_key(record), 5)


def on(url: str, story: Callable[[World], Awaitable[None]]) -> None:
    """Run a story on a registry of its own."""

    async def main() -> None:
        async with connect(url) as redis:
            await story(World(redis))

    run(main())
