"""Tells when something in the registry may have changed: by a Redis channel, or when the time is up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisClusterException, RedisError

_GRACE_S: Final = 2.0  # for the subscription: a hung server never answers it


class Notifications:
    """Listens to one channel. A message can be missed while not connected, so every wait ends after a while."""

    def __init__(self, redis: Redis, channel: str) -> None:
        self._redis = redis
        self._channel = channel
        self._listening: Any = None

    async def wait(self, within_s: float) -> None:
        """Wait for a message, at most `within_s` seconds and little more. Never raises."""
        try:
            async with asyncio.timeout(within_s + _GRACE_S):
                await self._message(within_s)
        except (RedisError, RedisClusterException, OSError, TimeoutError):
            await self.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await asyncio.Event().wait()

    async def close(self) -> None:
        """End the subscription; the next wait makes another."""
        listening, self._listening = self._listening, None
        if listening is not None:
            with suppress(RedisError, RedisClusterException, OSError, TimeoutError):
                async with asyncio.timeout(_GRACE_S):
                    await listening.aclose()

    async def _message(self, within_s: float) -> None:
        if self._listening is None:
            self._listening = self._redis.pubsub(ignore_subscribe_messages=True)
            await self._listening.subscribe(self._channel)
        await self._listening.get_message(timeout=within_s)
