"""Redis' clock is set back, as when a replica on another machine takes over: nothing from before lasts longer."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import msgspec
from redis.asyncio import Redis

from cell_worker.contract import protocol
from cell_worker.contract.redis_client import connect
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry
from router.core.detection.samples import RouterSample
from tests.support.aio import run, until
from tests.support.keys import ring

HOUR_MS = 3_600_000


def on_registry(url: str, story: Callable[[RedisRegistry, Redis, str], Awaitable[None]]) -> None:
    """Run a story on the registry of an environment of its own."""

    async def main() -> None:
        environment = f"test-{uuid.uuid4().hex[:8]}"
        async with connect(url) as redis:
            await story(RedisRegistry(redis, environment, ring(environment), SystemClock()), redis, environment)

    run(main())


def test_a_lead_ends_in_its_time_though_redis_clock_was_set_back(redis_url: str) -> None:
    """The leader died with the old clock: others wait for one lease, not for as long as the clock went back."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        first = await registry.lead("a", 0.3, 0)
        assert first is not None
        await redis.hincrby(protocol.redis_key(environment, "leader"), "expires_at_ms", HOUR_MS)
        assert await registry.lead("b", 0.3, 0) is None
        assert await registry.lead("a", 0.3, 0) == first  # one that lives renews, and still leads

        async def led_by_b() -> bool:
            return (await registry.lead("b", 0.3, 0) or 0) > first

        await redis.hincrby(protocol.redis_key(environment, "leader"), "expires_at_ms", HOUR_MS)
        await until(led_by_b, "b leads after a's lease")

    on_registry(redis_url, story)


def test_a_sample_from_before_redis_clock_was_set_back_is_not_taken_for_a_new_one(redis_url: str) -> None:
    """A router died with the old clock: what it said last counts for nothing, and is removed."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        samples = protocol.redis_key(environment, "samples")
        await registry.note_sample("gone", RouterSample(1, 0.0, {}))
        assert set(await registry.samples()) == {"gone"}
        said = msgspec.json.decode(await redis.hget(samples, "gone") or b"")
        later = {"at_ms": said["at_ms"] + HOUR_MS, "said": said["said"]}
        await redis.hset(samples, "gone", msgspec.json.encode(later))
        assert await registry.samples() == {}
        await registry.note_sample("other", RouterSample(1, 0.0, {}))
        assert await redis.hkeys(samples) == [b"other"]

    on_registry(redis_url, story)
