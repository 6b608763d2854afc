"""How Redis is reached, by workers and by routers and controllers alike: a part of the wire contract."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


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


def connect(url: str) -> Redis:
    """Open a client that neither retries nor limits a call by itself: who calls does both.

    No socket_timeout: redis-py would write within asyncio.wait_for, which before Python 3.12 may lose a cancellation,
    and then a process that stops would wait for that call for ever.

    redis+cluster:// and rediss+cluster:// name any node of a Redis Cluster; its client does all that is asked here.
    """
    options: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": 1, "retry": Retry(NoBackoff(), 0)}
    scheme, _, rest = url.partition("://")
    if scheme.endswith("+cluster"):
        return cast("Redis", Cluster.from_url(f"{scheme.removesuffix('+cluster')}://{rest}", **options))
    return Redis.from_url(url, **options)
