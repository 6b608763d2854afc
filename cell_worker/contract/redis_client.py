"""How workers, routers and controllers reach Redis, what may be wrong with it, and the Lua that they share.

A part of the wire contract.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

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


SETTLED_S: Final = 3.0
"""Redis can be used again when so long no call has failed: longer than a hung call takes, which ends after 2 s."""
MAX_TEXT: Final = 300  # characters of what Redis said itself


class RedisFault(StrEnum):
    """What is wrong with Redis, in the fewest words."""

    UNREACHABLE = "unreachable"
    READ_ONLY = "read-only"
    FULL = "full"
    CANNOT_SAVE = "cannot save"
    NO_REPLICAS = "too few replicas"
    LOGIN = "login refused"
    PERMISSION = "permission refused"
    OTHER = "refuses"


_ADVICE: Final = {
    RedisFault.UNREACHABLE: "it can't be reached or does not answer: see whether it runs, and its address",
    RedisFault.READ_ONLY: "it is a replica now and takes no writes: see whether the address follows the master",
    RedisFault.FULL: "its memory is full (OOM): raise its maxmemory, or delete what others keep there",
    RedisFault.CANNOT_SAVE: "it can't save to its disk (MISCONF): see its log and its disk",
    RedisFault.NO_REPLICAS: "it has fewer replicas than min-replicas-to-write: see its replicas",
    RedisFault.LOGIN: "it refuses the login: see user and password in the URL, and whether the user is on",
    RedisFault.PERMISSION: "its user may not do this: compare it with deploy/redis/users.acl",
    RedisFault.OTHER: "it refuses the call: see what it says",
}
_BY_CODE: Final = {
    "READONLY": RedisFault.READ_ONLY,
    "OOM": RedisFault.FULL,
    "MISCONF": RedisFault.CANNOT_SAVE,
    "NOREPLICAS": RedisFault.NO_REPLICAS,
    "NOAUTH": RedisFault.LOGIN,
    "WRONGPASS": RedisFault.LOGIN,
    "NOPERM": RedisFault.PERMISSION,
}
_BY_CLASS: Final = {
    ReadOnlyError: RedisFault.READ_ONLY,
    OutOfMemoryError: RedisFault.FULL,
    AuthenticationError: RedisFault.LOGIN,
    NoPermissionError: RedisFault.PERMISSION,
}
_CODE: Final = re.compile(rf"\b({'|'.join(_BY_CODE)})\b")


def fault_of(error: Exception) -> RedisFault:
    """Tell from an error of redis-py what is wrong with Redis.

    redis-py has a class for some of Redis' codes, and cuts those off. The others are in the text, after other words
    where a script failed on Redis 6.
    """
    for kind, fault in _BY_CLASS.items():
        if isinstance(error, kind):
            return fault
    if (code := _CODE.search(str(error))) is not None:
        return _BY_CODE[code.group()]
    return RedisFault.OTHER if isinstance(error, (ResponseError, ValueError)) else RedisFault.UNREACHABLE


def why_unusable(error: Exception) -> str:
    """Say what is wrong with Redis, what to do, and what it said itself."""
    return f"{_ADVICE[fault_of(error)]} ({type(error).__name__}: {error!s:.{MAX_TEXT}})"


class RedisHealth:
    """Whether Redis answers and takes everything that this process asks of it; times are monotonic seconds.

    `tell` gets each fault with its reason, once until all is well again, and then (None, "").
    """

    def __init__(self, tell: Callable[[RedisFault | None, str], None]) -> None:
        self._tell = tell
        self._told: set[RedisFault] = set()
        self._failed_at = 0.0

    def answered(self, now: float) -> None:
        """Note that Redis has done what it was asked. One answer proves little: reads may succeed while writes fail."""
        if self._told and now - self._failed_at >= SETTLED_S:
            self._told.clear()
            self._tell(None, "")

    def failed(self, now: float, error: Exception) -> None:
        """Note that a call has failed."""
        fault, self._failed_at = fault_of(error), now
        if fault not in self._told:
            self._told.add(fault)
            self._tell(fault, why_unusable(error))


class SingleServer(Redis):
    """A server's client that lets go of its connections when a call on one was refused for where it leads.

    After a failover the same address leads to the new master. A connection that is kept stays with the old one, which
    is a replica now and answers, and refuses writes for ever.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command on the server that the address leads to."""
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call] # of redis-py
        except RedisError as error:
            if fault_of(error) in (RedisFault.READ_ONLY, RedisFault.LOGIN):
                with suppress(Exception):  # an error here must not replace the first one
                    await self.connection_pool.disconnect(inuse_connections=False)
            raise


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
    return SingleServer.from_url(url, **options)
