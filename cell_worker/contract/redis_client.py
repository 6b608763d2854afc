"""How workers, routers and controllers reach Redis, and what may be wrong with it.

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

from cell_worker.contract.redis_login import Login, LoginRefusedError

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
    RedisFault.LOGIN: "it refuses the login: see user and password (in the URL, or what the password comes from), and "
    "whether the user is on",
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
_PARAMETER: Final = re.compile(r"['\"`](\w{1,40})['\"`]")
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
            refused_here = fault_of(error) in (RedisFault.READ_ONLY, RedisFault.LOGIN)
            if refused_here and not isinstance(error, LoginRefusedError):
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


def connect(url: str, login: Login | None = None) -> Redis:
    """Make a client that neither retries a call nor limits its time: the caller does both.

    Its connections log in by the URL, or with `login` as that says.

    There is no socket_timeout: redis-py would write within asyncio.wait_for, which can lose a cancellation before
    Python 3.12, and then a process that stops would wait for that call for ever.

    redis+cluster:// and rediss+cluster:// name any node of a Redis Cluster, whose client can do all that is used here.
    """
    options: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": 1, "retry": Retry(NoBackoff(), 0)}
    scheme, _, rest = url.partition("://")
    logged_in: dict[str, Any] = {} if login is None else {"redis_connect_func": login.on_connect}
    if not scheme.endswith("+cluster"):
        return SingleServer.from_url(url, **options, **logged_in)
    cluster = Cluster.from_url(f"{scheme.removesuffix('+cluster')}://{rest}", **options)
    nodes: list[Any] = [cluster, *cluster.nodes_manager.startup_nodes.values()]
    for node in nodes:
        node.connection_kwargs.update(logged_in)  # its constructor does not take them
    return cast("Redis", cluster)


def why_no_client(url: str) -> str | None:
    """Say why redis-py can't use a URL, or a file that it names, in words that show no value; None when it can.

    It would say so itself at its first call only, and each time anew.
    """
    try:
        redis: Any = connect(url)
        if isinstance(redis, RedisCluster):
            node = next(iter(redis.nodes_manager.startup_nodes.values()))
            connection = node.connection_class(**node.connection_kwargs)
        else:
            connection = redis.connection_pool.make_connection()
        if (context := getattr(connection, "ssl_context", None)) is not None:
            context.get()
    except OSError as error:  # ssl.SSLError too
        return f"has a file for TLS that can't be used: {error.strerror or type(error).__name__}"
    except Exception as error:  # noqa: BLE001 - redis-py raises what its constructors lead to
        name = _PARAMETER.search(str(error))
        return f"has a parameter that can't be used{f': {name[1]}' if name else ''} (they are those of redis-py)"
    return None


async def time_ms(redis: Redis, key: str) -> int:
    """Ask for the time in ms since 1970, by the clock of the server that has this key."""
    if isinstance(redis, RedisCluster):
        await redis.initialize()
        seconds, microseconds = await redis.time(target_nodes=redis.get_node_from_key(key))
    else:
        seconds, microseconds = await redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def value_of(redis: Redis, key: str, field: str, max_bytes: int) -> bytes:
    """Read one field of a hash; empty when it isn't there or has more bytes, which are then not taken in."""
    if not 0 < int(await redis.hstrlen(key, field)) <= max_bytes:
        return b""
    value = await redis.hget(key, field)
    return value if isinstance(value, bytes) else b""
