"""A Redis Cluster's client that finds the new master of what a hanging one had."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from redis.asyncio import RedisCluster


class Cluster(RedisCluster):
    """Asks for the cluster's layout anew after a call that was cut short.

    redis-py does so after an error only. A master that hangs takes connections and gives none, even when a replica has
    long taken over: whoever limits a call by time would try the hanging one for ever.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command on the node that has its keys."""
        try:
            return await super().execute_command(*args, **options)
        except asyncio.CancelledError:
            with suppress(Exception):  # or the cancellation would be lost
                await self.aclose()
            raise
