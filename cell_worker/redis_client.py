"""How workers, routers and controllers reach Redis, and the Lua that they share: a part of the wire contract."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
"""Lua: `now` is the time by the Redis server's clock, in ms since 1970."""

READ: Final = """
local function read(text)
  local ok, value = pcall(cjson.decode, text or '')
  return ok and type(value) == 'table' and value or {}
end
local function whole(value)
  value = tonumber(value)
  return value and value >= 0 and value <= 9007199254740992 and math.floor(value) or 0
end
local function number(value, highest)
  value = whole(value)
  return value <= highest and value or 0
end
"""
"""Lua: `read` returns a JSON object's members, none of what is no such object; `whole` returns a whole number from 0 to
2^53, and 0 for anything else; `number` also returns 0 for what is above `highest`. One entry that can't be read must
not make a script fail for all others."""

BOUNDS: Final = """
local highest_generation, highest_epoch = now, now + 31536000000
"""
"""Lua, after NOW: the highest generation and the highest epoch that there can be.

An epoch begins at the server's time in ms, and no cell has had a generation for each ms since 1970. Both bounds grow
faster than anybody counts: whatever number below them somebody writes, the next one can still be given out."""

MAX_ENTRIES: Final = 4096
"""Nobody reads more entries of one hash at once. A thousand cells have so many leases while all are replaced."""

ENTRIES: Final = f"""
local function overfull(key) return redis.call('HLEN', key) > {MAX_ENTRIES} end
local function entries(key)
  local all
  if overfull(key) then
    all = redis.call('HSCAN', key, t[2], 'COUNT', '{MAX_ENTRIES}')[2]
  else
    all = redis.call('HGETALL', key)
  end
  local size = 0
  for i = 1, #all do size = size + #all[i] end
  if size > 33554432 then
    for i = 1, #all do all[i] = string.sub(all[i], 1, 8192) end
  end
  return all
end
"""
"""Lua, after NOW: `entries` returns the fields and values of a hash. Where it has more than MAX_ENTRIES, it returns
about so many from somewhere in it: the microseconds are the cursor, so that nobody sees the same ones each time. Where
they have more than 32 MiB together, it cuts those of more than 8 KiB, which then can't be read."""

NEXT_GENERATION: Final = (
    NOW
    + READ
    + BOUNDS
    + """
local function next_generation(generations, cells, cell, hint)
  local function below(value) return number(value, highest_generation) end
  local record = read(redis.call('HGET', cells, cell))
  local text = redis.call('HGET', generations, cell)
  local stored = below(text)
  if text and stored == 0 then stored = below(record.launched) end
  local generation = math.max(stored, below(record.generation), below(hint)) + 1
  redis.call('HSET', generations, cell, generation)
  return generation
end
"""
)
"""Lua: gives out a cell's next generation, above every earlier one, the admitted one and `hint`.

Where the last one that was given out can't be read, the highest that was ever launched stands for it."""


class Cluster(RedisCluster):
    """A cluster's client that asks for the cluster's layout again after a call that was cut short.

    redis-py does so only after an error. A master that hangs accepts connections and never answers, even when a replica
    has long taken over: a caller that limits its calls by time would try the hung master for ever.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command on the node that has its keys."""
        try:
            return await super().execute_command(*args, **options)
        except asyncio.CancelledError:
            with suppress(Exception):  # an error here must not replace the cancellation
                await self.aclose()
            raise


def connect(url: str) -> Redis:
    """Make a client that neither retries a call nor limits its time: the caller does both.

    There is no socket_timeout: redis-py would write within asyncio.wait_for, which can lose a cancellation before
    Python 3.12, and then a process that stops would wait for that call for ever.

    redis+cluster:// and rediss+cluster:// name any node of a Redis Cluster, whose client can do all that is used here.
    """
    options: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": 1, "retry": Retry(NoBackoff(), 0)}
    scheme, _, rest = url.partition("://")
    if scheme.endswith("+cluster"):
        return cast("Redis", Cluster.from_url(f"{scheme.removesuffix('+cluster')}://{rest}", **options))
    return Redis.from_url(url, **options)
